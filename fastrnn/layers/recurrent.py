"""`RecurrentLayer`: what `LSTM`, `GRU` and `RNN` share.

Shapes in this module: T steps, B rows, I input_size, H hidden_size, L num_layers, D directions
(2 if bidirectional, else 1), P = proj_size where there is one, else H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import Stack, as_array, as_state
from fastrnn.errors import FormatError
from fastrnn.layers.compact import LARGEST, in_floats
from fastrnn.layers.described import Described
from fastrnn.layers.engines import pack, unpack
from fastrnn.layers.fingerprint import model_fingerprint
from fastrnn.layers.habits import refuse_packed, refuse_unstrict
from fastrnn.layers.options import LayerOptions, Options, check_integer, decide, takes_options
from fastrnn.layers.statedict import StackWeights, StateDict, find_stack, told
from fastrnn.layers.trace import trace
from fastrnn.layers.weights import (
    StackConfig,
    common_dtype,
    freeze,
    freeze_compact,
    stored_dtype,
)
from fastrnn.sequences import batch_major, row_order, state_pair, time_major
from fastrnn.streams.pool import StreamPool
from fastrnn.streams.stream import Stream

if TYPE_CHECKING:
    from fastrnn.layers.options import Self, Unpack

Array = npt.NDArray[Any]
State = Any  # what is given for a state: (h, c) for LSTM, h otherwise, of array-likes
S = TypeVar("S")  # what is returned of it: a pair of arrays for LSTM, an array otherwise


class RecurrentLayer(Described, Generic[S]):
    """What `LSTM`, `GRU` and `RNN` share: a stack of layers whose weights are fixed once loaded.

    A layer that has its weights is immutable: any number of threads may call it at once.
    """

    _cell: ClassVar[str]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        cell_options: dict[str, Any],
        options: Options,
    ) -> None:
        self._config = StackConfig(
            self._cell,
            check_integer(self._cell, "input_size", input_size, 1),
            check_integer(self._cell, "hidden_size", hidden_size, 1),
            check_integer(self._cell, "num_layers", num_layers, 1),
            bool(bias),
            bool(bidirectional),
            check_integer(self._cell, "proj_size", proj_size, 0),
        )
        if proj_size >= hidden_size:
            raise ValueError(
                f"{self._cell}: proj_size={proj_size}, expected less than hidden_size={hidden_size}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"{self._cell}: dropout={dropout}, expected 0 to 1")
        self._batch_first = bool(batch_first)
        self._dropout = dropout
        self._cell_options = cell_options
        self._computation = decide(self._cell, options)
        self._weights: dict[str, Array] = {}
        self._folded: dict[str, str] = {}
        self._stack: Stack | None = None

    @classmethod
    @takes_options
    def from_state_dict(
        cls, weights: Mapping[str, Any], prefix: str = "", **options: Unpack[LayerOptions]
    ) -> Self:
        """Make the layer that `weights` describe; sizes, layers, bias and directions are inferred.

        Parameters
        ----------
        weights : mapping of str to array
            A state dict, of this layer or of a whole model. Cell names (`weight_ih`) are accepted.
        prefix : str
            Where the layer is in it, such as "encoder.lstm"; the end of its full name is enough if
            no other stack ends so, and none is needed if there is one stack.
        {options}

        Raises
        ------
        ValueError
            If the tensors under `prefix` are not one whole stack of this cell with finite values,
            or others are with them. Parameters that are kept in parts of a known form (weight_norm,
            spectral_norm, pruning, weight drop, dynamic quantization) are folded: see `folded`.
        TypeError
            If `weights` is not a mapping, or holds something else than floating-point arrays.
        """
        found = find_stack(weights, prefix)
        if found.config.cell != cls._cell:
            raise ValueError(
                f"{cls._cell}: the weights under {found.prefix!r} are those of {found.config}"
            )
        layer = cls._for_stack(found, **options)
        layer._take(found)
        return layer

    @classmethod
    def _for_stack(cls, found: StackWeights, **options: Any) -> Self:
        """Make a layer of the sizes of `found`, and with its options, without its weights yet.

        Raises
        ------
        FormatError
            If the file that `found` is from does not say what has to be known.
        """
        if found.said is not None:
            try:
                options = found.said.completed(options)
            except FormatError as error:
                raise FormatError(f"{found.prefix} {error}") from None
        if options.get("dtype") is None:
            asked = options.get("weight_dtype") is not None
            options["dtype"] = np.float32 if asked else common_dtype(found.parameters)
        if options.get("weight_dtype") is None and options.get("engine") != "blas":
            stored = stored_dtype(found.parameters)
            if stored and np.dtype(options["dtype"]) == np.float32:
                options["weight_dtype"] = stored
        return cls._from_config(found.config, **options)

    @classmethod
    def _from_config(cls, config: StackConfig, **options: Any) -> Self:
        """Make a layer of the sizes in `config`, without weights yet."""
        proj: dict[str, Any] = {"proj_size": config.proj_size} if config.proj_size else {}
        return cls(
            config.input_size,
            config.hidden_size,
            config.num_layers,
            bias=config.bias,
            bidirectional=config.bidirectional,
            **proj,
            **options,
        )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take the weights of `state_dict`, whose keys and shapes must be just this layer's.

        Only strictly: `strict` is there since torch has it. Cell names (`weight_ih`) are accepted.
        Streams opened before keep the weights they had. A call in another thread has the old
        weights or the new ones; only this is not for a layer that others open streams of meanwhile.

        Raises
        ------
        ValueError
            If a tensor is missing, left over, has another shape, or is not finite.
        """
        refuse_unstrict(strict, self._cell)
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{self._cell}: state_dict is {type(state_dict).__name__}, expected a mapping"
            )
        state = StateDict(state_dict)
        if state.prefixes != [""]:
            raise ValueError(
                f"{self._cell}: state_dict is not one layer's: {state.in_words}; "
                "for a whole model use from_state_dict(weights, prefix)"
            )
        try:
            found = state.stack("", self._config)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{self._cell}: {error}") from None
        self._take(found)

    def _take(self, found: StackWeights) -> None:
        """Take the weights of a stack of this layer's sizes; raises as load_state_dict."""
        where = f"{self._cell}: {found.prefix}{'.' if found.prefix else ''}"
        if self._is_compact:
            self._pack(freeze_compact(found.parameters, self.weight_dtype, where))
        else:
            self._pack(freeze(found.parameters, self.dtype, where))
        self._folded = dict(found.folded)

    @property
    def _is_compact(self) -> bool:
        return self.weight_dtype in LARGEST

    def _pack(self, weights: dict[str, Array]) -> None:
        self._stack = pack(
            self.isa, self._config, weights, threads=self.threads, **self._cell_options
        )
        self._weights = {} if self._is_compact else weights  # of codes, the packed ones are enough

    def state_dict(self) -> dict[str, Array]:
        """Return the weights under torch's names, in torch's order: read-only arrays.

        Those that the layer computes with: where `weight_dtype` is an integer type, its codes times
        their scales, made at each call, and not what was loaded.
        """
        return in_floats(self.stored_state_dict())

    def stored_state_dict(self) -> dict[str, Array]:
        """Return the weights as they are stored, under names that can be loaded again.

        The same as `state_dict`, unless `weight_dtype` is an integer type: then matrices are codes
        of it, and behind each, with "_scale" after its name, is what its rows are multiplied by.
        """
        return _stored(self._stack, self._config, self._weights)

    @property
    def _packed(self) -> Stack:
        """The packed weights.

        Raises
        ------
        RuntimeError
            If none were loaded yet.
        """
        if self._stack is None:
            raise RuntimeError(f"{self._cell}: no weights yet, call load_state_dict first")
        return self._stack

    def __call__(
        self, x: npt.ArrayLike, hx: State = None, lengths: npt.ArrayLike | None = None
    ) -> tuple[Array, S]:
        """Run whole sequences.

        Parameters
        ----------
        x : array (T, B, I), or (B, T, I) if batch_first, or (T, I)
        hx : initial state, zeros if None
            LSTM: (h_0, c_0) of (L*D, B, P) and (L*D, B, H); else h_0 (L*D, B, H). No B for (T, I).
            Without B, or with 1 for B, it is every row's.
        lengths : int array (B,), optional
            Steps of each row, 0 to T, in any order. Gives what torch's PackedSequence gives: y is
            zero past a row's end, each row ends in its own last state, and the reverse direction
            starts at each row's own end. A row of 0 steps, which torch refuses, ends in the state
            it began with.

        Returns
        -------
        y : array (T, B, D*P), or (B, T, D*P) if batch_first, or (T, D*P)
        state : as hx
            Always (L*D, B, ...), or (L*D, ...) for (T, I).

        Raises
        ------
        ValueError, TypeError
            For a shape, length or type that does not fit, naming what was expected and what came.
        """
        stack = self._packed
        x, batched = self._sequence(x)
        h, c = self._initial_state(hx, x.shape[1], batched)
        shape = (*x.shape[:2], self._config.directions * self._config.output_size)
        if lengths is None:
            y = np.empty(shape, self.dtype)
            stack.run(x, h, c, y)
        else:
            if not batched:
                raise ValueError(f"{self._cell}: lengths need a batch, but x is (T, I)")
            order, rows = row_order(lengths, x.shape[0], x.shape[1], self._cell)
            x, h = np.ascontiguousarray(x[:, order]), np.ascontiguousarray(h[:, order])
            c = None if c is None else np.ascontiguousarray(c[:, order])
            y = np.zeros(shape, self.dtype)
            stack.run(x, h, c, y, rows)
            back = np.argsort(order)
            y, h, c = y[:, back], h[:, back], None if c is None else c[:, back]
        if not batched:
            return y[:, 0], self._state(h[:, 0], None if c is None else c[:, 0])
        return batch_major(y) if self.batch_first else y, self._state(h, c)

    def trace(self, x: npt.ArrayLike, hx: State = None) -> dict[str, Array]:
        """Run whole sequences and return every gate and state, by name, at every step.

        Computed by the BLAS engine in this layer's dtype, whatever engine the layer has, and with
        the weights that `state_dict` gives: inputs and states are not rounded to integers, as the
        SIMD engine does where `weight_dtype` is an integer type.

        Parameters
        ----------
        x, hx : as in calling the layer

        Returns
        -------
        dict of arrays (L, D, T, B, H), or (L, D, B, T, H) if batch_first, or (L, D, T, H)
            LSTM: "input", "forget", "cell" (the candidate, tanh), "output", and the states "c" and
            "h". GRU: "reset", "update", "candidate", and "h". RNN: "h". The last axis of "h" is P.
            Gates are after their activation. In the reverse direction, too, T counts from the start
            of the sequence.
        """
        self._packed  # noqa: B018 - raises if there are no weights
        x, batched = self._sequence(x)
        h, c = self._initial_state(hx, x.shape[1], batched)
        traced = trace(self._config, self.state_dict(), x, h, c, self._cell_options)
        if not batched:
            return {name: values[:, :, :, 0] for name, values in traced.items()}
        if self.batch_first:
            return {name: values.swapaxes(2, 3) for name, values in traced.items()}
        return traced

    def stream(self, batch: int | None = None, initial_state: State = None) -> Stream[S]:
        """Open `batch` streams that are stepped together; None: one, without a batch dimension.

        Parameters
        ----------
        batch : int, optional
        initial_state : optional
            Where they begin and what `reset` goes back to, such as a state that was learned. LSTM:
            (h, c) of (L, P) and (L, H), or with B, (L, B, ...); else h. None: zeros.

        Raises
        ------
        ValueError
            If the layer is bidirectional: its reverse direction starts at the end of the sequence;
            or for a batch or state that does not fit.
        """
        return Stream(
            self._packed,
            self._cell,
            batch,
            self.batch_first,
            initial_state,
            self._identify,
        )

    def pool(self, capacity: int, grow: bool = False, initial_state: State = None) -> StreamPool[S]:
        """Make a pool of streams that come and go one by one and are stepped in any subset.

        Parameters
        ----------
        capacity : int
            Streams that there is room for. Their states are allocated now.
        grow : bool
            Whether opening one more doubles the room; otherwise it raises PoolFullError.
        initial_state : optional
            Where streams begin and what `reset` goes back to, such as a state that was learned.
            LSTM: (h, c) of (L, P) and (L, H); else h. None: zeros. Saved states are where a stream
            is, and not where it began: a pool of another initial state takes them.

        Raises
        ------
        ValueError
            If the layer is bidirectional: its reverse direction starts at the end of the sequence;
            for another capacity than 1 to 2**31 - 1; or for a state that does not fit.
        MemoryError
            If there is no memory for so many.
        """
        return StreamPool(
            self._packed,
            self._cell,
            capacity,
            grow,
            self.batch_first,
            self._identify,
            initial_state,
        )

    @property
    def _identify(self) -> Callable[[], bytes]:
        """What finds the fingerprint of the stack as it is now."""
        return partial(_identify, self._stack, self._config, self._weights, self._cell_options)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what the layer computes: cell, sizes, options, weights.

        Equal for equal models whatever engine, ISA, threads or layout they have; saved states
        carry it.
        """
        self._packed  # noqa: B018 - raises if there are no weights
        return _identify(self._packed, self._config, self._weights, self._cell_options).hex()

    def _sequence(self, x: npt.ArrayLike) -> tuple[Array, bool]:
        """Return x as (T, B, I) in the layer's dtype, and whether it had a batch dimension."""
        refuse_packed(x, f"{self._cell}: x")
        array = as_array(x, self.dtype, f"{self._cell}: x")
        if array.ndim not in (2, 3):
            want = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(
                f"{self._cell}: x has {array.ndim} dimensions, expected {want} or (T, I) "
                f"(x.shape={array.shape})"
            )
        if array.shape[-1] != self.input_size:
            raise ValueError(
                f"{self._cell}: x has {array.shape[-1]} features, expected "
                f"input_size={self.input_size} (x.shape={array.shape})"
            )
        batched = array.ndim == 3
        if not batched:
            sequence = array[:, None]
        else:
            sequence = time_major(array) if self.batch_first else array
        if sequence.shape[0] == 0:
            raise ValueError(
                f"{self._cell}: x has no time steps, expected at least 1 (x.shape={array.shape})"
            )
        return sequence, batched

    def _initial_state(self, hx: State, batch: int, batched: bool) -> tuple[Array, Array | None]:
        """Return fresh arrays h (L*D, B, P) and, for LSTM, c (L*D, B, H): zeros or copies of hx."""
        states = self.num_layers * self._config.directions
        shapes = {"h_0": (states, batch, self._config.output_size)}
        if self._cell == "LSTM":
            shapes["c_0"] = (states, batch, self.hidden_size)
        if hx is None:
            arrays = [np.zeros(shape, self.dtype) for shape in shapes.values()]
        else:
            arrays = []
            parts = state_pair(hx, "LSTM: hx", "(h_0, c_0)") if "c_0" in shapes else (hx,)
            for value, (name, shape) in zip(parts, shapes.items(), strict=True):
                what = f"{self._cell}: {name}"
                if batched:
                    array = as_state(value, self.dtype, shape, what)
                else:
                    array = as_array(value, self.dtype, what)
                    if array.shape != (shape[0], shape[2]):
                        want = (shape[0], shape[2])
                        raise ValueError(f"{what} is {array.shape}, expected {want}")
                arrays.append(array.reshape(shape).copy())
        return arrays[0], arrays[1] if len(arrays) == 2 else None

    def _state(self, h: Array, c: Array | None) -> S:
        return cast("S", h if c is None else (h, c))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stack": None, "_weights": self.stored_state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._computation = self._computation.here(self._cell)  # made on another CPU, perhaps
        for array in self._weights.values():
            array.flags.writeable = False
        if self._weights:
            self._pack(self._weights)

    def __repr__(self) -> str:
        options = {"batch_first": self.batch_first, **self._cell_options}
        defaults = {"batch_first": False, "reset_after": True, "nonlinearity": "tanh"}
        said = "".join(f", {k}={v!r}" for k, v in options.items() if v != defaults[k])
        how = f"engine={self.engine!r}" + (f", isa={self.isa!r}" if self.isa else "")
        how += f", threads={self.threads}" if self.threads > 1 else ""
        how += f", weight_dtype={self.weight_dtype!r}" if self._is_compact else ""
        how += f", folded={told(self._folded)!r}" if self._folded else ""
        return f"{str(self._config)[:-1]}{said}, dtype={self.dtype.name}, {how})"


def _stored(
    stack: Stack | None, config: StackConfig, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """The weights as they are stored: those of a stack of codes are in it alone."""
    return dict(weights) if weights or stack is None else unpack(stack, config)


def _identify(
    stack: Stack | None,
    config: StackConfig,
    weights: Mapping[str, Array],
    cell_options: Mapping[str, Any],
) -> bytes:
    """The fingerprint of a stack as it is now, whatever its layer loads later."""
    return model_fingerprint(config, _stored(stack, config, weights), cell_options)
