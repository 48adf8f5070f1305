"""Models that others trained and published, as cases with their own weights.

Only the data files of their packages are read; nothing of them is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.formats import read
from fastrnn.layers.statedict import find_stack
from fastrnn.measure.cases import Case, Weights


def data_file(package: str, name: str) -> Path | None:
    """Return the path of an installed package's file whose path ends in `name`.

    None if there is no such package.
    """
    try:
        found = files(package) or []
    except PackageNotFoundError:
        return None
    return Path(str(next(file.locate() for file in found if str(file).endswith(name))))


@dataclass(frozen=True)
class Model:
    """A recurrent stack in a package's file, and a call that is usual for it."""

    package: str
    file: str
    prefix: str
    case: Case
    read: Callable[[Path], Weights] = read

    @property
    def path(self) -> Path | None:
        """None if the package is not installed."""
        return data_file(self.package, self.file)

    def weights(self) -> Weights:
        """Return the stack's weights, as torch names them.

        Raises
        ------
        FileNotFoundError
            If the package is not installed.
        """
        path = self.path
        if path is None:
            raise FileNotFoundError(f"{self.package} is not installed")
        return find_stack(self.read(path), self.prefix).parameters


def _numpy_pickle(path: Path) -> Weights:
    """Read a trusted package's pickle of arrays, which is not one of torch's files."""
    weights: Weights = np.load(path, allow_pickle=True)
    return weights


def _case(name: str, cell: str, sizes: tuple[int, int], steps: int = 1, **more: Any) -> Case:
    return Case(cell, *sizes, steps=steps, group="models", name=name, **more)


# A voice activity detector: a step each 32 ms. Tags for the letters of a word. Readings for the
# characters of a sentence.
MODELS = (
    Model(
        "silero-vad",
        "silero_vad_16k.safetensors",
        "lstm_cell",
        _case("Silero VAD", "LSTM", (128, 128)),
    ),
    Model(
        "uzmorph-bigru",
        "morph_bigru.pth",
        "gru",
        _case("uzmorph", "GRU", (64, 64), 16, num_layers=2, bidirectional=True),
    ),
    Model(
        "g2pM",
        "np_ckpt.pkl",
        "lstm",
        _case("g2pM", "LSTM", (64, 32), 24, bidirectional=True),
        _numpy_pickle,
    ),
)
