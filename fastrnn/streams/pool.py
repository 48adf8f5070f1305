"""`StreamPool`: many streams that come and go, stepped together in any subset and order."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import Stack, as_array
from fastrnn._kernels.pool import Pool
from fastrnn.errors import PoolFullError
from fastrnn.sequences import batch_major, row_order, state_parts, time_major
from fastrnn.streams.herd import Herd, Ids
from fastrnn.streams.states import load_state, save_state, state_shapes
from fastrnn.streams.turns import in_turn

Array = npt.NDArray[Any]
S = TypeVar("S")  # states: a pair of arrays for LSTM, an array otherwise

MOST_STREAMS = 2**31 - 1

__all__ = ["MOST_STREAMS", "Ids", "StreamPool"]


class StreamPool(Herd, Generic[S]):
    """The states of many streams through a unidirectional layer; made by `layer.pool(capacity)`.

    A stream is known by the id that `open` returned; no id is ever used again for another. Any
    number of threads may use a pool at once: calls for different streams run side by side, and a
    call that meets another on one of its streams raises BusyError and changes nothing, or waits for
    its end if it may (`wait=True`). Whatever raises leaves every state as it was: also
    what a signal's handler raises, as a rule KeyboardInterrupt, which ends a long call within some
    50 ms. In the child of a fork, streams that another thread was stepping stay in use.

    A stream gives exactly what it gives alone, bit for bit (on the SIMD engine).

    Shapes: n ids in a call, T steps, I input_size, H hidden_size, L num_layers, P = proj_size where
    there is one, else H.

    Examples
    --------
    >>> pool = fastrnn.load("model.pt", "encoder.lstm").pool(capacity=1000)
    >>> a, b = pool.open(), pool.open()
    >>> pool.step([b, a], np.zeros((2, 40))).shape
    (2, 64)
    >>> data = pool.save(a)
    >>> pool.close(a)
    >>> len(pool), pool.load(data) in pool
    (1, True)
    """

    def __init__(
        self,
        stack: Stack,
        cell: str,
        capacity: int,
        grow: bool,
        batch_first: bool,
        fingerprint: Callable[[], bytes],
        initial_state: Any,
    ) -> None:
        self._name = f"{cell} pool"
        if (
            isinstance(capacity, bool)
            or not isinstance(capacity, (int, np.integer))
            or not 1 <= capacity <= MOST_STREAMS
        ):
            raise ValueError(
                f"{self._name}: capacity={capacity!r}, expected an integer, 1 to {MOST_STREAMS}"
            )
        initial = None
        if initial_state is not None:
            what = f"{self._name}: initial_state"
            initial = state_parts(initial_state, stack.has_cell_state, what)
        self._pool = Pool(stack, self._name, int(capacity), bool(grow), initial)
        self._batch_first = batch_first
        self._make_fingerprint = fingerprint

    @property
    def capacity(self) -> int:
        """How many streams there is room for; doubled when one too many opens, if `grow`."""
        return self._pool.capacity

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one stream's frame."""
        return (self.input_size,)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one stream's answer to a frame."""
        return (self.output_size,)

    @property
    def input_size(self) -> int:
        """Features of one frame, I."""
        return self._pool.stack.input_size

    @property
    def output_size(self) -> int:
        """Features of the answer to one frame, P."""
        return self._pool.stack.output_size

    @property
    def work(self) -> int:
        """Multiply-adds of one step of one stream."""
        return self._pool.work

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is computed in and returned: float32 or float64."""
        return self._pool.stack.dtype

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._pool)

    def __bool__(self) -> bool:
        """Return True: a pool without streams is a pool."""
        return True

    def __contains__(self, id: int) -> bool:
        """Whether `id` is an open stream."""
        return id in self._pool

    def _open_one(self) -> int:
        id = self._pool.open()
        if id is None:
            raise PoolFullError(
                f"{self._name}: full, all {self.capacity} streams are open: close some, or make "
                "the pool larger or with grow=True"
            )
        return id

    def _close_one(self, id: int) -> None:
        self._pool.close(id)

    def _evict(self, idle_seconds: float) -> list[int]:
        return self._pool.evict(idle_seconds)

    def step(
        self, ids: Ids, x: npt.ArrayLike, out: Array | None = None, *, wait: bool = False
    ) -> Array:
        """Advance the streams `ids` by one time step.

        Parameters
        ----------
        ids : sequence of int (n,)
            Any streams of the pool in any order, each once. An int64 array costs least.
        x : array (n, I)
            Row i is for stream ids[i]. Taken as it is if it is a C-contiguous array of the
            layer's dtype, else converted.
        out : array (n, P) of the layer's dtype, C-contiguous, optional
            Where to put the result; then a call that converts neither ids nor x allocates nothing.
            May be x itself.
        wait : bool
            Whether to wait while another thread is using one of them.

        Returns
        -------
        array (n, P)
            The last layer's h: `out`, or a new array.

        Raises
        ------
        LookupError
            If an id is no open stream.
        ValueError, TypeError
            For an id that is there twice, or a shape or type that does not fit.
        BusyError
            If another thread is using one of them.
        """
        pool = self._pool  # not its bound method, which would be an object made for the call
        result: Array = in_turn(True, pool.step, ids, x, out) if wait else pool.step(ids, x, out)
        return result

    def run(
        self,
        ids: Ids,
        x: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        *,
        wait: bool = False,
    ) -> Array:
        """Advance each of the streams `ids` by its own number of time steps.

        Parameters
        ----------
        ids : as in `step`
        x : array (T, n, I), or (n, T, I) if the layer is batch_first
        lengths : int array (n,), optional
            Steps of each stream, 0 to T. None: T for all.
        wait : as in `step`

        Returns
        -------
        array (T, n, P), or (n, T, P) if the layer is batch_first
            Zero past a stream's own length.

        Raises
        ------
        As `step`.
        """
        array = as_array(x, self.dtype, f"{self._name}: x")
        if array.ndim != 3:
            want = "(n, T, I)" if self._batch_first else "(T, n, I)"
            raise ValueError(
                f"{self._name}: x has {array.ndim} dimensions, expected {want} "
                f"(x.shape={array.shape})"
            )
        if self._batch_first:
            array = time_major(array)
        if lengths is None:
            y = in_turn(wait, self._pool.run, ids, array)
        else:
            steps, n, _ = array.shape
            order, rows = row_order(lengths, steps, n, self._name)
            ids = self._pool.as_ids(ids)
            if len(ids) != n:
                raise ValueError(f"{self._name}: {len(ids)} ids for the {n} rows of x")
            ordered = [ids[i] for i in order]
            ordered_x = np.ascontiguousarray(array[:, order])
            y = in_turn(wait, self._pool.run, ordered, ordered_x, rows)[:, np.argsort(order)]
        return batch_major(y) if self._batch_first else y

    def reset(self, ids: Ids, *, wait: bool = False) -> None:
        """Let the streams `ids` begin anew, as `open` does. Waits and raises as `step`."""
        in_turn(wait, self._pool.reset, ids)

    def get_state(self, ids: Ids, *, wait: bool = False) -> S:
        """Copies of the states of the streams `ids`: LSTM (h, c), else h; h (L, n, P), c (L, n, H).

        As a layer's hx. Waits and raises as `step`.
        """
        h, c = in_turn(wait, self._pool.get_state, ids)
        return cast("S", h if c is None else (h, c))

    def set_state(self, ids: Ids, state: Any, *, wait: bool = False) -> None:
        """Copy in states as `get_state` returns them, h (L, P) and c (L, H) to every one of `ids`.

        Waits and raises as `step`.
        """
        h, c = state_parts(state, self._pool.stack.has_cell_state, f"{self._name}: state")
        in_turn(wait, self._pool.set_state, ids, h, c)

    def _clone_one(self, id: int) -> int:
        return self._begun(*self._pool.get_state([id]))

    def _save_one(self, id: int) -> bytes:
        h, c = self._pool.get_state([id])
        return save_state(self._fingerprint, h[:, 0], None if c is None else c[:, 0])

    def _load_one(self, data: bytes) -> int:
        h, c = load_state(data, self._fingerprint, *state_shapes(self._pool.stack), self._name)
        return self._begun(h[:, None], None if c is None else c[:, None])

    def _begun(self, h: Array, c: Array | None) -> int:
        """Open a stream in a state (L, 1, P), (L, 1, H)."""
        id = self._open_one()
        try:
            self._pool.set_state([id], h, c)
        except BaseException:
            self._pool.close(id)
            raise
        return id

    @cached_property
    def _fingerprint(self) -> bytes:
        return self._make_fingerprint()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles, which would share or lose the live states."""
        raise TypeError(
            f"{self._name}: cannot be copied or pickled; save its streams: pool.save(id)"
        )

    def __repr__(self) -> str:
        return f"<{self._name}, {len(self)} of {self.capacity} streams open>"
