"""`TimeStream`: a model without states whose frames come one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import BusyError
from fastrnn.models.along_time.layout import TimeLayout
from fastrnn.models.along_time.saved import packed, unpacked
from fastrnn.models.along_time.unrolled import PHASE, Unrolled
from fastrnn.models.groove import Groove
from fastrnn.models.kept import row_numbers
from fastrnn.models.live import NAME, Live
from fastrnn.models.ops.table import Array
from fastrnn.models.stream import check_batch
from fastrnn.streams.states import each_row, seal, unseal
from fastrnn.streams.turns import in_turn


class TimeStream(Live):
    """B streams through a model along time, stepped together; made by `model.stream(batch)`.

    What `run` and `finish` return, put together, is what the whole call returns, bit for bit,
    however time is cut. A stream made without `batch` is one row, and its arrays have no axis for
    it. Belongs to one thread at a time: a call that meets another in progress raises BusyError, or
    waits for its end if it may (`wait=True`). Whatever raises leaves the state as it was.
    """

    def __init__(
        self,
        unrolled: Unrolled,
        batch: int | None,
        fingerprint: Callable[[], bytes],
        initial_state: Any = None,
    ) -> None:
        check_batch(batch)
        super().__init__()
        self.batch = batch
        self._make_fingerprint = fingerprint
        self._unrolled = unrolled
        self._layout = TimeLayout(unrolled, NAME)
        self._initial = (
            (0, unrolled.begin(batch or 1))
            if initial_state is None
            else unrolled.taken(initial_state, batch or 1, NAME)
        )
        self._phase, self._kept = self._initial[0], dict(self._initial[1])
        self._finished = False
        self._groove: Groove | None = None
        self._single = False  # whether the groove is one of steps
        self._give_back: Callable[[], None] = lambda: None
        self._last: tuple[bool, int] | None = None  # whether it was a step, and its frames

    @property
    def delay(self) -> Any:
        """By how many of its frames an output lags: as many at most are left for `finish`.

        A dict by name where there are several outputs.
        """
        return self._layout.by_name(self._unrolled.delay)

    def step(self, *args: npt.ArrayLike, wait: bool = False, **named: npt.ArrayLike) -> Any:
        """Advance every row by one frame.

        Parameters
        ----------
        args, named : arrays
            The inputs, in the file's order or by name, without the axis of time; those that have
            none are given with each call.
        wait : bool
            Whether to wait while another thread is in a call.

        Returns
        -------
        array, or dict of arrays by name where there are several outputs
            One frame, without the axis of time.

        Raises
        ------
        ValueError, TypeError
            For a shape or type that does not fit; or where one frame in is not one frame out at
            once.
        BusyError
            If another thread is in a call.
        RuntimeError
            After `finish`.
        """
        if wait:
            return in_turn(True, self._call, args, named, True)
        return self._call(args, named, True)

    def run(self, *args: npt.ArrayLike, wait: bool = False, **named: npt.ArrayLike) -> Any:
        """Let any number of frames come, none among them; return those that are complete.

        Parameters
        ----------
        args, named : arrays
            The inputs, as in a whole call.

        Returns
        -------
        array, or dict of arrays by name where there are several outputs
            As of a whole call, with perhaps no frames.

        Raises
        ------
        As `step`.
        """
        return in_turn(wait, self._call, args, named, False)

    def finish(self, *, wait: bool = False, **named: npt.ArrayLike) -> Any:
        """Return the frames that are left after the last; then only `reset` is of use.

        Parameters
        ----------
        named : arrays
            The inputs that have no axis of time, by name.

        Raises
        ------
        As `step`.
        """
        return in_turn(wait, self._finish, self._layout.rest(named, self.batch))

    def _finish(self, given: Mapping[str, Array]) -> Any:
        with self._turn():
            self._check_begun()
            self._leave()
            made = self._advance(given, 0, True)
            self._finished = True
        return self._shown(made, False)

    def _call(self, args: Sequence[Any], named: Mapping[str, Any], single: bool) -> Any:
        if not self._lock.acquire(False):
            raise BusyError(f"{NAME}: in use by another thread")
        try:
            groove = self._groove if single is self._single else None
            if groove is not None and not named and groove.fits(args):
                return self._layout.named(groove(args))
            return self._first(groove, args, named, single)
        finally:
            self._lock.release()

    def _first(
        self, groove: Groove | None, args: Sequence[Any], named: Mapping[str, Any], single: bool
    ) -> Any:
        """Frames that are converted, or that are not as many as the last ones."""
        layout = self._layout
        if single:
            given, frames = layout.frame(args, named, self.batch), 1
        else:
            given, frames = layout.frames(args, named, self.batch)
        self._check_begun()
        if groove is None:
            self._leave()
            if self._last == (single, frames):  # they seem to recur
                groove = self._settled(given, frames, single)
        if groove is not None:
            shown = layout.given(given, single, self.batch is not None)
            if groove.fits(shown):
                return layout.named(groove(shown))
            self._leave()
        made = self._advance(given, frames, False)
        self._last = (single, frames)
        return self._shown(made, single)

    def _settled(self, given: Mapping[str, Array], frames: int, single: bool) -> Groove | None:
        """A run of this stream's own, in whose arrays what is kept then is."""
        found = self._unrolled.settled(self._phase, given, self._kept, frames, self.batch or 1)
        if found is None:
            return None
        batched = self.batch is not None
        groove = Groove(
            found.run,
            self._layout.given(found.given, single, batched),
            self._layout.made(found.made, single, batched),
            [before for before, _ in found.kept.values()],
            [after for _, after in found.kept.values()],
        )
        self._kept.update(zip(found.kept, groove.states, strict=True))
        self._groove, self._single, self._give_back = groove, single, found.give_back
        return groove

    def _leave(self) -> None:
        """Take what is kept out of the groove's arrays, if there is one."""
        if self._groove is not None:
            self._kept = {key: array.copy() for key, array in self._kept.items()}
            self._groove = None
            self._give_back()

    def _shown(self, made: Mapping[str, Array], single: bool) -> Any:
        return self._layout.named(self._layout.made(made, single, self.batch is not None))

    def _check_begun(self) -> None:
        if self._finished:
            raise RuntimeError(f"{NAME}: finished; reset it to begin anew")

    def _advance(self, given: Mapping[str, Array], frames: int, last: bool) -> Mapping[str, Array]:
        rows = self.batch or 1
        done = self._unrolled.advance(self._phase, given, self._kept, frames, rows, last)
        if not last:
            for key in done.gone:
                del self._kept[key]
            self._kept.update(done.kept)
            self._phase = done.phase
        return done.made

    def reset(self, rows: npt.ArrayLike | None = None, *, wait: bool = False) -> None:
        """Begin anew: all rows, or `rows`: an index, a sequence of them or a bool mask.

        Some rows alone can where nothing waits for frames to come. Waits and raises as `step`;
        ValueError where they cannot, IndexError for rows that there are not.
        """
        chosen = row_numbers(rows, self.batch or 1, NAME)
        in_turn(wait, self._reset, chosen, rows is None)

    def _reset(self, chosen: Any, whole: bool) -> None:
        with self._turn():
            self._leave()
            phase, kept = self._initial
            if whole:
                self._phase, self._kept, self._finished = phase, dict(kept), False
                return
            if self._phase != phase or self._finished:
                raise ValueError(
                    f"{NAME}: its rows are at the same frame, so that some alone cannot begin "
                    "anew; a pool's can"
                )
            for key, array in kept.items():
                own = self._kept[key].copy()
                own[chosen] = array[chosen]
                self._kept[key] = own

    @property
    def state(self) -> dict[str, Array]:
        """A copy of the state: arrays that wait, and which phase that is.

        For another stream of the same batch and model. Setting copies in; for what does not fit it
        raises ValueError or TypeError and changes nothing.
        """
        with self._turn():
            if self._finished:
                raise RuntimeError(f"{NAME}: finished; it has no state")
            arrays = {key: array.copy() for key, array in self._kept.items()}
            return {PHASE: np.array(self._phase), **arrays}

    @state.setter
    def state(self, state: Any) -> None:
        self._replace(*self._unrolled.taken(state, self.batch or 1, NAME))

    def save(self, *, wait: bool = False) -> Any:
        """Return the state as bytes that `load` takes, as a pool's; with a batch a list, by row.

        A pool of the same model takes them, and the other way round. Waits and raises as `step`;
        RuntimeError where the stream is finished.
        """
        state = in_turn(wait, lambda: self.state)
        phase = int(state.pop(PHASE))
        saved = [
            seal(
                self._fingerprint,
                packed(self._unrolled, phase, {k: a[row : row + 1] for k, a in state.items()}),
            )
            for row in range(self.batch or 1)
        ]
        return saved[0] if self.batch is None else saved

    def load(self, data: Any, *, wait: bool = False) -> None:
        """Go on in the state that `save` returned: bytes, or with a batch a list of them, by row.

        Raises
        ------
        StateError
            If it is damaged, or of another model; the state is as before.
        ValueError, TypeError
            If it is of another number of rows, or of rows that are not at the same frame of a
            stride, or not bytes.
        BusyError
            If another thread is in a call.
        """
        rows = each_row(data, self.batch, NAME)
        loaded = [
            unpacked(self._unrolled, unseal(row, self._fingerprint, NAME), NAME) for row in rows
        ]
        phases = {phase for phase, _ in loaded}
        if len(phases) > 1:
            raise ValueError(f"{NAME}: its rows are at the same frame, and these states are not")
        kept = {key: np.concatenate([arrays[key] for _, arrays in loaded]) for key in loaded[0][1]}
        in_turn(wait, self._replace, phases.pop(), kept)

    def _replace(self, phase: int, kept: Mapping[str, Array]) -> None:
        with self._turn():
            self._leave()
            self._phase, self._kept, self._finished = phase, dict(kept), False

    @cached_property
    def _fingerprint(self) -> bytes:
        return self._make_fingerprint()

    def __repr__(self) -> str:
        return f"<{NAME} along time, batch={self.batch}>"
