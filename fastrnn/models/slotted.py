"""`Pool`: streams that come and go, whatever they keep from call to call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from fastrnn.errors import PoolFullError
from fastrnn.formats import onnx
from fastrnn.models.inputs import element_dtype
from fastrnn.models.ops.table import Array
from fastrnn.streams.herd import Herd
from fastrnn.streams.pool import MOST_STREAMS, Ids
from fastrnn.streams.slots import Slots
from fastrnn.streams.states import seal, unseal
from fastrnn.streams.turns import in_turn

NAME = "model pool"
S = TypeVar("S")  # what some streams keep from call to call


class Pool(Herd, Generic[S]):
    """Streams that come and go, whatever they keep: ids, states saved and loaded, growth."""

    _name = NAME

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

    @abstractmethod
    def _frames(self) -> tuple[onnx.Value, onnx.Value]:
        """The only input and output of one stream and frame; ValueError if there are more."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one frame of one stream. With `output_shape` and `dtype` for what serves frames.

        ValueError where the model has several inputs or outputs, or the file leaves it open.
        """
        return self._shape(self._frames()[0])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a frame gives. Raises as `input_shape`."""
        return self._shape(self._frames()[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of both. Raises as `input_shape`."""
        one, other = (element_dtype(value) for value in self._frames())
        if one != other:
            raise ValueError(f"{NAME}: takes {one} and gives {other}, expected one type")
        return one

    def _shape(self, value: onnx.Value) -> tuple[int, ...]:
        shape = [n for n in value.shape or () if isinstance(n, int)]
        if value.shape is None or len(shape) < len(value.shape):
            raise ValueError(
                f"{NAME}: a frame of {value.name!r} is {value.shape}, expected numbers: say them "
                "with load_model's shapes="
            )
        return tuple(shape)

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

    def _open_one(self) -> int:
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

    def _close_one(self, id: int) -> None:
        self._slots.close(id)

    def _evict(self, idle_seconds: float) -> list[int]:
        return self._slots.evict(idle_seconds)

    def _clone_one(self, id: int) -> int:
        return self._open(self._read([id]))

    def reset(self, ids: Ids, *, wait: bool = False) -> None:
        """Have the streams `ids` begin anew. Waits and raises as `step`."""
        in_turn(wait, self._write, ids, self._fresh())

    def _read(self, ids: Ids) -> S:
        with self._slots.using(ids) as slots:
            return self._get(slots)

    def _write(self, ids: Ids, state: S) -> None:
        with self._slots.using(ids) as slots:
            self._put(slots, state)

    def _save_one(self, id: int) -> bytes:
        return seal(self._fingerprint, self._pack(self._read([id])))

    def _load_one(self, data: bytes) -> int:
        return self._open(self._unpack(unseal(data, self._fingerprint, NAME)))

    @cached_property
    def _fingerprint(self) -> bytes:
        return self._make_fingerprint()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles, which would share or lose the live states."""
        raise TypeError(f"{NAME}: cannot be copied or pickled; save its streams: pool.save(id)")

    def __repr__(self) -> str:
        return f"<{NAME}, {len(self)} of {self.capacity} streams open>"
