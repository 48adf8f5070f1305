"""`LSTMCell`, `GRUCell`, `RNNCell`: one time step on state that the caller owns.

Shapes: B rows, I input_size, H hidden_size. Every array may also come without B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import as_array
from fastrnn.layers import GRU, LSTM, RNN, RecurrentLayer

Array = npt.NDArray[Any]


class RecurrentCell:
    """What the cells share: a layer of one step, whose state is passed in and out."""

    _layer_type: ClassVar[type[RecurrentLayer]]
    _layer: RecurrentLayer

    def __init__(self, layer: RecurrentLayer) -> None:
        self._layer = layer

    input_size = property(lambda self: self._layer.input_size)
    hidden_size = property(lambda self: self._layer.hidden_size)
    bias = property(lambda self: self._layer.bias)
    dtype = property(lambda self: self._layer.dtype)
    engine = property(lambda self: self._layer.engine)

    @classmethod
    def from_state_dict(
        cls,
        weights: Mapping[str, Any],
        prefix: str = "",
        *,
        dtype: npt.DTypeLike | None = None,
        engine: str = "auto",
        **cell_options: Any,
    ) -> Any:
        """Make the cell that `weights` describe; see the layers' `from_state_dict`."""
        layer = cls._layer_type.from_state_dict(
            weights, prefix, dtype=dtype, engine=engine, **cell_options
        )
        if layer.num_layers != 1 or layer.bidirectional or layer.proj_size:
            raise ValueError(f"{cls.__name__}: the weights under {prefix!r} are those of {layer!r}")
        cell = cls.__new__(cls)
        RecurrentCell.__init__(cell, layer)
        return cell

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the weights of `state_dict`; see the layers' `load_state_dict`."""
        self._layer.load_state_dict(state_dict)

    def state_dict(self) -> dict[str, Array]:
        """Return the weights under the cell's names (`weight_ih`): read-only arrays."""
        return {k.removesuffix("_l0"): v for k, v in self._layer.state_dict().items()}

    def _step(self, x: npt.ArrayLike, hx: Any, out: Any, parts: tuple[str, ...]) -> list[Array]:
        """One step of state arrays `parts`: into `out` where given, which may be hx itself."""
        name, dtype = type(self).__name__, self.dtype
        x = as_array(x, dtype, f"{name}: x")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: x is {x.shape}, expected (B, {self.input_size}) or ({self.input_size},)"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        given = (None,) * len(parts) if hx is None else hx
        wanted = (None,) * len(parts) if out is None else out
        states = []
        for part, value, target in zip(parts, given, wanted, strict=True):
            if value is not None:
                value = as_array(value, dtype, f"{name}: {part}")
                if value.shape != shape:
                    raise ValueError(f"{name}: {part} is {value.shape}, expected {shape}")
            if target is not None:
                _check_out(target, shape, dtype, f"{name}: out {part}")
            states.append((value, target))
        targets = [target for _, target in states if target is not None]
        if len(targets) == 2 and np.may_share_memory(*targets):
            raise ValueError(f"{name}: the arrays of out overlap")
        # Whatever an output overlaps, other than its own input, is read before it is written.
        if any(np.may_share_memory(x, target) for target in targets):
            x = x.copy()
        values = [
            value.copy()
            if value is not None and any(t is not value and np.may_share_memory(t, value) for t in targets)
            else value
            for value, _ in states
        ]
        arrays = []
        for value, (_, target) in zip(values, states, strict=True):
            array = np.empty(shape, dtype) if target is None else target
            if value is not array:
                array[...] = 0 if value is None else value
            arrays.append(array)
        batch = x.size // self.input_size
        views = [array.reshape(1, batch, self.hidden_size) for array in arrays]
        self._layer.stack.run(x.reshape(1, batch, self.input_size), *views)
        return arrays

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


def _pair(value: Any, what: str) -> Any:
    if value is not None and (not isinstance(value, (tuple, list)) or len(value) != 2):
        raise ValueError(f"{what} is {type(value).__name__}, expected a pair (h, c)")
    return value


class LSTMCell(RecurrentCell):
    """One LSTM step, as `torch.nn.LSTMCell`."""

    _layer_type = LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike = np.float32,
        engine: str = "auto",
    ) -> None:
        super().__init__(LSTM(input_size, hidden_size, bias=bias, dtype=dtype, engine=engine))

    def __call__(self, x: npt.ArrayLike, hx: Any = None, out: Any = None) -> tuple[Array, Array]:
        """Advance by one step: x (B, I) and hx = (h, c) of (B, H) to (h, c).

        hx None means zeros. `out=(h, c)` are C-contiguous arrays of the cell's dtype to write
        into; they may be those of hx, which are then advanced in place.
        """
        pair = _pair(hx, "LSTMCell: hx"), _pair(out, "LSTMCell: out")
        h, c = self._step(x, *pair, ("h", "c"))
        return h, c


class GRUCell(RecurrentCell):
    """One GRU step, as `torch.nn.GRUCell`; `reset_after` as in `GRU`."""

    _layer_type = GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        dtype: npt.DTypeLike = np.float32,
        engine: str = "auto",
    ) -> None:
        super().__init__(
            GRU(
                input_size,
                hidden_size,
                bias=bias,
                reset_after=reset_after,
                dtype=dtype,
                engine=engine,
            )
        )

    def __call__(self, x: npt.ArrayLike, hx: Any = None, out: Any = None) -> Array:
        """Advance by one step: x (B, I) and hx (B, H) to h. hx and out as in `LSTMCell`, but single."""
        (h,) = self._step(x, None if hx is None else (hx,), None if out is None else (out,), ("h",))
        return h


class RNNCell(RecurrentCell):
    """One Elman step, as `torch.nn.RNNCell`."""

    _layer_type = RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: npt.DTypeLike = np.float32,
        engine: str = "auto",
    ) -> None:
        super().__init__(
            RNN(
                input_size,
                hidden_size,
                nonlinearity=nonlinearity,
                bias=bias,
                dtype=dtype,
                engine=engine,
            )
        )

    __call__ = GRUCell.__call__
