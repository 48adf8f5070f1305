"""What the gates of a model's recurrent nodes do in a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.models.graph import Graph
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.stacks import Found
from fastrnn.models.step import Binder


def trace(graph: Graph, stack: Found, inputs: Sequence[Array], binder: Binder) -> dict[str, Array]:
    """Return every gate and state of `stack` in a call of a folded `graph`, by name.

    Returns
    -------
    dict of arrays (L, D, T, B, H), as `trace` of a layer
    """
    layer = stack.layer()
    given = [(*node.inputs, *("",) * 8)[:8] for node in stack.nodes]
    if any(names[4] for names in given):
        raise ValueError(f"{stack.name}: has rows of different lengths, which are not traced")
    wanted = [given[0][0], *(names[state] for names in given for state in (5, 6))]
    known = {value.name for value in graph.inputs} | graph.constants.keys()
    known |= {name for node in graph.nodes for name in node.outputs}
    outer = [name for name in wanted if name]
    if not known.issuperset(outer):
        raise ValueError(f"{stack.name}: is in a branch of an If, which is not traced")
    plan = Plan(graph.nodes, [v.name for v in graph.inputs], outer, graph.constants, binder)
    values = dict(zip(outer, plan.run(inputs), strict=True))
    batch_first = bool(stack.attributes and stack.attributes.layout)

    def time_first(name: str) -> Array:
        return values[name].swapaxes(0, 1) if batch_first else values[name]

    x = time_first(wanted[0])
    states = [
        np.concatenate(
            [time_first(names[at]) if names[at] else _zeros(layer, x) for names in given]
        )
        for at in (5, 6)
    ]
    traced: dict[str, Array] = layer.trace(x, tuple(states) if stack.kind == "LSTM" else states[0])
    return traced


def _zeros(layer: Any, x: Array) -> Array:
    return np.zeros((2 if layer.bidirectional else 1, x.shape[1], layer.hidden_size), x.dtype)
