"""`ModelPool`: streams through a model that come and go, stepped in any subset and order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn.errors import PoolFullError
from fastrnn.models.ops.table import Array
from fastrnn.models.recurrence import Recurrence
from fastrnn.streams.pool import MOST_STREAMS, Ids
from fastrnn.streams.slots import Slots
from fastrnn.streams.states import seal, unseal
from fastrnn.streams.turns import in_turn

NAME = "model pool"
S = TypeVar("S")  # what some streams keep from call to call


class Pool(ABC, Generic[S]):
    """Streams that come and go, whatever they keep: ids, states saved and loaded, growth."""

    def __init__(self, capacity: int, grow: bool, fingerprint: Callable[[], bytes]) -> None:
        if (
            isinstance(capacity, bool)
            or not isinstance(capacity, (int, np.integer))
            or not 1 <= capacity <= MOST_STREAMS
        ):
            raise ValueError(
                f"{NAME}: capacity={capacity!r}, expected an integer, 1 to {MOST_STREAMS}"
            )
        self._grow = bool(grow)
        self._slots = Slots(NAME, int(capacity))
        self._make_fingerprint = fingerprint

    @abstractmethod
    def _fresh(self) -> S:
        """What one stream begins with."""

    @abstractmethod
    def _get(self, slots: Array) -> S:
        """Copies of what streams keep."""

    @abstractmethod
    def _put(self, slots: Array, state: S) -> None:
        """Have streams keep something; of one stream, any number may have it."""

    @abstractmethod
    def _room(self, capacity: int) -> None:
        """Make room for more streams."""

    @abstractmethod
    def _pack(self, state: S) -> bytes:
        """What one stream keeps as bytes."""

    @abstractmethod
    def _unpack(self, content: bytes) -> S:
        """The reverse of `_pack`; StateError."""

    @property
    def capacity(self) -> int:
        """How many streams there is room for; doubled when one too many opens, if `grow`."""
        return self._slots.capacity

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._slots)

    def __bool__(self) -> bool:
        """Return True: a pool without streams is a pool."""
        return True

    def __contains__(self, id: int) -> bool:
        """Whether `id` is an open stream."""
        return id in self._slots

    def open(self) -> int:
        """Open a stream, at its beginning, and return its id: an int >= 0.

        Raises
        ------
        PoolFullError
            If `capacity` streams are open and the pool may not grow.
        """
        return self._open(self._fresh())

    def _open(self, state: S) -> int:
        while (id := self._slots.open()) is None:
            if not self._grow or self.capacity == MOST_STREAMS:
                raise PoolFullError(
                    f"{NAME}: full, all {self.capacity} streams are open: close some, or make the "
                    "pool larger or with grow=True"
                )
            self._slots.grow(min(2 * self.capacity, MOST_STREAMS), self._room)
        self._write([id], state)
        return id

    def close(self, id: int, *, wait: bool = False) -> None:
        """Close a stream; its id will never again be a stream. Waits and raises as `step`."""
        in_turn(wait, self._slots.close, id)

    def reset(self, ids: Ids, *, wait: bool = False) -> None:
        """Have the streams `ids` begin anew. Waits and raises as `step`."""
        in_turn(wait, self._write, ids, self._fresh())

    def _read(self, ids: Ids) -> S:
        with self._slots.using(ids) as slots:
            return self._get(slots)

    def _write(self, ids: Ids, state: S) -> None:
        with self._slots.using(ids) as slots:
            self._put(slots, state)

    def save(self, id: int, *, wait: bool = False) -> bytes:
        """Return the state of stream `id` as bytes that `load` takes, here or on another machine.

        They carry the fingerprint of the model and a checksum. Waits and raises as `step`.
        """
        return seal(self._fingerprint, self._pack(in_turn(wait, self._read, [id])))

    def load(self, data: bytes) -> int:
        """Open a stream in the state that `save` returned, and return its id.

        Raises
        ------
        StateError
            If `data` is damaged, or of another model.
        TypeError
            If it is not bytes.
        PoolFullError
            As `open`.
        """
        return self._open(self._unpack(unseal(data, self._fingerprint, NAME)))

    @cached_property
    def _fingerprint(self) -> bytes:
        return self._make_fingerprint()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles, which would share or lose the live states."""
        raise TypeError(f"{NAME}: cannot be copied or pickled; save its streams: pool.save(id)")

    def __repr__(self) -> str:
        return f"<{NAME}, {len(self)} of {self.capacity} streams open>"


