"""Along time: parts of frames, first and last frames, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.models.along_time.elementwise import kept_apart
from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, Window, along, only
from fastrnn.models.graph import Node

if TYPE_CHECKING:
    from fastrnn.models.along_time.turn import Draft

_FAR = 1 << 31  # exporters write "to the end" as a number beyond any length


def numbers(seen: Seen, place: int, name: str) -> list[int] | None:
    """An input or attribute of integers; None where it is left out, or no constant."""
    value: Any = seen.attributes.get(name)
    if value is None:
        value = seen.constant(place)
    return None if value is None else [int(n) for n in np.asarray(value).reshape(-1)]


def _places(seen: Seen, place: int, name: str) -> list[tuple[int, int]] | None:
    """Integers that may depend on the number of frames, in the shorter and in the longer run."""
    found = numbers(seen, place, name)
    if found is not None:
        return [(n, n) for n in found]
    fact = seen.fact(place)
    return None if fact is None or fact.numbers is None else list(zip(*fact.numbers, strict=True))


def _from_end(pair: tuple[int, int], frames: tuple[int, int]) -> int | None:
    """A place along time: as it is, or negative where it moves with the last frame."""
    if pair[0] == pair[1]:
        return pair[0]
    left = [place - count for place, count in zip(pair, frames, strict=True)]
    if left[0] != left[1]:
        return None
    return left[0] if left[0] < 0 else _FAR


@along("Slice")
def slice_(seen: Seen) -> Part | Cannot:
    """Of features; or without some first and last frames."""
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    fact = seen.fact(0)
    assert fact is not None
    rank = len(fact.axes)
    begins, ends = _places(seen, 1, "starts"), _places(seen, 2, "ends")
    if begins is None or ends is None:
        return Cannot("where it begins and ends is no constant")
    axes = numbers(seen, 3, "axes") or list(range(len(begins)))
    steps = numbers(seen, 4, "steps") or [1] * len(begins)
    chosen = [a % rank for a in axes]
    if axis not in chosen:
        return Part({0: ONE}, axis)
    place = chosen.index(axis)
    step = steps[place]
    begin, end = (_from_end(pair[place], fact.frames) for pair in (begins, ends))
    if step < 1:
        return Cannot("it turns time round")
    if begin is None or end is None:
        return Cannot("where it begins or ends is not so many frames from an end")
    if begin < 0:
        return Cannot("it begins at a frame counted from the end")
    if 0 <= end < _FAR:
        return Cannot("it takes a number of first frames")
    window = Window(stride=step, skip=begin, drop=-end if end < 0 else 0)

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The slice, with time from end to end."""
        others = [i for i in range(len(chosen)) if i != place]
        sides = [[pair[0] for pair in pairs] for pairs in (begins, ends)]
        kept = [np.array([values[i] for i in others], np.int64)
                for values in (*sides, chosen, steps)]  # fmt: skip
        if step > 1:
            kept = [
                np.append(old, new) for old, new in zip(kept, (0, _FAR, axis, step), strict=True)
            ]
        return draft.slice(node, inputs[0], *kept)

    return Part({0: window}, axis, emit=emit)


@along("Pad")
def pad(seen: Seen) -> Part | Cannot:
    """Of features; or constant frames before the first and after the last."""
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    fact = seen.fact(0)
    assert fact is not None
    rank = len(fact.axes)
    amounts = numbers(seen, 1, "pads")
    if amounts is None:
        return Cannot("how much it pads is no constant")
    axes = [a % rank for a in numbers(seen, 3, "axes") or range(rank)]
    if axis not in axes:
        return Part({0: ONE}, axis)
    place = axes.index(axis)
    low, high = amounts[place], amounts[place + len(axes)]
    if not low and not high:
        return Part({0: ONE}, axis)
    mode = seen.attributes.get("mode", "constant")
    if mode != "constant" and (low > 0 or high > 0):
        return Cannot(f"mode={mode!r} pads with frames that are yet to come")
    fill: Any = seen.attributes.get("value", 0.0)
    if len(seen.node.inputs) > 2 and seen.node.inputs[2]:
        fill = seen.constant(2)
        if fill is None:
            return Cannot("what it pads with is no constant")
    fill = np.asarray(fill).reshape(-1)[0]
    cut = Window(skip=max(-low, 0), drop=max(-high, 0))
    ends = Window(lead=max(low, 0), trail=max(high, 0), fill=fill)
    rest = list(amounts)
    rest[place] = rest[place + len(axes)] = 0

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The padding of other axes."""
        if not any(rest):
            return draft.identity(node, inputs[0])
        return draft.changed(node, inputs[0], 1, "pads", np.array(rest, np.int64))

    if cut == ONE:
        return Part({0: ends}, axis, emit=emit)
    return Part({0: cut}, axis, emit=emit, then=None if not (ends.lead or ends.trail) else ends)


@along("Concat")
def concat(seen: Seen) -> Part | Cannot:
    """Of features; or frames that are constant in front."""
    times = seen.times()
    made = seen.made()
    axis = seen.attributes["axis"] % len(made.axes)
    if axis not in times.values():
        if len(times) < len(seen.node.inputs):
            return Cannot("it puts beside frames what has none")
        if len(set(times.values())) > 1:
            return Cannot("time is another axis of one input than of the other")
        return Part(dict.fromkeys(times, ONE), min(times.values()))
    if len(times) > 1:
        return Cannot("it puts frames behind frames")
    number = next(iter(times))
    before, after = seen.node.inputs[:number], seen.node.inputs[number + 1 :]
    if len(before) > 1 or len(after) > 1:
        return Cannot("it puts several values before its frames, or behind them")
    lengths = []
    for name in (*before, *after):
        fact = seen.facts[name]
        if fact.counts or fact.axes[axis].kind != "still":
            return Cannot("it puts something for each frame before its frames, or behind them")
        lengths.append(fact.axes[axis].length)
    window = Window(
        lead=lengths[0] if before else 0,
        trail=lengths[-1] if after else 0,
        lead_of="".join(before),
        trail_of="".join(after),
    )

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The frames themselves."""
        return draft.identity(node, inputs[number])

    return Part({number: window}, axis, emit=emit)


@along("Split")
def split(seen: Seen) -> Part | Cannot:
    """Of features."""
    fact = seen.fact(0)
    assert fact is not None
    return kept_apart(seen, {seen.attributes.get("axis", 0) % len(fact.axes)}, "cutting")


@along("Gather")
def gather(seen: Seen) -> Part | Cannot:
    """Of features; or rows of a table, one for each frame."""
    times = seen.times()
    x, indices = seen.fact(0), seen.fact(1)
    assert x is not None
    assert indices is not None
    axis = seen.attributes.get("axis", 0) % len(x.axes)
    if set(times) == {1}:
        return Part({1: ONE}, axis + times[1])
    if set(times) == {0} and times[0] != axis:
        moved = len(indices.axes) - 1 if times[0] > axis else 0
        return Part({0: ONE}, times[0] + moved)
    return Cannot("it picks frames by their number")


@along("Tile")
def tile(seen: Seen) -> Part | Cannot:
    """Of features."""
    repeats = seen.constant(1)
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    if repeats is None or repeats.reshape(-1)[axis] != 1:
        return Cannot("it repeats time")
    return Part({0: ONE}, axis)


@along("OneHot")
def one_hot(seen: Seen) -> Part | Cannot:
    """Of each frame's index."""
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    return Part({0: ONE}, seen.made().time)
