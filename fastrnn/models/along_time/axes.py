"""Which axes of a model's inputs are the batch and time: found by running the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.models.graph import Graph
from fastrnn.models.ops.cells import GATES
from fastrnn.models.plan import Plan
from fastrnn.models.trial import Place, noise

# Lengths of axes that are tried, until one is long enough for the graph; the other run has twice
# as many.
LENGTHS = (32, 8, 96, 256, 1024, 4096, 16384)
_FEW = 2
_MOST_OPEN = 64  # axes that are tried, each by runs of the graph
_TIME = {
    "t",
    "time",
    "times",
    "frame",
    "frames",
    "seq",
    "sequence",
    "len",
    "length",
    "step",
    "steps",
}
_WINDOWED = {"Conv", "ConvTranspose", "MaxPool", "AveragePool"}


@dataclass(frozen=True)
class InputAxes:
    """The axes of time and of the batch of each input, and a length that the graph can run with.

    time: of the inputs that have frames. batch: None for inputs without one.
    """

    time: Mapping[str, int]
    batch: Mapping[str, int | None]
    frames: int

    @property
    def single(self) -> bool:
        """Whether there are batches of one only."""
        return all(axis is None for axis in self.batch.values())


def find_axes(graph: Graph, plan: Plan, said: int | Mapping[str, int] | None) -> InputAxes:
    """Find time and the batch.

    Parameters
    ----------
    said : the axis of time of every input, or of each by its name; None: it is found

    Raises
    ------
    ValueError
        It cannot be told, or the graph cannot be run with any length.
    """
    if not graph.inputs:
        raise ValueError("the model has no inputs")
    given = None if said is None else _said(graph, said)
    groups = _groups(graph, given)
    problem = "the file leaves no axis open"
    for length in LENGTHS:
        driven: dict[str, set[str]] = {}
        for symbol in groups:
            try:  # with few of everything else, which may be too few where that is time
                few = dict.fromkeys(groups, _FEW)
                base = _shapes(plan, graph, groups, few | {symbol: length})
                other = _shapes(plan, graph, groups, few | {symbol: 2 * length})
            except ValueError as error:
                problem = str(error)
            else:
                driven[symbol] = _driven(graph, base, other)
        if driven:
            return _decided(graph, groups, driven, given, length)
    raise ValueError(f"the axis of time was not found: {problem}")


def _said(graph: Graph, said: int | Mapping[str, int]) -> dict[str, int]:
    values = {value.name: value for value in graph.inputs}
    axes = dict(said) if isinstance(said, Mapping) else dict.fromkeys(values, said)
    if not axes or not set(axes) <= set(values):
        raise ValueError(
            f"time_axis has {', '.join(map(repr, axes)) or 'none'}, expected some of "
            f"{', '.join(values)}"
        )
    for value in [values[name] for name in axes]:
        axis, rank = axes.get(value.name), len(value.shape or ())
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"time_axis of input {value.name!r} is {axis!r}, expected an integer")
        if value.shape is not None and not -rank <= axis < rank:
            raise ValueError(f"time_axis={axis}, but input {value.name!r} has {rank} axes")
        axes[value.name] = int(axis) % max(rank, 1)
    return axes


def _groups(graph: Graph, given: Mapping[str, int] | None) -> dict[str, list[Place]]:
    """The axes whose lengths the file leaves open, those of one name together."""
    groups: dict[str, list[Place]] = {}
    for value in graph.inputs:
        if value.shape is None:
            raise ValueError(f"the file does not say how many axes input {value.name!r} has")
        for axis, length in enumerate(value.shape):
            if given is not None and given.get(value.name) == axis:
                groups.setdefault("time_axis", []).append((value.name, axis))
            elif not isinstance(length, int):
                symbol = length or f"{value.name}[{axis}]"
                groups.setdefault(symbol, []).append((value.name, axis))
    if len(groups) > _MOST_OPEN:
        raise ValueError(
            f"{len(groups)} axes are open, expected at most {_MOST_OPEN}: say time_axis, or fix "
            "inputs with load_model's fixed="
        )
    return groups


def _shapes(
    plan: Plan, graph: Graph, groups: Mapping[str, list[Place]], lengths: Mapping[str, int]
) -> dict[str, Any]:
    shapes: dict[str, Any] = {}
    at = {place: lengths[symbol] for symbol, places in groups.items() for place in places}
    plan.run(noise(graph.inputs, at), shapes)
    return shapes


def _driven(graph: Graph, base: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """What an axis drives: "time", "batch" of recurrent nodes, "windows", "rows" of others."""
    found = set()
    for node in graph.nodes:
        if node.op is None or not node.inputs or len(base.get(node.inputs[0], ())) < 3:
            continue
        changed = [a != b for a, b in zip(base[node.inputs[0]], other[node.inputs[0]], strict=True)]
        if node.op.name in GATES:
            first = "batch" if node.attributes.get("layout") else "time"
            second = "time" if first == "batch" else "batch"
            found |= {
                what for what, is_it in zip((first, second), changed[:2], strict=True) if is_it
            }
        elif node.op.name in _WINDOWED:
            found |= {"windows"} if any(changed[2:]) else set()
            found |= {"rows"} if changed[0] else set()
    return found


def _decided(
    graph: Graph,
    groups: Mapping[str, list[Place]],
    driven: Mapping[str, set[str]],
    given: Mapping[str, int] | None,
    length: int,
) -> InputAxes:
    time = _told(groups, driven) if given is None else "time_axis"
    batch = next((symbol for symbol in groups if symbol != time), None)
    places, rows = dict(groups[time]), dict(groups.get(batch or "", ()))
    for value in graph.inputs:
        if value.name not in places and value.name not in rows and rows:
            raise ValueError(
                f"input {value.name!r} has neither an axis of time nor one of the batch: fix it "
                "with load_model's fixed="
            )
        left = [i for i, n in enumerate(value.shape or ()) if not isinstance(n, int)]
        more = [i for i in left if i not in (places.get(value.name), rows.get(value.name))]
        if more:
            raise ValueError(f"the file leaves open axis {more[0]} of input {value.name!r}, too")
    return InputAxes(places, {value.name: rows.get(value.name) for value in graph.inputs}, length)


def _told(groups: Mapping[str, list[Place]], driven: Mapping[str, set[str]]) -> str:
    """The name of time, by what it drives, or else by what it is called."""
    for wanted, never in (("time", "batch"), ("windows", "rows")):
        found = [s for s, what in driven.items() if wanted in what and never not in what]
        if len(found) == 1:
            return found[0]
    called = [s for s in groups if _TIME & set(_words(s))]
    if len(called) == 1:
        return called[0]
    axes = ", ".join(groups) or "none"
    raise ValueError(f"which axis is time cannot be told (open are: {axes}): say time_axis")


def _words(name: str) -> Iterator[str]:
    for word in name.replace("-", "_").split("_"):
        yield word.lower()
