"""torch's two exporters to ONNX, silent: from a module and its arguments to a ModelProto."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastrnn.models.export.nodes import as_nodes, name_nodes

_LOGGERS = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir")

Axes = Mapping[int, str]  # which axes of a tensor may change, and what they are called


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    args: forward's arguments, at sizes to trace with.
    axes: the shape of `args`, with `Axes` in the place of tensors and None in the place of others.
    inputs: the Axes of each tensor among them, by name.
    """

    module: Any
    args: tuple[Any, ...]
    axes: tuple[Any, ...]
    inputs: Mapping[str, Axes]
    outputs: Sequence[str]
    opset: int | None


def dynamo(request: Request) -> Any:
    """Export by torch.export, recurrent modules as nodes."""
    import torch

    changes = any(request.inputs.values())
    with as_nodes(request.module):
        program: Any = torch.onnx.export(
            request.module,
            request.args,
            dynamo=True,
            dynamic_shapes=request.axes if changes else None,
            input_names=list(request.inputs),
            output_names=list(request.outputs),
            opset_version=request.opset,
            verbose=False,
        )
    proto = program.model_proto
    name_nodes(proto.graph)
    return proto


def torchscript(request: Request) -> Any:
    """Export by tracing to TorchScript."""
    import onnx
    import torch

    file: Any = io.BytesIO()
    # A dict at the end would be taken for keyword arguments.
    args = (*request.args, {}) if isinstance(request.args[-1], dict) else request.args
    torch.onnx.export(
        request.module,
        args,
        file,
        dynamo=False,
        dynamic_axes={name: dict(axes) for name, axes in request.inputs.items() if axes},
        input_names=list(request.inputs),
        output_names=list(request.outputs),
        opset_version=request.opset,
        verbose=False,
    )
    return onnx.load_model_from_string(file.getvalue())


# In the order in which they are tried.
EXPORTERS: dict[str, Callable[[Request], Any]] = {"dynamo": dynamo, "torchscript": torchscript}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch's exporters say on the way, and keep attention in plain operators."""
    import torch

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    fast = torch.backends.mha.get_fastpath_enabled()
    log = torch._C._jit_onnx_log  # to stdout, whatever `verbose` says (torch 2.13)
    try:
        torch._C._jit_onnx_log = lambda *_: None
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        torch.backends.mha.set_fastpath_enabled(False)  # its operator is in neither exporter
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch._C._jit_onnx_log = log
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """Return what went wrong, in a line: of torch's exporters, at the bottom of it all."""
    while error.__cause__ is not None and type(error).__module__.startswith("torch."):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:240]}..."
