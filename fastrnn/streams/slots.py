"""`Slots`: ids of streams that come and go, and who uses which: for pools of states in arrays.

As the compiled pool's (`kernels/slots.c`): an id is a slot and a count of the streams that had it,
so that it never becomes somebody else's.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import BusyError

Array = npt.NDArray[Any]

_BITS = 32  # of an id that are its slot
_MASK = (1 << _BITS) - 1


class Slots:
    """Slots 0 to capacity - 1. Messages begin with `what`."""

    def __init__(self, what: str, capacity: int) -> None:
        self._what = what
        self._turn = Condition(Lock())
        self._growing = 0  # calls of grow under way
        self._ids = np.full(capacity, -1, np.int64)  # -1: free
        self._uses = np.zeros(capacity, np.int64)
        self._used = np.zeros(capacity)  # when a call had it last, in seconds
        self._busy = np.zeros(capacity, np.bool_)
        self._free = list(range(capacity - 1, -1, -1))

    @property
    def capacity(self) -> int:
        """How many slots there are."""
        return len(self._ids)

    def __len__(self) -> int:
        """How many are open."""
        with self._turn:
            return len(self._ids) - len(self._free)

    def __contains__(self, id: Any) -> bool:
        number = self._as_id(id)
        slot = number & _MASK
        return number >= 0 and slot < len(self._ids) and int(self._ids[slot]) == number

    def open(self) -> int | None:
        """A new id; None if every slot is open."""
        with self._turn:
            if not self._free:
                return None
            slot = self._free.pop()
            id = int(self._uses[slot]) << _BITS | slot
            self._uses[slot] = (int(self._uses[slot]) + 1) & (_MASK >> 1)
            self._ids[slot] = id
            self._used[slot] = time.monotonic()
            return id

    def grow(self, capacity: int, move: Callable[[int], None]) -> None:
        """Have `capacity` slots, after `move(capacity)` has made room for their states.

        Waits for the calls under way, and holds those that come.
        """
        with self._turn:
            self._growing += 1
            try:
                self._turn.wait_for(lambda: not self._busy.any())
                if capacity > len(self._ids):  # another thread may have been faster
                    move(capacity)
                    more = capacity - len(self._ids)
                    self._free[:0] = range(capacity - 1, len(self._ids) - 1, -1)
                    self._ids = np.concatenate([self._ids, np.full(more, -1, np.int64)])
                    self._uses = np.concatenate([self._uses, np.zeros(more, np.int64)])
                    self._used = np.concatenate([self._used, np.zeros(more)])
                    self._busy = np.concatenate([self._busy, np.zeros(more, np.bool_)])
            finally:
                self._growing -= 1
                self._turn.notify_all()

    def close(self, id: Any) -> None:
        """Free an id's slot. Raises as `using`."""
        wanted = self._as_ids([id])
        with self._turn:
            slot = int(self._claimable(wanted)[0])
            self._ids[slot] = -1
            self._free.append(slot)

    def evict(self, idle_seconds: float) -> list[int]:
        """Free the slots that no call had for so long, and has now; return their ids."""
        until = time.monotonic() - idle_seconds
        with self._turn:
            idle = np.flatnonzero((self._ids >= 0) & ~self._busy & (self._used <= until))
            ids: list[int] = self._ids[idle].tolist()
            self._ids[idle] = -1
            self._free.extend(idle.tolist())
        return ids

    @contextmanager
    def using(self, ids: Sequence[int] | Array) -> Iterator[Array]:
        """Hold streams, all or none, and yield their slots.

        Raises
        ------
        LookupError
            If an id is no open stream.
        TypeError, ValueError
            If the ids are no integers, or one is there twice.
        BusyError
            If another thread is using one of them.
        """
        wanted = self._as_ids(ids)
        with self._turn:
            while self._growing:
                self._turn.wait()
            slots = self._claimable(wanted)
            self._busy[slots] = True
            self._used[slots] = time.monotonic()
        try:
            yield slots
        finally:
            with self._turn:
                self._busy[slots] = False
                if self._growing:
                    self._turn.notify_all()

    def _as_ids(self, ids: Any) -> Array:
        if isinstance(ids, (list, tuple)):
            return np.array([self._as_id(id) for id in ids], np.int64)
        try:
            array = np.asarray(ids)
        except ValueError as error:  # ragged
            raise TypeError(f"{self._what}: ids is {type(ids).__name__}: {error}") from None
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            what = f"array of {array.dtype} {array.shape}" if array.ndim else type(ids).__name__
            raise TypeError(
                f"{self._what}: ids is {what}, expected a sequence (n,) of what open() returned"
            )
        return array.astype(np.int64)

    def _as_id(self, id: Any) -> int:
        """An id as an int; -1 for integers that are none."""
        if isinstance(id, bool):
            raise TypeError(f"{self._what}: id is bool, expected what open() returned")
        try:
            number = operator.index(id)
        except TypeError:
            raise TypeError(
                f"{self._what}: id is {type(id).__name__}, expected what open() returned"
            ) from None
        return number if 0 <= number < 1 << 63 else -1

    def _claimable(self, ids: Array) -> Array:
        """The slots of ids, each open, there once and not in use; or an error that says which."""
        slots = ids & _MASK
        inside = (ids >= 0) & (slots < len(self._ids))
        known = inside & (self._ids[np.where(inside, slots, 0)] == ids)
        if not known.all():
            id = int(ids[~known][0])
            raise LookupError(f"{self._what}: no stream {id}: it was closed, or never opened here")
        if len(ids) > 1:
            ordered = np.sort(ids)
            twice = ordered[1:][ordered[1:] == ordered[:-1]]
            if twice.size:
                raise ValueError(f"{self._what}: ids has stream {int(twice[0])} twice")
        busy = self._busy[slots]
        if busy.any():
            id = int(ids[busy][0])
            raise BusyError(f"{self._what}: stream {id} is in use by another thread")
        return slots
