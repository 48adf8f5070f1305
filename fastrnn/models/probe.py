"""What shapes the values of a graph have, found out by a run."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastrnn.models.graph import Graph
from fastrnn.models.plan import Plan
from fastrnn.models.step import Binder
from fastrnn.models.trial import zeros


def probe(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of every value in a run over zeros, in which axes of unknown length differ.

    As far as such a run comes: lengths may be written into a graph.
    """
    fixed = {n for value in graph.inputs for n in value.shape or () if isinstance(n, int)}
    primes = [n for n in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47) if n not in fixed]
    chosen: dict[Any, int] = {}
    lengths = {
        (value.name, axis): chosen.setdefault(
            length or (value.name, axis), primes[len(chosen) % len(primes)]
        )
        for value in graph.inputs
        for axis, length in enumerate(value.shape or ())
        if not isinstance(length, int)
    }
    shapes: dict[str, tuple[int, ...]] = {}
    with suppress(ValueError):
        Plan.of(graph, Binder({})).run(zeros(graph.inputs, lengths), shapes)
    return shapes
