"""The kernels of Keras's recurrent cells as torch's parameters.

Keras multiplies from the right, (input, gates * units); its gates are i, f, c, o (LSTM: torch's i,
f, g, o) and z, r, h (GRU: torch's r, z, n), and h' = z h + (1 - z) n in both. One bias (gates *
units) is the input's; two, (2, gates * units), are the input's and the recurrent one, which a GRU
has with reset_after=True. CuDNN's layers have 2 * gates * units of bias, and kernels that are
transposed gate by gate (tf_keras/src/saving/legacy/hdf5_format.py, _convert_rnn_weights).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats.hdf5 import Array
from fastrnn.formats.source import Budget, shown

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_TORCHS_ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}


@dataclass(frozen=True)
class Cell:
    """The arrays of one cell: shapes are checked, nothing is read."""

    name: str  # "LSTM", "GRU" or "RNN"
    kernel: Array  # (input, gates * units)
    recurrent: Array  # (units, gates * units)
    bias: Array | None

    @property
    def units(self) -> int:
        """Its hidden size."""
        return self.recurrent.shape[0]

    @property
    def is_cudnns(self) -> bool:
        """Whether it is in CuDNN's layout."""
        return self.bias is not None and self.bias.shape == (2 * self.recurrent.shape[1],)

    @property
    def reset_after(self) -> bool | None:
        """Of a GRU, whether it has the two biases of reset_after=True; None where it has none."""
        if self.name != "GRU" or self.bias is None:
            return None
        return self.bias.shape != (3 * self.units,)

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Torch's names without a layer's number, and their shapes."""
        wide = self.recurrent.shape[1]
        named: dict[str, tuple[int, ...]]
        named = {"weight_ih": (wide, self.kernel.shape[0]), "weight_hh": (wide, self.units)}
        return named if self.bias is None else {**named, "bias_ih": (wide,), "bias_hh": (wide,)}

    def parameter(self, name: str, budget: Budget) -> np.ndarray:
        """Read one of `parameters`."""
        if name.startswith("bias"):
            return self._bias(name == "bias_hh", budget)
        kernel = (self.kernel if name == "weight_ih" else self.recurrent).read(budget)
        budget.take(2 * kernel.nbytes)
        if self.is_cudnns:
            split = np.hsplit(kernel, GATES[self.name])
            if name == "weight_ih":
                kernel = np.hstack([gate.T.reshape(gate.shape, order="F") for gate in split])
            else:
                kernel = np.hstack([gate.T for gate in split])
        return self._ordered(kernel)

    def _bias(self, recurrent: bool, budget: Budget) -> np.ndarray:
        """One of the two biases; of one alone, the other is 0."""
        assert self.bias is not None
        bias = self.bias.read(budget).reshape(-1, self.recurrent.shape[1])
        row = bias[int(recurrent)] if recurrent < len(bias) else np.zeros_like(bias[0])
        return self._ordered(row[np.newaxis])[:, 0].copy()

    def _ordered(self, kernel: np.ndarray) -> np.ndarray:
        """(gates * units, input) with torch's gates from (input, gates * units)."""
        gates = np.split(kernel, GATES[self.name], axis=1)
        ordered = np.concatenate([gates[gate] for gate in _TORCHS_ORDER[self.name]], axis=1)
        return np.ascontiguousarray(ordered.T)


def cell_of(parts: dict[str, Array | str]) -> Cell:
    """The cell that arrays named kernel, recurrent_kernel and bias make.

    Raises
    ------
    FormatError
        One is missing, unreadable, or of a shape that does not fit the others.
    """
    for part, stored in parts.items():
        if isinstance(stored, str):
            raise FormatError(f"{part} {stored}")
    held = {part: stored for part, stored in parts.items() if isinstance(stored, Array)}
    for part in ("kernel", "recurrent_kernel"):
        if part not in held:
            raise FormatError(f"{part} is missing")
    kernel, recurrent, bias = held["kernel"], held["recurrent_kernel"], held.get("bias")
    wide = recurrent.shape[1] if len(recurrent.shape) == 2 else 0
    units = recurrent.shape[0] if wide else 0
    names = [name for name, gates in GATES.items() if units and gates * units == wide]
    if not names or len(kernel.shape) != 2 or kernel.shape[1] != wide:
        raise FormatError(
            f"kernel and recurrent_kernel have shapes {shown(kernel.shape)} and "
            f"{shown(recurrent.shape)}, expected (input, gates * units) and (units, gates * units)"
        )
    plain, cudnns = (wide,), (2 * wide,)
    by_cell: dict[str, list[tuple[int, ...]]] = {
        "LSTM": [plain, cudnns],
        "GRU": [plain, (2, wide), cudnns],
        "RNN": [plain],
    }
    fitting = by_cell[names[0]]
    if bias is not None and bias.shape not in fitting:
        raise FormatError(
            f"bias has shape {shown(bias.shape)}, expected " + " or ".join(map(str, fitting))
        )
    return Cell(names[0], kernel, recurrent, bias)
