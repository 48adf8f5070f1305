"""Along time: reductions over features."""

from __future__ import annotations

import numpy as np

from fastrnn.models.along_time.elementwise import kept_apart
from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, along
from fastrnn.models.ops.reduce import _REDUCTIONS as REDUCTIONS


@along(*REDUCTIONS)
def reduction(seen: Seen) -> Part | Cannot:
    """Sums and their like: not over time."""
    fact = seen.fact(0)
    assert fact is not None
    rank = len(fact.axes)
    axes = seen.attributes.get("axes")
    if len(seen.node.inputs) > 1 and seen.node.inputs[1]:
        axes = seen.constant(1)
        if axes is None:
            return Cannot("its axes are no constants")
    named = {int(axis) % rank for axis in np.asarray(() if axes is None else axes).reshape(-1)}
    if not named and not seen.attributes.get("noop_with_empty_axes"):
        named = set(range(rank))
    assert seen.node.op is not None
    return _without(kept_apart(seen, named, seen.node.op.name), named, seen)


@along("ArgMax", "ArgMin")
def argument(seen: Seen) -> Part | Cannot:
    """The index of the greatest along an axis: not along time."""
    fact = seen.fact(0)
    assert fact is not None
    assert seen.node.op is not None
    axes = {seen.attributes.get("axis", 0) % len(fact.axes)}
    return _without(kept_apart(seen, axes, seen.node.op.name), axes, seen)


def _without(part: Part | Cannot, axes: set[int], seen: Seen) -> Part | Cannot:
    """The axes that vanish, unless they are kept."""
    if isinstance(part, Cannot) or seen.attributes.get("keepdims", 1):
        return part
    assert part.axis is not None
    return Part({0: ONE}, part.axis - sum(axis < part.axis for axis in axes))


@along("TopK")
def top_k(seen: Seen) -> Part | Cannot:
    """The greatest along an axis: not along time."""
    fact = seen.fact(0)
    assert fact is not None
    return kept_apart(seen, {seen.attributes.get("axis", -1) % len(fact.axes)}, "TopK")


@along("CumSum")
def cum_sum(seen: Seen) -> Part | Cannot:
    """Running sums: of features."""
    fact, axis = seen.fact(0), seen.constant(1)
    assert fact is not None
    if axis is None:
        return Cannot("its axis is no constant")
    return kept_apart(seen, {int(axis.reshape(-1)[0]) % len(fact.axes)}, "CumSum")
