"""Along time: the same elements in another shape, with frames that stay frames."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.models.along_time.elementwise import pointwise
from fastrnn.models.along_time.facts import Axis, Fact
from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, Window, along
from fastrnn.models.graph import Node

if TYPE_CHECKING:
    from fastrnn.models.along_time.turn import Draft


@along("Transpose")
def transpose(seen: Seen) -> Part | Cannot:
    """Time stays whole wherever it goes."""
    fact, axis = seen.fact(0), seen.times()[0]
    assert fact is not None
    perm = seen.attributes.get("perm") or tuple(range(len(fact.axes)))[::-1]
    return Part({0: ONE}, list(perm).index(axis))


@along("Squeeze", "Unsqueeze")
def squeeze(seen: Seen) -> Part | Cannot:
    """Axes of length 1 come and go; where time then is, was measured."""
    if set(seen.times()) != {0}:
        return Cannot("its axes change along time")
    if len(seen.node.inputs) > 1 and seen.node.inputs[1] and seen.constant(1) is None:
        return Cannot("its axes are no constants")
    assert seen.node.op is not None
    named = seen.attributes.get("axes") is not None or any(seen.node.inputs[1:])
    if seen.node.op.name == "Squeeze" and not named:
        return Cannot("it takes away time, too, where there is one frame")
    return Part({0: ONE}, seen.made().time)


@along("Reshape", "Flatten")
def reshape(seen: Seen) -> Part | Cannot:
    """What is in a frame stays in it; several frames may become one, or one several."""
    if set(seen.times()) != {0}:
        return Cannot("its shape changes along time otherwise than its input")
    before, after = seen.fact(0), seen.made()
    assert before is not None
    if after.time is None:
        return Cannot("it makes all frames one array")
    one, inner = _outer(before)
    for order in ("BT", "TB") if after.merged else ("",):
        two, rest = _outer(replace(after, order=order))
        if one == two and inner == rest:
            return Part({0: ONE}, after.time, emit=_emit(after), order=order)
        if one == two and not after.merged and rest > inner and rest % inner == 0:
            together = rest // inner
            window = Window(span=together, stride=together)
            return Part({0: window}, after.time, emit=_emit(after))
        if one == two and not after.merged and rest < inner and inner % rest == 0:
            return Part({0: ONE}, after.time, gives=inner // rest, emit=_emit(after))
    return Cannot("it mixes frames")


def _outer(fact: Fact) -> tuple[list[object], int]:
    """What is outside of time, outermost first, with lengths multiplied; and what is inside."""
    factors: list[object] = []
    axes = [a for axis in fact.axes for a in _split(axis, fact.order)]
    at = next(i for i, axis in enumerate(axes) if axis.kind == "time")
    for axis in axes[:at]:
        if axis.kind == "batch":
            factors += ["batch", axis.length]
        elif factors and isinstance(factors[-1], int):
            factors[-1] *= axis.length
        else:
            factors.append(axis.length)
    inside = axes[at + 1 :]
    if any(axis.kind == "batch" for axis in inside):
        factors.append("inside")
        factors += [axis.length if axis.kind == "still" else "batch" for axis in inside]
        return [one for one in factors if one != 1], 1
    return [one for one in factors if one != 1], math.prod(axis.length for axis in inside)


def _split(axis: Axis, order: str) -> list[Axis]:
    if axis.kind != "merged":
        return [axis]
    two = [Axis("batch"), Axis("time")]
    return two if order == "BT" else two[::-1]


def _emit(after: Fact):  # type: ignore[no-untyped-def]
    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The reshape to a shape that is known."""
        shape = np.array(after.shape(draft.rows, frames), np.int64)
        return draft.reshape(node, inputs[0], shape)

    return emit


@along("Expand")
def expand(seen: Seen) -> Part | Cannot:
    """Broadcast over axes other than time."""
    before, after = seen.fact(0), seen.made()
    assert before is not None
    if set(seen.times()) != {0} or after.time is None:
        return Cannot("it repeats something for each frame")
    if before.time + len(after.axes) - len(before.axes) != after.time:  # type: ignore[operator]
        return Cannot("it mixes frames")

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        shape = draft.constant(np.array(after.shape(draft.rows, frames), np.int64))
        return replace(node, inputs=(inputs[0], shape))

    return Part({0: ONE}, after.time, emit=emit)


@along("Where", "Clip", "PRelu")
def three(seen: Seen) -> Part | Cannot:
    """As elements of broadcast inputs."""
    return pointwise(seen)
