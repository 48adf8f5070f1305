"""`Stream`: state that lives in the engine and is stepped in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import Stack, as_array
from fastrnn._kernels.stepper import Bound, Stepper
from fastrnn.sequences import batch_major, state_parts, time_major
from fastrnn.streams.states import each_row, load_state, save_state, state_shapes
from fastrnn.streams.turns import in_turn

Array = npt.NDArray[Any]
S = TypeVar("S")  # a state: a pair of arrays for LSTM, an array otherwise


class Stream(Generic[S]):
    """B streams through a unidirectional layer, stepped together; made by `layer.stream(batch)`.

    Belongs to one thread at a time: a call that meets another in progress raises BusyError, or
    waits for its end if it may (`wait=True`). In the child of a fork, a stream that another thread
    was stepping stays in use. What a signal's handler raises, as a rule KeyboardInterrupt, ends a
    long call within some 50 ms; the state, and `out`, are then as before the call.
    Shapes: B rows, I input_size, H hidden_size, L num_layers, P = proj_size where there is one,
    else H. A stream made without `batch` is one row, and its arrays have no B.

    Examples
    --------
    >>> stream = fastrnn.load("model.pt", "encoder.lstm").stream(batch=8)
    >>> stream.step(np.zeros((8, 40))).shape
    (8, 64)
    >>> stream.run(np.zeros((100, 8, 40))).shape
    (100, 8, 64)
    >>> stream.reset(rows=[3])
    """

    def __init__(
        self,
        stack: Stack,
        cell: str,
        batch: int | None,
        batch_first: bool,
        initial_state: Any,
        fingerprint: Callable[[], bytes],
    ) -> None:
        if batch is not None and (
            isinstance(batch, bool)
            or not isinstance(batch, (int, np.integer))
            or not 1 <= batch < 2**31
        ):
            raise ValueError(f"{cell} stream: batch={batch!r}, expected an integer >= 1 or None")
        self._name = f"{cell} stream"
        initial = None
        if initial_state is not None:
            what = f"{self._name}: initial_state"
            initial = state_parts(initial_state, stack.has_cell_state, what)
        self._stepper = Stepper(stack, self._name, batch, initial)
        self._batch_first = batch_first
        self._make_fingerprint = fingerprint
        self.batch = batch

    def step(self, x: npt.ArrayLike, out: Array | None = None, *, wait: bool = False) -> Array:
        """Advance every row by one time step.

        Parameters
        ----------
        x : array (B, I)
            Taken as it is if it is a C-contiguous array of the layer's dtype, else converted.
        out : array (B, P) of the layer's dtype, C-contiguous, optional
            Where to put the result; then the call allocates nothing. May be x itself.
        wait : bool
            Whether to wait while another thread is in a call.

        Returns
        -------
        array (B, P)
            The last layer's h: `out`, or a new array.

        Raises
        ------
        ValueError, TypeError
            For a shape or type that does not fit; the state is as before.
        BusyError
            If another thread is in a call.
        """
        stepper = self._stepper  # not its bound method, which would be an object made for the call
        result: Array = in_turn(True, stepper.step, x, out) if wait else stepper.step(x, out)
        return result

    def bind(self, x: Array, out: Array) -> Callable[[], Array]:
        """Return a callable without arguments that does `step(x, out=out)`, at less cost a call.

        Parameters
        ----------
        x : array (B, I), out : array (B, P)
            C-contiguous, of the layer's dtype; written and read in place between calls. Nothing is
            converted.

        Raises
        ------
        ValueError
            For an array that does not fit: here, and in a call if it no longer does.
        BusyError
            In a call, if another thread is in one.
        """
        return Bound(self._stepper, x, out)

    def run(self, x: npt.ArrayLike, *, wait: bool = False) -> Array:
        """Advance by T steps, as T calls of `step` do: x (T, B, I) to y (T, B, P).

        (B, T, ...) if the layer is batch_first. T may be 0. Waits and raises as `step`.
        """
        if self.batch is None or not self._batch_first:
            y: Array = in_turn(wait, self._stepper.run, x)
            return y
        array = as_array(x, self._stepper.stack.dtype, f"{self._name}: x")
        if array.ndim != 3:
            raise ValueError(
                f"{self._name}: x has {array.ndim} dimensions, expected (B, T, I) "
                f"(x.shape={array.shape})"
            )
        return batch_major(in_turn(wait, self._stepper.run, time_major(array)))

    def reset(self, rows: npt.ArrayLike | None = None, *, wait: bool = False) -> None:
        """Let all rows begin anew, or `rows`: an index, a sequence of them or a bool mask.

        They begin with zeros, or with the stream's initial state. Waits and raises as `step`.
        """
        in_turn(wait, self._stepper.reset, rows)

    @property
    def state(self) -> S:
        """A copy of the state, as a layer's hx: LSTM (h, c), else h; h (L, B, P), c (L, B, H).

        Setting copies in, (L, P) and (L, H) to every row; for what does not fit it raises
        ValueError or TypeError and changes nothing.
        """
        h, c = self._stepper.get_state()
        return cast("S", h if c is None else (h, c))

    @state.setter
    def state(self, state: Any) -> None:
        stack = self._stepper.stack
        self._stepper.set_state(*state_parts(state, stack.has_cell_state, f"{self._name}: state"))

    def save(self, *, wait: bool = False) -> Any:
        """Return the state as bytes that `load` takes, as a pool's; with a batch a list, by row.

        A pool of the same model takes them, and the other way round. Waits and raises as `step`.
        """
        h, c = in_turn(wait, self._stepper.get_state)
        if self.batch is None:
            return save_state(self._fingerprint, h, c)
        return [
            save_state(self._fingerprint, h[:, row], None if c is None else c[:, row])
            for row in range(self.batch)
        ]

    def load(self, data: Any, *, wait: bool = False) -> None:
        """Go on in the state that `save` returned: bytes, or with a batch a list of them, by row.

        Raises
        ------
        StateError
            If it is damaged, or of another model; the state is as before.
        ValueError, TypeError
            If it is of another number of rows, or not bytes.
        BusyError
            If another thread is in a call.
        """
        rows = each_row(data, self.batch, self._name)
        stack = self._stepper.stack
        shapes = state_shapes(stack)
        loaded = [load_state(row, self._fingerprint, *shapes, self._name) for row in rows]
        h = np.stack([row[0] for row in loaded], axis=1)
        cs = [row[1] for row in loaded if row[1] is not None]
        c = np.stack(cs, axis=1) if cs else None
        if self.batch is None:
            h = h[:, 0]
            c = None if c is None else c[:, 0]
        in_turn(wait, self._stepper.set_state, h, c)

    @cached_property
    def _fingerprint(self) -> bytes:
        return self._make_fingerprint()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles, which would share or lose the live state."""
        raise TypeError(
            f"{self._name}: cannot be copied or pickled; copy its state into another stream of the "
            "same layer: layer.stream(batch).state = stream.state"
        )

    def __repr__(self) -> str:
        return f"<{self._name}, batch={self.batch}>"
