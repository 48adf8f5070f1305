"""Along time: convolutions and pools, whose windows wait for their frames."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, Window, along, only
from fastrnn.models.graph import Node

if TYPE_CHECKING:
    from fastrnn.models.along_time.turn import Draft


@along("Conv", "ConvInteger")
def conv(seen: Seen) -> Part | Cannot:
    """Zeros before the first frame and after the last."""
    weight = seen.fact(1)
    assert weight is not None
    if len(seen.times()) > 1:
        return Cannot("its weights change along time")
    if seen.times().get(0) == 1:
        return Cannot("it sums over time as its channels")
    return _windows(seen, [axis.length for axis in weight.axes[2:]], 0)


@along("MaxPool", "AveragePool", "LpPool")
def pool(seen: Seen) -> Part | Cannot:
    """As a convolution; of the greatest nothing before the first frame and after the last."""
    assert seen.node.op is not None
    name = seen.node.op.name
    if any(seen.node.outputs[1:]):
        return Cannot("it tells where in time the greatest stands")
    fact = seen.fact(0)
    assert fact is not None
    low: Any = 0
    if name == "MaxPool":
        low = -np.inf if fact.dtype.kind == "f" else np.iinfo(fact.dtype).min
    answer = _windows(seen, list(seen.attributes["kernel_shape"]), low)
    if isinstance(answer, Part) and name == "AveragePool":
        window = answer.windows[0]
        if (window.lead or window.trail) and not seen.attributes.get("count_include_pad"):
            return Cannot("its mean leaves out what it pads at the ends")
    return answer


def _windows(seen: Seen, kernel: list[int], fill: Any) -> Part | Cannot:
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    if axis < 2:
        return Part({0: ONE}, axis)
    place, count = axis - 2, len(kernel)
    strides = list(seen.attributes.get("strides") or [1] * count)
    dilations = list(seen.attributes.get("dilations") or [1] * count)
    pads = list(seen.attributes.get("pads") or [0] * 2 * count)
    span = (kernel[place] - 1) * dilations[place] + 1
    stride = strides[place]
    auto_pad = seen.attributes.get("auto_pad", "NOTSET")
    if auto_pad.startswith("SAME"):
        if stride > 1 or count > 1:
            return Cannot(f"auto_pad={auto_pad!r} depends on how many frames there are")
        less, more = (span - 1) // 2, span - 1 - (span - 1) // 2
        pads = [less, more] if auto_pad == "SAME_UPPER" else [more, less]
    elif auto_pad == "VALID":
        pads = [0] * 2 * count
    if seen.attributes.get("ceil_mode") and stride > 1:
        return Cannot("ceil_mode=1: its last window depends on how many frames there are")
    window = Window(span, stride, lead=pads[place], trail=pads[place + count], fill=fill)
    rest = list(pads)
    rest[place] = rest[place + count] = 0

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The node without padding along time."""
        if not (window.lead or window.trail):
            return replace(node, inputs=tuple(inputs))
        more = {"pads": tuple(rest), "auto_pad": "NOTSET"}
        return draft.renamed(
            replace(node, inputs=tuple(inputs), attributes={**node.attributes, **more})
        )

    return Part({0: window}, axis, emit=emit)


@along("ConvTranspose")
def conv_transpose(seen: Seen) -> Part | Cannot:
    """Each frame gives `stride` of them, to which those before it add."""
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    weight = seen.fact(1)
    assert weight is not None
    if axis < 2 or len(weight.axes) != 3:
        return Cannot("it spreads more axes than time")
    kernel = weight.axes[2].length
    stride = (seen.attributes.get("strides") or [1])[0]
    dilation = (seen.attributes.get("dilations") or [1])[0]
    before, after = seen.attributes.get("pads") or (0, 0)
    more = (seen.attributes.get("output_padding") or [0])[0]
    if seen.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or seen.attributes.get(
        "output_shape"
    ):
        return Cannot("its output's length is given otherwise than by pads")
    if seen.attributes.get("auto_pad") == "VALID":
        before = after = 0
    length = (kernel - 1) * dilation + 1  # that one frame adds to
    span = math.ceil(length / stride)  # frames that add to one
    if more or length < stride:
        return Cannot("it gives frames to which none adds")

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The frames to which all have added that will."""
        attributes = {**node.attributes, "pads": (0, 0), "auto_pad": "NOTSET"}
        changed = replace(node, inputs=tuple(inputs), attributes=attributes)
        spread = draft.add(draft.renamed(changed))
        begin = (span - 1) * stride
        cut = [np.array([n], np.int64) for n in (begin, begin + frames, 2, 1)]
        return draft.slice(node, spread.outputs[0], *cut)

    window = Window(span, lead=span - 1, trail=span - 1)
    then = Window(skip=before, drop=span * stride - length + after)
    return Part({0: window}, 2, gives=stride, emit=emit, then=then)
