"""`ModelStream`: a whole model whose states are carried from call to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import BusyError
from fastrnn.models.groove import Groove
from fastrnn.models.kept import row_numbers
from fastrnn.models.live import NAME, Live
from fastrnn.models.ops.table import Array
from fastrnn.models.recurrence import Recurrence
from fastrnn.streams.states import each_row, seal, unseal
from fastrnn.streams.turns import in_turn


def check_batch(batch: Any) -> None:
    """ValueError unless `batch` is a number of rows or None."""
    if batch is not None and (
        isinstance(batch, bool)
        or not isinstance(batch, (int, np.integer))
        or not 1 <= batch < 2**31
    ):
        raise ValueError(f"{NAME}: batch={batch!r}, expected an integer >= 1 or None")


class ModelStream(Live):
    """B streams through a model, stepped together; made by `model.stream(batch)`.

    A step takes what one call of the file takes, in the file's own shapes, without the inputs and
    outputs that are states. A stream made without `batch` is one row, and its arrays have no axis
    for it. Belongs to one thread at a time: a call that meets another in progress raises BusyError,
    or waits for its end if it may (`wait=True`). Whatever raises leaves the state as it was.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        batch: int | None,
        fingerprint: Callable[[], bytes],
        initial_state: Any = None,
    ) -> None:
        check_batch(batch)
        super().__init__()
        self.batch = batch
        self._make_fingerprint = fingerprint
        self._recurrence = recurrence
        self._intake, self._outlet = recurrence.intake(NAME), recurrence.outlet
        self._initial = (
            recurrence.types.zeros(batch or 1)
            if initial_state is None
            else recurrence.types.taken(initial_state, batch, NAME)
        )
        self._states = [state.copy() for state in self._initial]
        self._groove: Groove | None = None

    def step(
        self,
        *args: npt.ArrayLike,
        out: Array | None = None,
        wait: bool = False,
        **named: npt.ArrayLike,
    ) -> Any:
        """Advance every row by one call of the file.

        Parameters
        ----------
        args, named : arrays
            The inputs that are no states, in the file's order or by name.
        out : array, optional
            Where to put the result of a model with one output.
        wait : bool
            Whether to wait while another thread is in a call.

        Returns
        -------
        array, or dict of arrays by name where there are several outputs

        Raises
        ------
        ValueError, TypeError
            For a shape or type that does not fit, or a node that cannot be computed.
        BusyError
            If another thread is in a call.
        """
        if wait:
            return in_turn(True, self._step, args, named, out)
        return self._step(args, named, out)

    def _step(self, args: Sequence[Any], named: Mapping[str, Any], out: Array | None) -> Any:
        if not self._lock.acquire(False):
            raise BusyError(f"{NAME}: in use by another thread")
        try:
            groove = self._groove
            if groove is not None and not named and groove.fits(args):
                return self._outlet.named(groove(args, out))
            return self._first(self._intake.rows(args, named, self.batch), out)
        finally:
            self._lock.release()

    def _first(self, rows: list[Array], out: Array | None) -> Any:
        """A step with inputs of other shapes than the last one's."""
        batched = self.batch is not None
        groove = self._recurrence.groove(rows, self._states, batched)
        if groove is None:
            target = None if out is None else self._outlet.rows(out, batched)
            made = self._recurrence.advance(rows, self._states, None, target)
            return self._outlet.answer(made, batched) if out is None else out
        made = groove(self._intake.shown(rows, batched), out)
        if self._groove is not None:
            self._recurrence.leave(self._groove)
        self._groove, self._states = groove, groove.states
        return self._outlet.named(made)

    def reset(self, rows: npt.ArrayLike | None = None, *, wait: bool = False) -> None:
        """Begin anew: all rows, or `rows`: an index, a sequence of them or a bool mask.

        Waits and raises as `step`; IndexError for rows that there are not.
        """
        chosen = row_numbers(rows, self.batch or 1, NAME)
        in_turn(wait, self._set, self._initial, chosen)

    @property
    def state(self) -> Any:
        """A copy of the state: an array, or where there are several a dict by the inputs' names.

        In the file's shape, with the batch where the file has it. Setting copies in; for what does
        not fit it raises ValueError or TypeError and changes nothing.
        """
        return self._recurrence.types.shown(self._copies(), self.batch is not None)

    @state.setter
    def state(self, state: Any) -> None:
        self._set(self._recurrence.types.taken(state, self.batch, NAME), slice(None))

    def _set(self, states: list[Array], rows: Any) -> None:
        with self._turn():
            for own, state in zip(self._states, states, strict=True):
                own[rows] = state[rows]

    def save(self, *, wait: bool = False) -> Any:
        """Return the state as bytes that `load` takes, as a pool's; with a batch a list, by row.

        A pool of the same model takes them, and the other way round. Waits and raises as `step`.
        """
        states = in_turn(wait, self._copies)
        saved = [
            seal(
                self._fingerprint,
                self._recurrence.types.packed([state[row : row + 1] for state in states]),
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
            If it is of another number of rows, or not bytes.
        BusyError
            If another thread is in a call.
        """
        rows = each_row(data, self.batch, NAME)
        unpacked = self._recurrence.types.unpacked
        loaded = [unpacked(unseal(row, self._fingerprint, NAME), NAME) for row in rows]
        states = [np.concatenate(parts) for parts in zip(*loaded, strict=True)]
        in_turn(wait, self._set, states, slice(None))

    def _copies(self) -> list[Array]:
        with self._turn():
            return [state.copy() for state in self._states]

    @cached_property
    def _fingerprint(self) -> bytes:
        return self._make_fingerprint()

    def __repr__(self) -> str:
        return f"<{NAME}, batch={self.batch}>"
