"""`Calls`: whole calls of a graph, which are fast for shapes that recur."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from fastrnn.models.bound import Bound, Bounds, TooManyBytesError
from fastrnn.models.fold import fold
from fastrnn.models.graph import Graph
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.step import Binder

_KEPT = 1 << 26  # bytes of arrays that stay between calls; what takes more allocates as it goes
_SHAPES = 16  # of inputs for which a model keeps what they decide


class Calls:
    """Runs a graph over inputs of any shapes. Any number of threads may call it at once."""

    def __init__(self, graph: Graph, plan: Plan, binder: Binder) -> None:
        self._graph, self._plan, self._binder = graph, plan, binder
        self._by_shape = _depends_on_shapes(graph)
        self._runs: OrderedDict[Any, Callable[[list[Array]], list[Array]]] = OrderedDict()
        self._lock = Lock()

    def known(self, shapes: Any) -> Callable[[list[Array]], list[Array]] | None:
        """What runs inputs of these shapes, a tuple of tuples; None: they were not there before."""
        return self._runs.get(shapes)

    def __call__(self, values: list[Array]) -> list[Array]:
        """The outputs; what depends on the inputs' shapes alone is computed once for each."""
        key = tuple(value.shape for value in values)
        run = self._runs.get(key)
        if run is not None:
            return run(values)
        shapes: dict[str, tuple[int, ...]] = {}
        made = self._plan.run(values, shapes)
        graph, plan = self._graph, self._plan
        if self._by_shape:
            graph = fold(graph, shapes=shapes, options=self._binder.options)
            plan = Plan.of(graph, self._binder)
        with self._lock:
            self._runs[key] = self._fastest(graph, plan, values)
            while len(self._runs) > _SHAPES:
                self._runs.popitem(last=False)
        return made

    def _fastest(
        self, graph: Graph, plan: Plan, values: list[Array]
    ) -> Callable[[list[Array]], list[Array]]:
        """What runs inputs of these shapes fastest."""
        if graph.data_decides:
            return plan.run
        names = [value.name for value in graph.inputs]

        def make(values: Sequence[Array]) -> Bound:
            return Bound(graph, dict(zip(names, values, strict=True)), self._binder, _KEPT)

        try:
            return Bounds(make(values), make)
        except TooManyBytesError:
            return plan.rerun


def _depends_on_shapes(graph: Graph) -> bool:
    return any(
        node.branches is not None or (node.op is not None and node.op.name in ("Shape", "Size"))
        for node in graph.nodes
    )
