"""`Recurrence`: one call of a graph whose states are inputs and outputs of it, for any rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn.formats import onnx
from fastrnn.models.batch import Batch, lone_shape, pieces
from fastrnn.models.graph import Graph
from fastrnn.models.groove import Groove, check_out
from fastrnn.models.inputs import element_dtype
from fastrnn.models.intake import Intake, Outlet, to_file
from fastrnn.models.kept import StateTypes
from fastrnn.models.ops.table import Array
from fastrnn.models.runner import MOST_ROWS, Run, Runner
from fastrnn.models.step import Binder


class Recurrence:
    """A graph with explicit states. Any number of threads may advance it at once.

    Arrays have their rows in front, (B, ...). Those of a call are the inputs and outputs that are
    no states, in the graph's order.

    Parameters
    ----------
    states : input -> output
    """

    def __init__(
        self, graph: Graph, binder: Binder, states: Mapping[str, str], batch: Batch
    ) -> None:
        values = {value.name: value for value in graph.inputs}
        self.batch = batch
        self._given = [value for name, value in values.items() if name not in states]
        own = [*(value.name for value in self._given), *states]
        self._order = [own.index(name) for name in values]  # of the graph's inputs
        after = set(states.values())
        names = list(graph.outputs)
        made = [name for name in names if name not in after]
        self._made = [names.index(name) for name in made]
        self._news = [names.index(name) for name in states.values()]
        self.types = StateTypes([values[name] for name in states], batch)
        self.outlet = Outlet(made, batch)
        axes = [batch.axes[name] for name in values], [batch.axes[name] for name in names]
        self._runner = Runner(graph, binder, axes)

    def intake(self, what: str) -> Intake:
        """The checks of a call's inputs; messages begin with `what`."""
        return Intake(self._given, self.batch, what)

    def intake_of_steps(self, what: str) -> Intake:
        """The checks of the inputs of several calls, (B, T, ...)."""
        rows: dict[str, int | None] = {value.name: 0 for value in self._given}
        values = [
            replace(value, shape=(None, "steps", *lone_shape(value, self.batch.axes[value.name])))
            for value in self._given
        ]
        return Intake(values, Batch(rows, self.batch.single), what)

    def frame(self, what: str) -> tuple[onnx.Value, onnx.Value]:
        """The only input and output of one row; ValueError if there are more."""
        names = [value.name for value in self._given]
        if len(names) != 1 or len(self._made) != 1:
            made = ", ".join(self.outlet.names)
            raise ValueError(
                f"{what}: takes {', '.join(names)} and gives {made}, expected one input and output"
            )
        (value,) = self._given
        shape = lone_shape(value, self.batch.axes[value.name])
        lone = replace(value, shape=None if value.shape is None else shape)
        if value.shape is None or not all(isinstance(n, int) for n in shape):
            return lone, lone
        first = self._nothing([np.zeros((0, *shape), element_dtype(value))])[0]
        return lone, onnx.Value(self.outlet.names[0], first.dtype.name, first.shape[1:])

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
            run = self._filled([array[start:stop] for array in given], states, start, stop, at)
            made = [run.outputs[place] for place in self._made]
            news = [run.outputs[place] for place in self._news]
            if out is not None:
                check_out(out[start:stop], made)
            elif not results:
                results = [np.empty((rows, *one.shape[1:]), one.dtype) for one in made]
            for result, one in zip(results, made, strict=True):
                np.copyto(result[start:stop], one)
            chosen = slice(start, stop) if at is None else at[start:stop]
            if stop == rows:
                for part, arrays in [*later, (chosen, news)]:
                    for state, array in zip(states, arrays, strict=True):
                        state[part] = array
            else:
                later.append((chosen, [array.copy() for array in news]))
            self._runner.give(run)
        return results

    def groove(
        self, given: Sequence[Array], states: Sequence[Array], batched: bool
    ) -> Groove | None:
        """A run of one stream's own that begins in `states`; None where rows come in pieces, or
        nothing stays where it is.

        Parameters
        ----------
        given : arrays (B, ...)
        batched : whether what it is given and makes has the axis of the rows
        """
        rows = len(given[0])
        if rows > (1 if self.batch.single else MOST_ROWS):
            return None
        run, inputs = self._taken(given, states, 0, rows, None)
        if run.bound is None:
            self._runner.give(run)
            return None
        self._fill(run, inputs, states)
        own = [run.inputs[self._order.index(i)] for i in range(len(self._order))]
        count = len(self._given)
        axes = self.batch.axes
        views = [
            to_file(array, axes[value.name], batched)
            for array, value in zip(own, self._given, strict=False)
        ]
        made = [run.outputs[place] for place in self._made]
        for array, state in zip(own[count:], states, strict=True):
            np.copyto(array, state)
        news = [run.outputs[place] for place in self._news]
        return Groove(run, views, self.outlet.views(made, batched), own[count:], news)

    def leave(self, groove: Groove) -> None:
        """Take back the run of a groove whose states are elsewhere."""
        self._runner.give(groove.run)

    def _filled(
        self,
        given: Sequence[Array],
        states: Sequence[Array],
        start: int,
        stop: int,
        at: Array | None,
    ) -> Run:
        """A run of these rows, done."""
        run, inputs = self._taken(given, states, start, stop, at)
        self._fill(run, inputs, states)
        return run

    def _taken(
        self,
        given: Sequence[Array],
        states: Sequence[Array],
        start: int,
        stop: int,
        at: Array | None,
    ) -> tuple[Run, list[Array]]:
        """A run for these rows, and what is to be filled in."""
        if at is None:
            own = [*given, *[state[start:stop] for state in states]]
        else:
            own = [*given, *[state.take(at[start:stop], 0) for state in states]]
        inputs = [own[place] for place in self._order]
        return self._runner.take(stop - start, inputs), inputs

    def _fill(self, run: Run, inputs: Sequence[Array], states: Sequence[Array]) -> None:
        """Do a run of `inputs`."""
        for buffer, array in zip(run.inputs, inputs, strict=True):
            np.copyto(buffer, array)
        run.run()
        for state, place in zip(states, self._news, strict=True):
            if run.outputs[place].shape[1:] != state.shape[1:]:
                raise ValueError(
                    f"a state is {state.shape[1:]} of one stream before a call, and "
                    f"{run.outputs[place].shape[1:]} after it"
                )

    def _nothing(self, given: Sequence[Array]) -> list[Array]:
        """The outputs for no rows, whose shapes are those of one row."""
        one = [np.zeros((1, *array.shape[1:]), array.dtype) for array in given]
        run = self._filled(one, self.types.zeros(1), 0, 1, None)
        self._runner.give(run)
        return [run.outputs[place][:0].copy() for place in self._made]

    def _pieces(self, rows: int, any_number: bool) -> Iterator[tuple[int, int]]:
        if self.batch.single:
            return pieces(rows, 1)
        if any_number or rows > MOST_ROWS:
            return pieces(rows, MOST_ROWS)
        return iter(((0, rows),))