class ModelPool(Pool[list[Array]]):
    """The states of many streams through a model; made by `model.pool(capacity)`.

    As `StreamPool`: a stream is known by the id that `open` returned, any number of threads may use
    a pool at once, and whatever raises leaves every state as it was. A step takes and gives arrays
    as one call of the file does, with one row for each id along the batch axis, without the inputs
    and outputs that are states. A stream gives exactly what it gives alone, bit for bit.
    """

    def __init__(
        self, recurrence: Recurrence, capacity: int, grow: bool, fingerprint: Callable[[], bytes]
    ) -> None:
        super().__init__(capacity, grow, fingerprint)
        self._recurrence = recurrence
        self._intake, self._outlet = recurrence.intake(NAME), recurrence.outlet
        self._states = recurrence.types.zeros(self.capacity)

    def _fresh(self) -> list[Array]:
        return self._recurrence.types.zeros(1)

    def _get(self, slots: Array) -> list[Array]:
        return [state[slots] for state in self._states]

    def _put(self, slots: Array, state: list[Array]) -> None:
        for own, new in zip(self._states, state, strict=True):
            own[slots] = new

    def _room(self, capacity: int) -> None:
        fresh = self._recurrence.types.zeros(capacity - self.capacity)
        self._states = [np.concatenate(pair) for pair in zip(self._states, fresh, strict=True)]

    def _pack(self, state: list[Array]) -> bytes:
        return self._recurrence.types.packed(state)

    def _unpack(self, content: bytes) -> list[Array]:
        return self._recurrence.types.unpacked(content, NAME)

    def step(
        self,
        ids: Ids,
        *args: npt.ArrayLike,
        out: Array | None = None,
        wait: bool = False,
        **named: npt.ArrayLike,
    ) -> Any:
        """Advance the streams `ids` by one call of the file.

        Parameters
        ----------
        ids : sequence of int (n,)
            Any streams of the pool in any order, each once.
        args, named : arrays
            The inputs that are no states, in the file's order or by name, with n rows.
        out : array, optional
            Where to put the result of a model with one output.
        wait : bool
            Whether to wait while another thread is using one of the streams.

        Returns
        -------
        array, or dict of arrays by name where there are several outputs

        Raises
        ------
        LookupError
            If an id is no open stream.
        ValueError, TypeError
            For an id that is there twice, a shape or type that does not fit, or a node that cannot
            be computed.
        BusyError
            If another thread is using one of them.
        """
        return in_turn(wait, self._step, ids, args, named, out)

    def _step(self, ids: Ids, args: Sequence[Any], named: dict[str, Any], out: Any) -> Any:
        rows = self._intake.rows(args, named, len(ids))
        target = None if out is None else self._outlet.rows(out, True)
        with self._slots.using(ids) as slots:
            made = self._recurrence.advance(rows, self._states, slots, target)
        return self._outlet.answer(made, True) if out is None else out

    def get_state(self, ids: Ids, *, wait: bool = False) -> Any:
        """Copies of the states of the streams `ids`, as `ModelStream.state` has them.

        Waits and raises as `step`.
        """
        return self._recurrence.types.shown(in_turn(wait, self._read, ids), True)

    def set_state(self, ids: Ids, state: Any, *, wait: bool = False) -> None:
        """Copy in states as `get_state` returns them. Waits and raises as `step`."""
        in_turn(wait, self._write, ids, self._recurrence.types.taken(state, len(ids), NAME))
