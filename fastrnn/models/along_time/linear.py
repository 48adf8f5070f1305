"""Along time: matrix products with weights."""

from __future__ import annotations

from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, along, only
from fastrnn.models.ops.linear import rows_by_matrix


@along("MatMul", "MatMulInteger")
def matmul(seen: Seen) -> Part | Cannot:
    """Rows of time by constant weights; or matrices of each frame."""
    times = seen.times()
    a, b = seen.fact(0), seen.fact(1)
    assert a is not None
    assert b is not None
    rank = max(len(a.axes), len(b.axes))
    if set(times) == {0}:
        if times[0] == len(a.axes) - 1:
            return Cannot("the product sums over time")
        return Part({0: ONE}, times[0] + rank - len(a.axes))
    if set(times) == {1}:
        if times[1] == len(b.axes) - 2:
            return Cannot("the product sums over time")
        if times[1] == len(b.axes) - 1:
            return Cannot("its frames are columns, whose product is not the same one by one")
        return Part({1: ONE}, times[1] + rank - len(b.axes))
    places = {axis + rank - len(fact.axes) for fact, axis in ((a, times[0]), (b, times[1]))}
    if len(places) > 1 or min(places) >= rank - 2:
        return Cannot("it multiplies frames with frames, as attention does")
    return Part({0: ONE, 1: ONE}, min(places))


@along("Linear", domain="fastrnn")
def linear(seen: Seen) -> Part | Cannot:
    """Rows of time by constant weights."""
    axis = only(seen)
    fact = seen.fact(0)
    assert fact is not None
    if axis == len(fact.axes) - 1:
        return Cannot("the product sums over time")
    return axis if isinstance(axis, Cannot) else Part({0: ONE}, axis)


@along("Gemm")
def gemm(seen: Seen) -> Part | Cannot:
    """Rows of batch and time by constant weights."""
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    if seen.attributes.get("transA") or axis != 0:
        return Cannot("the product sums over time")
    return Part({0: ONE}, 0)


@along("Einsum")
def einsum(seen: Seen) -> Part | Cannot:
    """Rows of time by a constant matrix."""
    times, found = seen.times(), rows_by_matrix(seen.attributes["equation"])
    if found is None:
        return Cannot("it is no product of rows by a matrix")
    rows, number, _ = found
    if set(times) != {number}:
        return Cannot("it multiplies frames with frames, as attention does")
    if times[number] == len(rows) - 1:
        return Cannot("the product sums over time")
    return Part({number: ONE}, times[number])
