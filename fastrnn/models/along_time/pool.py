"""`TimePool`: many streams along time that come and go, each at a frame of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn.formats import onnx
from fastrnn.models.along_time.layout import TimeLayout, in_front
from fastrnn.models.along_time.saved import packed, unpacked
from fastrnn.models.along_time.unrolled import Unrolled, front
from fastrnn.models.batch import pieces
from fastrnn.models.ops.table import Array
from fastrnn.models.runner import MOST_ROWS
from fastrnn.models.slotted import NAME, Pool
from fastrnn.streams.pool import Ids
from fastrnn.streams.turns import in_turn

_FINISHED = -1  # in place of a phase


class State(NamedTuple):
    """What some streams in one phase keep: arrays (B, ...)."""

    phase: int
    kept: dict[str, Array]


class TimePool(Pool[State]):
    """The states of many streams through a model along time; made by `model.pool(capacity)`.

    As `StreamPool`: a stream is known by the id that `open` returned, any number of threads may use
    a pool at once, and whatever raises leaves every state as it was. Streams may be at different
    frames: those in one phase are computed together. A stream gives exactly what it gives alone,
    bit for bit.
    """

    def __init__(
        self,
        unrolled: Unrolled,
        capacity: int,
        grow: bool,
        fingerprint: Callable[[], bytes],
        initial_state: Any = None,
    ) -> None:
        super().__init__(capacity, grow, fingerprint)
        self._unrolled = unrolled
        self._initial = (
            State(0, unrolled.begin(1))
            if initial_state is None
            else State(*unrolled.taken(initial_state, 1, NAME))
        )
        self._layout = TimeLayout(unrolled, NAME)
        self._phases = np.zeros(self.capacity, np.int64)
        self._time: dict[str, int | None] = {}  # of what waits, its rows in front
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
        for phase in range(unrolled.phases):
            for one in unrolled.kept(phase):
                fact = one.fact
                time = in_front(fact.time, fact.batch) if one.frames else None  # type: ignore[arg-type]
                self._time[one.key] = time
            for key, (shape, dtype) in unrolled.shapes(phase, 1).items():
                time = self._time[key]
                shape = shape[1:]
                if time is not None:
                    shape = (shape[time - 1], *shape[: time - 1], *shape[time:])
                if key not in shapes or shapes[key][0] < shape:
                    shapes[key] = shape, dtype
        self._slabs = {
            key: np.zeros((self.capacity, *shape), dtype) for key, (shape, dtype) in shapes.items()
        }

    @property
    def delay(self) -> Any:
        """As `TimeStream.delay`."""
        return self._layout.by_name(self._unrolled.delay)

    def _fresh(self) -> State:
        return self._initial

    def _frames(self) -> tuple[onnx.Value, onnx.Value]:
        return self._layout.only_frame()

    def _get(self, slots: Array) -> State:
        """What streams in one phase keep."""
        phase = int(self._phases[slots[0]])
        if phase == _FINISHED:
            raise RuntimeError(f"{NAME}: a stream is finished; reset it to begin anew")
        kept = {}
        for one in self._unrolled.kept(phase):
            slab, time = self._slabs[one.key], self._time[one.key]
            if time is None:
                kept[one.key] = slab[slots]
            else:
                kept[one.key] = np.moveaxis(slab[slots, : one.frames], 1, time)
        return State(phase, kept)

    def _put(self, slots: Array, state: State) -> None:
        for key, array in state.kept.items():
            slab, time = self._slabs[key], self._time[key]
            if time is None:
                slab[slots] = array
            else:
                slab[slots, : array.shape[time]] = np.moveaxis(array, time, 1)
        self._phases[slots] = state.phase

    def _room(self, capacity: int) -> None:
        more = capacity - len(self._phases)
        self._phases = np.concatenate([self._phases, np.zeros(more, np.int64)])
        for key, slab in self._slabs.items():
            self._slabs[key] = np.concatenate([slab, np.zeros((more, *slab.shape[1:]), slab.dtype)])

    def _pack(self, state: State) -> bytes:
        return packed(self._unrolled, state.phase, state.kept)

    def _unpack(self, content: bytes) -> State:
        return State(*unpacked(self._unrolled, content, NAME))

    def step(
        self,
        ids: Ids,
        *args: npt.ArrayLike,
        out: Array | None = None,
        wait: bool = False,
        **named: npt.ArrayLike,
    ) -> Any:
        """Advance the streams `ids` by one frame.

        Parameters
        ----------
        ids : sequence of int (n,)
            Any streams of the pool in any order, each once.
        args, named : arrays
            The inputs, in the file's order or by name, without the axis of time and with n rows.
        out : array, optional
            Where to put the result of a model with one output.
        wait : bool
            Whether to wait while another thread is using one of the streams.

        Returns
        -------
        array, or dict of arrays by name where there are several outputs
            One frame of each stream, without the axis of time.

        Raises
        ------
        LookupError
            If an id is no open stream.
        ValueError, TypeError
            For an id that is there twice, a shape or type that does not fit; or where one frame in
            is not one frame out at once.
        BusyError
            If another thread is using one of them.
        RuntimeError
            If one is finished.
        """
        given = self._layout.frame(args, named, len(ids))
        target = None if out is None else self._layout.out(out)
        groups = in_turn(wait, self._advance, ids, given, 1, False, target)
        if target is not None:
            return out
        if len(groups) == 1:
            return self._layout.named(self._layout.made(groups[0][1], True, True))
        made = {}
        for name, fact in self._unrolled.outputs.items():
            one = front(np.empty(fact.shape(1, 1), fact.dtype), fact)
            whole = np.empty((len(ids), *one.shape[1:]), one.dtype)
            for where, arrays in groups:
                whole[where] = arrays[name]
            made[name] = whole
        return self._layout.named(self._layout.made(made, True, True))

    def run(
        self, ids: Ids, *args: npt.ArrayLike, wait: bool = False, **named: npt.ArrayLike
    ) -> list[Any]:
        """Let any number of frames come to the streams `ids`, to each as many.

        Parameters
        ----------
        args, named : arrays (n, T, ...)
            The inputs: of each stream T frames, one behind another wherever the file has time.

        Returns
        -------
        list of arrays (T', ...), or of dicts of arrays by name, one for each id
            The frames that are complete, perhaps none.

        Raises
        ------
        As `step`.
        """
        given, frames = self._layout.rows(args, named, len(ids))
        return self._each(in_turn(wait, self._advance, ids, given, frames, False), len(ids))

    def finish(self, ids: Ids, *, wait: bool = False, **named: npt.ArrayLike) -> list[Any]:
        """Return the frames that are left of the streams `ids`; then only `reset` and `close` are
        of use. As `run`, of the inputs that have no axis of time.
        """
        given = self._layout.rest(named, len(ids))
        return self._each(in_turn(wait, self._advance, ids, given, 0, True), len(ids))

    def _each(self, groups: list[tuple[Array, dict[str, Array]]], count: int) -> list[Any]:
        """What each stream gives by itself."""
        results: list[Any] = [None] * count
        for where, made in groups:
            for row, number in enumerate(where):
                results[number] = self._layout.row(made, row)
        return results

    def _advance(
        self,
        ids: Ids,
        given: Mapping[str, Array],
        frames: int,
        last: bool,
        out: Array | None = None,
    ) -> list[tuple[Array, dict[str, Array]]]:
        """Advance streams; of those in each phase their places in `ids`, and outputs (n, ...)."""
        unrolled = self._unrolled
        with self._slots.using(ids) as slots:
            done = []
            for where in self._groups(slots):
                state = self._get(slots[where])
                rows = {name: array[where] for name, array in given.items()}
                advanced = unrolled.advance(state.phase, rows, state.kept, frames, len(where), last)
                done.append((where, advanced))
            if out is not None:
                self._layout.fill(out, [(where, one.made) for where, one in done], len(slots))
            for where, one in done:
                self._put(slots[where], State(_FINISHED if last else one.phase, one.kept))
        return [(where, one.made) for where, one in done]

    def _groups(self, slots: Array) -> Iterator[Array]:
        """The places of streams that are in one phase, cut into pieces of few sizes."""
        if not len(slots):
            return
        phases = self._phases[slots]
        for phase in np.unique(phases):
            where = np.flatnonzero(phases == phase)
            for start, stop in pieces(len(where), MOST_ROWS):
                yield where[start:stop]
