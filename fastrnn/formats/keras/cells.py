"""The kernels of Keras's recurrent cells as torch's parameters.

Keras multiplies from the right, (input, gates * units); its gates are i, f, c, o (LSTM: torch's i, f,
g, o) and z, r, h (GRU: torch's r, z, n), and h' = z h + (1 - z) n in both. One bias (gates * units)
is the input's; two, (2, gates * units), are the input's and the recurrent one, which a GRU has with
reset_after=True. CuDNN's layers have 2 * gates * units of bias, and kernels that are transposed gate
by gate (tf_keras/src/saving/legacy/hdf5_format.py, _convert_rnn_weights).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats.keras.hdf5 import Stored
from fastrnn.formats.source import Budget, shown

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_TORCHS_ORDER = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}


@dataclass(frozen=True)
class Cell:
    """The arrays of one cell: shapes are checked, nothing is read."""

    name: str  # "LSTM", "GRU" or "RNN"
    kernel: Stored  # (input, gates * units)
    recurrent: Stored  # (units, gates * units)
    bias: Stored | None

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

    def parameters(self, budget: Budget) -> Iterator[tuple[str, np.ndarray]]:
        """Torch's names without a layer's number, and arrays."""
        kernel, recurrent = (array.array(budget) for array in (self.kernel, self.recurrent))
        bias = None if self.bias is None else self.bias.array(budget)
        budget.take(2 * (kernel.nbytes + recurrent.nbytes))
        if self.is_cudnns:
            gates = GATES[self.name]
            kernel = _by_gate(kernel, gates, lambda k: k.T.reshape(k.shape, order="F"))
            recurrent = _by_gate(recurrent, gates, np.transpose)
        yield "weight_ih", self._ordered(kernel)
        yield "weight_hh", self._ordered(recurrent)
        if bias is None:
            return
        two = np.zeros((2, recurrent.shape[1]), bias.dtype)
        two[: bias.size // two.shape[1]] = bias.reshape(-1, two.shape[1])
        yield "bias_ih", self._ordered(two[:1])[:, 0]
        yield "bias_hh", self._ordered(two[1:])[:, 0]

    def _ordered(self, kernel: np.ndarray) -> np.ndarray:
        """(gates * units, input) with torch's gates from (input, gates * units)."""
        gates = np.split(kernel, GATES[self.name], axis=1)
        ordered = np.concatenate([gates[gate] for gate in _TORCHS_ORDER[self.name]], axis=1)
        return np.ascontiguousarray(ordered.T)


def cell_of(parts: dict[str, Stored | str]) -> Cell:
    """The cell that arrays named kernel, recurrent_kernel and bias make.

    Raises
    ------
    FormatError
        One is missing, unreadable, or of a shape that does not fit the others.
    """
    for part, stored in parts.items():
        if isinstance(stored, str):
            raise FormatError(f"{part} {stored}")
    held = {part: stored for part, stored in parts.items() if isinstance(stored, Stored)}
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
    one, two = [(wide,)], [(2, wide), (2 * wide,)]
    fitting = {"LSTM": one + two[1:], "GRU": one + two, "RNN": one}[names[0]]
    if bias is not None and bias.shape not in fitting:
        raise FormatError(
            f"bias has shape {shown(bias.shape)}, expected " + " or ".join(map(str, fitting))
        )
    return Cell(names[0], kernel, recurrent, bias)


def _by_gate(
    kernel: np.ndarray, gates: int, change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    return np.hstack([change(gate) for gate in np.hsplit(kernel, gates)])
