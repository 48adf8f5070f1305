"""`TimeStream`: a model without states whose frames come one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import BusyError
from fastrnn.models.along_time.layout import TimeLayout
from fastrnn.models.along_time.unrolled import PHASE, Unrolled
from fastrnn.models.kept import row_numbers
from fastrnn.models.ops.table import Array
from fastrnn.models.stream import NAME, check_batch
from fastrnn.streams.turns import in_turn


class TimeStream:
    """B streams through a model along time, stepped together; made by `model.stream(batch)`.

    What `run` and `finish` return, put together, is what the whole call returns, bit for bit,
    however time is cut. A stream made without `batch` is one row, and its arrays have no axis for
    it. Belongs to one thread at a time: a call that meets another in progress raises BusyError, or
    waits for its end if it may (`wait=True`). Whatever raises leaves the state as it was.
    """

    def __init__(self, unrolled: Unrolled, batch: int | None, initial_state: Any = None) -> None:
        check_batch(batch)
        self.batch = batch
        self._unrolled = unrolled
        self._layout = TimeLayout(unrolled, NAME)
        self._lock = Lock()
        self._initial = (
            (0, unrolled.begin(batch or 1))
            if initial_state is None
            else unrolled.taken(initial_state, batch or 1, NAME)
        )
        self._phase, self._kept = self._initial[0], dict(self._initial[1])
        self._finished = False

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
        given = self._layout.frame(args, named, self.batch)
        made = in_turn(wait, self._advance, given, 1, False)
        return self._layout.one(made, self.batch is not None)

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
        given, frames = self._layout.frames(args, named, self.batch)
        made = in_turn(wait, self._advance, given, frames, False)
        return self._layout.all(made, self.batch is not None)

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
        given = self._layout.rest(named, self.batch)
        made = in_turn(wait, self._advance, given, 0, True)
        return self._layout.all(made, self.batch is not None)

    def _advance(self, given: Mapping[str, Array], frames: int, last: bool) -> Mapping[str, Array]:
        with self._turn():
            if self._finished:
                raise RuntimeError(f"{NAME}: finished; reset it to begin anew")
            rows = self.batch or 1
            done = self._unrolled.advance(self._phase, given, self._kept, frames, rows, last)
            if last:
                self._finished = True
            else:
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
        phase, kept = self._unrolled.taken(state, self.batch or 1, NAME)
        with self._turn():
            self._phase, self._kept, self._finished = phase, dict(kept), False

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(False):
            raise BusyError(f"{NAME}: in use by another thread")
        try:
            yield
        finally:
            self._lock.release()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles, which would share or lose the live state."""
        raise TypeError(
            f"{NAME}: cannot be copied or pickled; copy its state into another stream of the same "
            "model: model.stream(batch).state = stream.state"
        )

    def __repr__(self) -> str:
        return f"<{NAME} along time, batch={self.batch}>"
