"""Along time: operators that treat elements, or features, one frame at a time."""

from __future__ import annotations

from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, along


def pointwise(seen: Seen) -> Part | Cannot:
    """Elements of broadcast inputs: frames of all inputs must stand in the same place."""
    rank = max(
        len(fact.axes) for fact in map(seen.fact, range(len(seen.node.inputs))) if fact is not None
    )
    times = seen.times()
    places = set()
    for number, axis in times.items():
        fact = seen.fact(number)
        assert fact is not None
        places.add(axis + rank - len(fact.axes))
    if len(places) > 1:
        return Cannot("time is another axis of one input than of the other")
    for number in range(len(seen.node.inputs)):
        fact = seen.fact(number)
        if fact is None or number in times:
            continue
        at = min(places) - (rank - len(fact.axes))
        if at >= 0 and fact.axes[at].length != 1:
            return Cannot(f"its input {seen.node.inputs[number]!r} has an element for each frame")
    return Part(dict.fromkeys(times, ONE), min(places))


@along("Identity", "Dropout")
def same(seen: Seen) -> Part | Cannot:
    """The first input itself."""
    return Part({0: ONE}, seen.times().get(0))


def kept_apart(seen: Seen, axes: set[int], what: str) -> Part | Cannot:
    """The first input's frames one by one, unless time is among `axes`, taken together."""
    times = seen.times()
    if set(times) != {0}:
        other = seen.node.inputs[next(i for i in times if i)]
        return Cannot(f"its input {other!r} changes along time")
    if times[0] in axes:
        return Cannot(f"{what} over time needs all frames")
    return Part({0: ONE}, times[0])
