"""The other runtimes that run a PyTorch LSTM, GRU or RNN on a CPU, behind one interface.

A `Peer` makes runners: ways to use that runtime, of which the caller takes the fastest. Everyone
has one thread, shapes fixed beforehand where that is possible, and buffers that are reused where
the runtime can do that. What is not installed is not imported, and named by `Peer.missing`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.runner import Fastrnn, Runner

__all__ = ["PEERS", "Fastrnn", "Peer", "Runner", "inference_mode"]

# Of h, which is below 1, with weights and inputs in 8 bits. It is 0.004 with random weights, and
# 0.03 with those of models.py, whose single values are off by 0.2 to 1.1.
INT8_RMS = 0.05


@dataclass(frozen=True)
class Peer:
    """A runtime, the packages it needs, and the ways to use it for a case."""

    name: str
    needs: tuple[str, ...]
    module: str  # beside this one: has `can` and `runners`
    options: tuple[str, ...] = ()  # what these are told besides
    rms: float | None = None  # most of its outputs' root-mean-square difference to ours; or exact

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [package for package in self.needs if _version(package) is None]

    @property
    def versions(self) -> dict[str, str]:
        """The versions of those that are."""
        return {package: found for package in self.needs if (found := _version(package))}

    def can(self, case: Case) -> bool:
        """Whether it can run `case`, if it is installed."""
        can: Callable[..., bool] = self._adapter.can
        return can(case, *self.options)

    def make(self, case: Case, weights: Weights) -> list[Runner]:
        """Return its ways to run `case`; none if it cannot."""
        if not self.can(case):
            return []
        runners: Callable[..., list[Runner]] = self._adapter.runners
        return runners(case, weights, *self.options)

    @property
    def _adapter(self) -> Any:
        return import_module(f"fastrnn.measure.peers.{self.module}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


PEERS = {
    peer.name: peer
    for peer in (
        Peer("torch", ("torch",), "pytorch", ("layer",)),
        Peer("torch cell", ("torch",), "pytorch", ("cell",)),
        Peer("torch int8", ("torch",), "pytorch", ("int8",), rms=INT8_RMS),
        Peer("onnxruntime", ("onnxruntime", "onnx"), "onnx_runtime"),
        Peer("openvino", ("openvino", "onnx"), "open_vino"),
        Peer("ncnn", ("ncnn",), "tencent_ncnn"),
        Peer("tract", ("tract", "onnx"), "sonos_tract"),
    )
}


def inference_mode() -> contextlib.AbstractContextManager[Any]:
    """In which every runner is made and called."""
    if _version("torch") is None:
        return contextlib.nullcontext()
    import torch

    mode: contextlib.AbstractContextManager[Any] = torch.inference_mode()
    return mode
