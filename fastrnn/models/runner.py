"""`Runner`: a graph run over rows that do not touch each other, fast for shapes that recur."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from fastrnn.models.bound import Bound, TooManyBytesError
from fastrnn.models.fold import fold
from fastrnn.models.graph import Graph
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.step import Binder

MOST_ROWS = 256  # of one run; more come one piece after another
_SHAPES = 64  # for so many different shapes runs are kept
MOST_BYTES = 1 << 26  # of a run's arrays; what has more allocates as it goes
_SPARE = 8  # runs of one shape that are kept for later


class Runner:
    """A graph whose arrays are seen with their rows in front, (B, ...).

    Any number of threads may use it at once.

    Parameters
    ----------
    axes : of the rows in the graph's inputs, and in its outputs; None: the value is that of one row
    """

    def __init__(
        self,
        graph: Graph,
        binder: Binder,
        axes: tuple[Sequence[int | None], Sequence[int | None]],
    ) -> None:
        self.graph, self.binder = graph, binder
        self.axes = axes
        self.plan = Plan.of(graph, binder)
        self._free: OrderedDict[Any, list[Run]] = OrderedDict()
        self._lock = Lock()  # of changes to _free: an OrderedDict has none of its own

    def take(self, rows: int, inputs: Sequence[Array]) -> Run:
        """A run that nobody else uses, for inputs of such shapes (B, ...); they are not yet in it.

        Raises
        ------
        ValueError
            A node cannot be computed.
        """
        key = (rows, *[array.shape[1:] for array in inputs])
        free = self._free.get(key)
        if free:
            try:
                return free.pop()
            except IndexError:  # another thread was faster
                pass
        return Run(self, key, [np.array(array[:rows], order="C") for array in inputs])

    def give(self, run: Run) -> None:
        """Take back a run whose outputs nobody needs any more."""
        with self._lock:
            free = self._free.setdefault(run.key, [])
            if len(free) < _SPARE:
                free.append(run)
            while len(self._free) > _SHAPES:
                self._free.popitem(last=False)


class Run:
    """The graph over arrays that stay where they are, or a plan where there can be none.

    inputs: (B, ...), to be filled before `run`. outputs: (B, ...), until the next run.
    """

    def __init__(self, runner: Runner, key: Any, inputs: list[Array]) -> None:
        self.key = key
        self._runner = runner
        views = [in_graph(array, axis) for array, axis in zip(inputs, runner.axes[0], strict=True)]
        shapes: dict[str, tuple[int, ...]] = {}
        outputs = runner.plan.run(views, shapes)
        graph = runner.graph
        if graph.data_decides:
            graph = fold(graph, shapes=shapes, options=runner.binder.options)
        self._bound: Bound | None = None
        self._plan = runner.plan
        if not graph.data_decides:
            names = [value.name for value in graph.inputs]
            with contextlib.suppress(TooManyBytesError):
                bound = Bound(
                    graph, dict(zip(names, views, strict=True)), runner.binder, MOST_BYTES
                )
                self._bound = bound
                views, outputs = list(bound.inputs.values()), list(bound.outputs.values())
        self._views = views
        self.inputs = [
            in_front(view, axis) for view, axis in zip(views, runner.axes[0], strict=True)
        ]
        self.outputs = self._seen(outputs)

    @property
    def bound(self) -> Bound | None:
        """What computes the outputs where they stay; None: they are others each time."""
        return self._bound

    def run(self) -> None:
        """Compute the outputs from the inputs; raises ValueError, which names the node."""
        if self._bound is not None:
            self._bound()
        else:
            self.outputs = self._seen(self._plan.run(self._views))

    def _seen(self, outputs: Sequence[Array]) -> list[Array]:
        rows, seen = self.key[0], []
        names = list(self._runner.graph.outputs)
        for name, array, axis in zip(names, outputs, self._runner.axes[1], strict=True):
            if axis is not None and (array.ndim <= axis or array.shape[axis] != rows):
                raise ValueError(
                    f"output {name!r} is {array.shape}, expected {rows} rows along axis {axis}"
                )
            seen.append(in_front(array, axis))
        return seen


def in_graph(array: Array, axis: int | None) -> Array:
    """(B, ...) with its rows at `axis`; None: its only row."""
    return array[0] if axis is None else np.moveaxis(array, 0, axis)


def in_front(array: Array, axis: int | None) -> Array:
    """The reverse of `in_graph`."""
    return array[None] if axis is None else np.moveaxis(array, axis, 0)
