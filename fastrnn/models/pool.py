"""`ModelPool`: streams through a model that come and go, stepped in any subset and order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.formats import onnx
from fastrnn.models.ops.table import Array
from fastrnn.models.recurrence import Recurrence
from fastrnn.models.slotted import NAME, Pool
from fastrnn.streams.pool import Ids
from fastrnn.streams.turns import in_turn


class ModelPool(Pool[list[Array]]):
    """The states of many streams through a model; made by `model.pool(capacity)`.

    As `StreamPool`: a stream is known by the id that `open` returned, any number of threads may use
    a pool at once, and whatever raises leaves every state as it was. A step takes and gives arrays
    as one call of the file does, with one row for each id along the batch axis, without the inputs
    and outputs that are states. A stream gives exactly what it gives alone, bit for bit.
    """

    def __init__(
        self,
        recurrence: Recurrence,
        capacity: int,
        grow: bool,
        fingerprint: Callable[[], bytes],
        initial_state: Any = None,
    ) -> None:
        super().__init__(capacity, grow, fingerprint)
        self._recurrence = recurrence
        self._initial = (
            recurrence.types.zeros(1)
            if initial_state is None
            else recurrence.types.taken(initial_state, None, NAME)
        )
        self._intake, self._outlet = recurrence.intake(NAME), recurrence.outlet
        self._steps = recurrence.intake_of_steps(NAME)
        self._states = recurrence.types.zeros(self.capacity)

    def _fresh(self) -> list[Array]:
        return self._initial

    def _frames(self) -> tuple[onnx.Value, onnx.Value]:
        return self._recurrence.frame(NAME)

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

    def run(
        self, ids: Ids, *args: npt.ArrayLike, wait: bool = False, **named: npt.ArrayLike
    ) -> Any:
        """Advance the streams `ids` by T calls of the file each.

        Parameters
        ----------
        args, named : arrays (n, T, ...)
            The inputs of T steps, rows in front.

        Returns
        -------
        array (n, T, ...), or dict of arrays by name where there are several outputs

        Raises
        ------
        As `step`.
        """
        return in_turn(wait, self._run, ids, args, named)

    def _run(self, ids: Ids, args: Sequence[Any], named: dict[str, Any]) -> Any:
        steps = self._steps.rows(args, named, len(ids))
        count = steps[0].shape[1]
        made = []
        with self._slots.using(ids) as slots:
            before = self._get(slots)
            try:
                for step in range(count):
                    rows = [array[:, step] for array in steps]
                    made.append(self._recurrence.advance(rows, self._states, slots))
                if not count:
                    none = [np.zeros((0, *array.shape[2:]), array.dtype) for array in steps]
                    made.append(self._recurrence.advance(none, []))
            except BaseException:
                self._put(slots, before)
                raise
        outputs = [np.stack(arrays, axis=1) for arrays in zip(*made, strict=True)]
        if not count:
            outputs = [np.zeros((len(ids), 0, *a.shape[2:]), a.dtype) for a in outputs]
        return self._outlet.named(outputs)

    def get_state(self, ids: Ids, *, wait: bool = False) -> Any:
        """Copies of the states of the streams `ids`, as `ModelStream.state` has them.

        Waits and raises as `step`.
        """
        return self._recurrence.types.shown(in_turn(wait, self._read, ids), True)

    def set_state(self, ids: Ids, state: Any, *, wait: bool = False) -> None:
        """Copy in states as `get_state` returns them. Waits and raises as `step`."""
        in_turn(wait, self._write, ids, self._recurrence.types.taken(state, len(ids), NAME))
