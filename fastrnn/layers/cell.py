"""`RecurrentCell`: what `LSTMCell`, `GRUCell` and `RNNCell` share, one step on the caller's state.

Shapes: B rows, I input_size, H hidden_size. Every array may also come without B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import as_array
from fastrnn.layers.habits import FromTorch, refuse_packed
from fastrnn.layers.options import LayerOptions, takes_options
from fastrnn.layers.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from fastrnn.layers.options import Self, Unpack

Array = npt.NDArray[Any]


class RecurrentCell(FromTorch):
    """What the cells share: a layer of one step, whose state is passed in and out."""

    _layer_type: ClassVar[type[RecurrentLayer[Any]]]
    _layer: RecurrentLayer[Any]

    def __init__(self, layer: RecurrentLayer[Any]) -> None:
        self._layer = layer

    @property
    def input_size(self) -> int:
        """Features of one frame, I."""
        return self._layer.input_size

    @property
    def hidden_size(self) -> int:
        """Units, H."""
        return self._layer.hidden_size

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return self._layer.bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is computed in and returned: float32 or float64."""
        return self._layer.dtype

    @property
    def engine(self) -> str:
        """The engine that computes: "simd" or "blas"."""
        return self._layer.engine

    @property
    def weight_dtype(self) -> str:
        """What weights are stored as: "int8", "int16", or the dtype's name."""
        return self._layer.weight_dtype

    @classmethod
    @takes_options
    def from_state_dict(
        cls, weights: Mapping[str, Any], prefix: str = "", **options: Unpack[LayerOptions]
    ) -> Self:
        """Make the cell that `weights` describe; see the layers' `from_state_dict`.

        {options}
        """
        layer = cls._layer_type.from_state_dict(weights, prefix, **options)
        if layer.num_layers != 1 or layer.bidirectional or layer.proj_size:
            raise ValueError(
                f"{cls.__name__}: the weights under {prefix!r} are those of {layer!r}, "
                "expected one layer in one direction without projection"
            )
        cell = cls.__new__(cls)
        RecurrentCell.__init__(cell, layer)
        return cell

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take the weights of `state_dict`; see the layers' `load_state_dict`."""
        self._layer.load_state_dict(state_dict, strict)

    def state_dict(self) -> dict[str, Array]:
        """Return the weights under the cell's names (`weight_ih`): read-only arrays."""
        return {k.removesuffix("_l0"): v for k, v in self._layer.state_dict().items()}

    def _step(self, x: npt.ArrayLike, hx: Any, out: Any, parts: tuple[str, ...]) -> list[Array]:
        """One step of state arrays `parts`, into those of `out`, which may be those of hx."""
        name, dtype = type(self).__name__, self.dtype
        refuse_packed(x, f"{name}: x")
        inputs = as_array(x, dtype, f"{name}: x")
        if inputs.ndim not in (1, 2) or inputs.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: x is {inputs.shape}, expected (B, {self.input_size}) or "
                f"({self.input_size},)"
            )
        shape = (*inputs.shape[:-1], self.hidden_size)
        values = [None] * len(parts) if hx is None else list(hx)
        targets = [None] * len(parts) if out is None else list(out)
        states = []
        for part, value, target in zip(parts, values, targets, strict=True):
            if target is not None:
                _check_out(target, shape, dtype, f"{name}: out {part}")
            if value is None:
                states.append(np.zeros(shape, dtype))
                continue
            array = as_array(value, dtype, f"{name}: {part}")
            if array.shape != shape:
                raise ValueError(f"{name}: {part} is {array.shape}, expected {shape}")
            states.append(target if array is target else array.copy())
        given = [target for target in targets if target is not None]
        if len(given) == 2 and np.may_share_memory(*given):
            raise ValueError(f"{name}: the arrays of out overlap")
        if any(np.may_share_memory(inputs, target) for target in given):
            inputs = inputs.copy()
        batch = inputs.size // self.input_size
        views = [state.reshape(1, batch, self.hidden_size) for state in states]
        self._layer._packed.run(inputs.reshape(1, batch, self.input_size), *views)
        for state, target in zip(states, targets, strict=True):
            if target is not None and target is not state:
                target[...] = state
        return [s if t is None else t for s, t in zip(states, targets, strict=True)]

    def _step_h(self, x: npt.ArrayLike, hx: Any, out: Any) -> Array:
        """One step of a cell whose state is h alone."""
        (h,) = self._step(x, None if hx is None else (hx,), None if out is None else (out,), ("h",))
        return h

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}, bias={self.bias})"


def _check_out(target: Any, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    if not isinstance(target, np.ndarray):
        raise TypeError(f"{what} is {type(target).__name__}, expected a numpy.ndarray")
    if target.shape != shape or target.dtype != dtype or not target.flags.carray:
        raise ValueError(
            f"{what} is {target.dtype} {target.shape}, expected a writeable C-contiguous "
            f"{dtype.name} array {shape}"
        )
