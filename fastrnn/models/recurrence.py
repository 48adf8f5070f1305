"""`Recurrence`: one call of a graph whose states are inputs and outputs of it, for any rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.models.batch import Batch, pieces
from fastrnn.models.fold import fold
from fastrnn.models.graph import Graph
from fastrnn.models.intake import Intake, Outlet
from fastrnn.models.kept import StateTypes
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.step import Binder
from fastrnn.models.tape import Tape, record

MOST_ROWS = 256  # of one run; more come one piece after another
_SHAPES = 64  # for so many different shapes tapes are kept
_SPARE = 8  # tapes of one shape that are kept for later


class Recurrence:
    """A graph with explicit states, run over batches whose rows do not touch each other.

    Arrays here have their rows in front, (B, ...); the graph's own axes are `batch`'s. Any number
    of threads may run it at once.

    given: names of the inputs that are no states. made: names of the outputs that are none.
    """

    def __init__(
        self, graph: Graph, binder: Binder, states: Mapping[str, str], batch: Batch
    ) -> None:
        self.graph, self.binder = graph, binder
        self.batch = batch
        values = {value.name: value for value in self.graph.inputs}
        names = list(values)
        self.given = [name for name in names if name not in states]
        self.states = dict(states)
        after = set(states.values())
        self.made = [name for name in self.graph.outputs if name not in after]
        self.plan = Plan.of(graph, binder)
        own = [*self.given, *states]
        self.order = [own.index(name) for name in names]
        outputs = list(self.graph.outputs)
        self.results = [(name, outputs.index(name)) for name in (*self.made, *states.values())]
        self.types = StateTypes([values[name] for name in states], batch)
        self.outlet = Outlet(self.made, batch)
        self._free: OrderedDict[Any, list[_Run]] = OrderedDict()

    def intake(self, what: str) -> Intake:
        """The checks of `given`; messages begin with `what`."""
        values = {value.name: value for value in self.graph.inputs}
        return Intake([values[name] for name in self.given], self.batch, what)

    def advance(
        self,
        given: Sequence[Array],
        states: Sequence[Array],
        at: Array | None = None,
        out: Array | None = None,
    ) -> list[Array]:
        """The outputs for rows of inputs, and the states advanced in place.

        Parameters
        ----------
        given : arrays (B, ...)
        states : arrays (B, ...), or of more rows with `at`
        at : (B,) rows of the states, each once; None: all
        out : array (B, ...) for the only output, optional

        Raises
        ------
        ValueError, TypeError
            A node cannot be computed, or `out` does not fit; the states are as before.
        """
        rows = len(given[0])
        if not rows:
            return self._nothing(given)
        results: list[Array] = [] if out is None else [out]
        later: list[tuple[Any, list[Array]]] = []
        for start, stop in self._pieces(rows, at is not None):
            run = self._take(start, stop, given)
            chosen = slice(start, stop) if at is None else at[start:stop]
            for buffer, array in zip(run.states, states, strict=True):
                if at is None:
                    np.copyto(buffer, array[chosen])
                else:
                    array.take(chosen, 0, buffer, "clip")
            run.run()
            if out is not None:
                _check_out(out, rows, run.made)
            elif not results:
                results = [np.empty((rows, *made.shape[1:]), made.dtype) for made in run.made]
            for result, made in zip(results, run.made, strict=True):
                np.copyto(result[start:stop], made)
            if stop == rows:
                for part, arrays in [*later, (chosen, run.news)]:
                    for state, array in zip(states, arrays, strict=True):
                        state[part] = array
            else:
                later.append((chosen, [array.copy() for array in run.news]))
            self._give(run)
        return results

    def _nothing(self, given: Sequence[Array]) -> list[Array]:
        """The outputs for no rows, whose shapes are those of one row."""
        run = self._take(0, 1, [np.zeros((1, *array.shape[1:]), array.dtype) for array in given])
        self._give(run)
        return [made[:0].copy() for made in run.made]

    def _pieces(self, rows: int, any_number: bool) -> Iterator[tuple[int, int]]:
        if self.batch.single:
            return pieces(rows, 1)
        if any_number or rows > MOST_ROWS:
            return pieces(rows, MOST_ROWS)
        return iter(((0, rows),))

    def _take(self, start: int, stop: int, given: Sequence[Array]) -> _Run:
        """A run that nobody else uses, given those rows."""
        key = (stop - start, *[array.shape[1:] for array in given])
        parts = [array[start:stop] for array in given]
        free = self._free.get(key)
        try:
            run = free.pop() if free else _Run(self, key, parts)
        except IndexError:  # another thread was faster
            run = _Run(self, key, parts)
        for buffer, part in zip(run.given, parts, strict=True):
            np.copyto(buffer, part)
        return run

    def _give(self, run: _Run) -> None:
        free = self._free.setdefault(run.key, [])
        if len(free) < _SPARE:
            free.append(run)
        while len(self._free) > _SHAPES:
            self._free.popitem(last=False)


class _Run:
    """A tape, or a plan where there can be none, and its buffers with their rows in front.

    given, states: to be filled before `run`. made, news: outputs and new states, until the next.
    """

    def __init__(self, recurrence: Recurrence, key: Any, given: Sequence[Array]) -> None:
        self.key = key
        rows: int = key[0]
        self.given = [np.array(array[:rows], order="C") for array in given]
        self.states = recurrence.types.zeros(rows)
        self._recurrence = recurrence
        buffers = [*self.given, *self.states]
        axes = [recurrence.batch.axes[n] for n in (*recurrence.given, *recurrence.states)]
        views = [rows_at(buffer, axis) for buffer, axis in zip(buffers, axes, strict=True)]
        inputs = [views[i] for i in recurrence.order]
        self._inputs = inputs
        self._plan, self._tape = _specialised(recurrence, inputs)
        self._take(self._tape.outputs if self._tape else self._plan.run(inputs))

    def run(self) -> None:
        """Compute `made` and `news`."""
        if self._tape is not None:
            self._tape.run()
        else:
            self._take(self._plan.run(self._inputs))

    def _take(self, outputs: Sequence[Array]) -> None:
        recurrence, rows = self._recurrence, self.key[0]
        seen = []
        for name, place in recurrence.results:
            axis = recurrence.batch.axes[name]
            array = outputs[place]
            if axis is not None and (array.ndim <= axis or array.shape[axis] != rows):
                raise ValueError(
                    f"output {name!r} is {array.shape}, expected {rows} rows along axis {axis}"
                )
            seen.append(array[None] if axis is None else np.moveaxis(array, axis, 0))
        count = len(recurrence.made)
        self.made, self.news = seen[:count], seen[count:]
        for name, old, new in zip(recurrence.states, self.states, self.news, strict=True):
            if old.shape != new.shape:
                raise ValueError(
                    f"state {name!r} is {old.shape[1:]} of one stream, its output {new.shape[1:]}"
                )


def rows_at(buffer: Array, axis: int | None) -> Array:
    """An array with its rows in front, with them at `axis`; None: its only row."""
    return buffer[0] if axis is None else np.moveaxis(buffer, 0, axis)


def _specialised(recurrence: Recurrence, inputs: list[Array]) -> tuple[Plan, Tape | None]:
    """The plan for inputs of these shapes, and its tape."""
    shapes: dict[str, tuple[int, ...]] = {}
    recurrence.plan.run(inputs, shapes)
    graph = fold(recurrence.graph, shapes=shapes)
    plan = Plan.of(graph, recurrence.binder)
    return plan, None if graph.data_decides else record(plan, inputs)


def _check_out(out: Array, rows: int, made: Sequence[Array]) -> None:
    wanted = (rows, *made[0].shape[1:])
    if out.dtype != made[0].dtype or not out.flags.writeable:
        raise TypeError(f"out is not a writeable array of {made[0].dtype}")
    if out.shape != wanted:
        raise ValueError(f"out is {out.shape}, expected {wanted}, rows in front")
