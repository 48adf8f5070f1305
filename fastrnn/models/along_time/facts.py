"""Facts of values, found by running a graph with batches and lengths: which axis is time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn.models.graph import Graph
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.step import Binder

_NUMBERS = 16  # of a value, that are kept


class Axis(NamedTuple):
    """An axis: "still" with a length, "batch" with a length for each row, "time", "merged" (batch
    and time in one), or "odd".
    """

    kind: str
    length: int = 1


@dataclass(frozen=True)
class Fact:
    """What is known of a value.

    counts: whether it changes with the number of frames though it has no axis of time.
    order: "BT" or "TB" for a merged axis, whichever is outside.
    frames: along time, in the shorter and in the longer run.
    numbers: a few integers without time, in the same two.
    """

    axes: tuple[Axis, ...]
    dtype: np.dtype[Any]
    counts: bool = False
    order: str = ""
    frames: tuple[int, int] = (0, 0)
    numbers: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def _find(self, *kinds: str) -> int | None:
        found = [i for i, axis in enumerate(self.axes) if axis.kind in kinds]
        return found[0] if len(found) == 1 else None

    @property
    def time(self) -> int | None:
        """The axis that is time, or batch and time merged."""
        return self._find("time", "merged")

    @property
    def batch(self) -> int | None:
        """The axis that is the batch alone."""
        return self._find("batch")

    @property
    def merged(self) -> bool:
        """Whether batch and time are one axis."""
        return any(axis.kind == "merged" for axis in self.axes)

    @property
    def odd(self) -> bool:
        """Whether it has more than one axis of time, or one that is no multiple of frames."""
        times = sum(axis.kind in ("time", "merged") for axis in self.axes)
        return times > 1 or any(axis.kind == "odd" for axis in self.axes)

    def shape(self, rows: int, frames: int) -> tuple[int, ...]:
        """The shape of so many rows and frames."""
        lengths = {"batch": rows, "time": frames, "merged": rows * frames}
        return tuple(axis.length * lengths.get(axis.kind, 1) for axis in self.axes)


Inputs = Callable[[int, int], list[Array]]
"""Inputs of so many rows and frames."""


def measure(
    graph: Graph, binder: Binder, inputs: Inputs, single: bool, frames: int
) -> dict[str, Fact]:
    """The facts of every value.

    Parameters
    ----------
    inputs : makes noise
    single : whether there are batches of one only
    frames : of the shorter run; the other has twice as many

    Raises
    ------
    ValueError
        A run fails.
    """
    plan = Plan.of(graph, binder)
    few, many = (1, 1) if single else (2, 3)
    base: dict[str, tuple[int, ...]] = {}
    longer: dict[str, tuple[int, ...]] = {}
    wider: dict[str, tuple[int, ...]] = {}
    plan.run(inputs(few, frames), base)
    dtypes = _dtypes(plan, inputs(few, frames))
    plan.run(inputs(few, 2 * frames), longer)
    plan.run(inputs(many, frames), wider)
    facts = {}
    for name, shape in base.items():
        if name:
            three = (shape, longer.get(name, ()), wider.get(name, ()))
            fact = Fact(_axes(three, few, many), dtypes[name])
            if fact.time is not None:
                divisor = few if fact.merged else 1
                lengths = (shape[fact.time] // divisor, three[1][fact.time] // divisor)
                fact = replace(fact, frames=lengths)
            facts[name] = fact
    for name, array in graph.constants.items():
        facts[name] = Fact(tuple(Axis("still", n) for n in array.shape), array.dtype)
    still = [n for n, fact in facts.items() if fact.time is None and n not in graph.constants]
    for name, (one, two) in _contents(graph, binder, still, inputs, few, frames).items():
        same = one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")
        facts[name] = replace(facts[name], counts=not same)
        if one.dtype.kind in "iu" and one.size == two.size <= _NUMBERS:
            pair = (tuple(one.reshape(-1).tolist()), tuple(two.reshape(-1).tolist()))
            facts[name] = replace(facts[name], numbers=pair)
    return facts


def _axes(
    shapes: tuple[Sequence[int], Sequence[int], Sequence[int]], few: int, many: int
) -> tuple[Axis, ...]:
    base, longer, wider = shapes
    if not len(base) == len(longer) == len(wider):
        return (Axis("odd"),)
    return tuple(_axis(a, b, c, few, many) for a, b, c in zip(base, longer, wider, strict=True))


def _axis(base: int, longer: int, wider: int, few: int, many: int) -> Axis:
    if base == longer == wider:
        return Axis("still", base)
    if base == longer:
        proportional = base % few == 0 and base // few * many == wider
        return Axis("batch", base // few) if proportional else Axis("odd")
    if base == wider:
        return Axis("time")
    merged = base % few == 0 and base // few * many == wider and longer % few == 0
    return Axis("merged") if merged else Axis("odd")


def _dtypes(plan: Plan, inputs: list[Array]) -> dict[str, np.dtype[Any]]:
    """The dtypes of all values, of a plan that has run with inputs of these shapes."""
    values = plan.start(inputs)
    found = dict(zip(plan.inputs, (array.dtype for array in inputs), strict=True))
    with np.errstate(all="ignore"):
        for step in plan.steps:
            made = step.function(*[values[place] for place in step.inputs])
            made = made if type(made) is tuple else (made,)
            for name, place, value in zip(step.node.outputs, step.outputs, made, strict=False):
                values[place] = value
                found[name] = np.asarray(value).dtype
            for place in step.freed:
                values[place] = None
    return found


def _contents(
    graph: Graph, binder: Binder, names: list[str], inputs: Inputs, rows: int, frames: int
) -> dict[str, tuple[Array, Array]]:
    """The values of `names` in the shorter and in the longer run."""
    given = {value.name for value in graph.inputs}
    asked = [name for name in names if name not in given]
    if not asked:
        return {}
    plan = Plan.of(replace(graph, outputs=dict(zip(asked, asked, strict=True))), binder)
    one, two = plan.run(inputs(rows, frames)), plan.run(inputs(rows, 2 * frames))
    return dict(zip(asked, zip(one, two, strict=True), strict=True))
