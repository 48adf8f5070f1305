"""Parts of arrays, picked, joined, repeated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.models.ops.room import claim
from fastrnn.models.ops.shape import numbers
from fastrnn.models.ops.table import Array, op, runs_over


def axis_of(x: Array, axis: int) -> int:
    """`axis` of x, counted from the front."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} of an array with {x.ndim} axes")
    return axis % x.ndim


@op("Concat", 4)
def concat(*parts: Array, axis: int, out: Array | None = None) -> Array:
    """The parts one behind another along an axis."""
    claim((sum(part.size for part in parts),), parts[0].dtype)
    return np.concatenate(parts, axis=axis, out=out)


@runs_over(concat)
def concat_over(given: Sequence[Any], results: Sequence[Array], *, axis: int) -> list[Any]:
    """A copy of each part into its place."""
    ends = np.cumsum([part.shape[axis] for part in given])[:-1]
    places = np.split(results[0], ends, axis=axis)
    return [partial(np.copyto, place, part) for place, part in zip(places, given, strict=True)]


@op("Split", 2, kind="view")
def split_2(
    x: Array, *, axis: int = 0, split: Sequence[int] | None = None, outputs: int
) -> tuple[Array, ...]:
    """X cut along an axis into parts of the lengths `split`, or into equal parts."""
    if split is None:
        if x.shape[axis_of(x, axis)] % outputs:
            raise ValueError(f"{x.shape[axis]} elements do not make {outputs} equal parts")
        return split_18(x, axis=axis, outputs=outputs)
    return split_18(x, np.array(split), axis=axis, outputs=outputs)


@op("Split", 13, kind="view", shaped_by=(1,))
def split_13(
    x: Array, split: Array | None = None, *, axis: int = 0, outputs: int
) -> tuple[Array, ...]:
    """X cut along an axis into parts of the lengths `split`, or into equal parts."""
    return split_2(x, axis=axis, split=None if split is None else numbers(split), outputs=outputs)


@op("Split", 18, kind="view", shaped_by=(1,))
def split_18(
    x: Array,
    split: Array | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    outputs: int,
) -> tuple[Array, ...]:
    """X cut along an axis into parts of the lengths `split`, or equal ones, the last shorter."""
    axis = axis_of(x, axis)
    length = x.shape[axis]
    if split is None:
        each = -(-length // (num_outputs or outputs))
        lengths = [max(0, min(each, length - each * i)) for i in range(num_outputs or outputs)]
    else:
        lengths = numbers(split)
    if min(lengths, default=0) < 0 or sum(lengths) != length:
        raise ValueError(f"{length} elements do not make parts of {lengths[:8]}")
    if len(lengths) != outputs:
        raise ValueError(f"gives {len(lengths)} parts, the node has {outputs} outputs")
    ends = np.cumsum(lengths)[:-1]
    return tuple(np.split(x, ends, axis=axis))


@op("Slice", 1, kind="view")
def slice_1(
    x: Array, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Array:
    """X from `starts` to `ends` along `axes`, or along the first ones."""
    return slice_10(x, starts, ends, axes)


@op("Slice", 10, kind="view", shaped_by=(1, 2, 3, 4))
def slice_10(x: Array, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Array:
    """X from `starts` to `ends` in `steps`, perhaps backwards, along `axes` or the first ones."""
    begins, stops = numbers(starts), numbers(ends)
    chosen = list(range(len(begins))) if axes is None else numbers(axes)
    strides = [1] * len(begins) if steps is None else numbers(steps)
    if not len(begins) == len(stops) == len(chosen) == len(strides):
        raise ValueError("starts, ends, axes and steps differ in length")
    index = [slice(None)] * x.ndim
    for axis, begin, stop, step in zip(chosen, begins, stops, strides, strict=True):
        axis = axis_of(x, axis)
        length = x.shape[axis]
        begin = begin + length if begin < 0 else begin
        stop = stop + length if stop < 0 else stop
        if step < 0:
            begin = min(max(begin, -1), length - 1)
            index[axis] = slice(begin, stop if stop >= 0 else None, step)
            if begin < 0:
                index[axis] = slice(0, 0)
        else:
            index[axis] = slice(max(begin, 0), max(stop, 0), step)
    return x[tuple(index)]


@op("Gather", 1, kind="view")
def gather(x: Array, indices: Array, *, axis: int = 0) -> Array:
    """X's slices at `indices` along an axis, which becomes the axes of `indices`."""
    axis = axis_of(x, axis)
    if not indices.ndim:  # as a view
        return x[(slice(None),) * axis + (int(indices),)]
    claim((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    return np.take(x, indices, axis=axis)


@op("GatherElements", 11)
def gather_elements(x: Array, indices: Array, *, axis: int = 0) -> Array:
    """The element of x at each index along an axis."""
    claim(indices.shape, x.dtype)
    trimmed = x[tuple(slice(None) if a == axis % x.ndim else slice(n)
                      for a, n in enumerate(indices.shape))]  # fmt: skip
    return np.take_along_axis(trimmed, indices, axis)


@op("GatherND", 11)
def gather_nd(x: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    """X's slices at the index tuples that are the last axis of `indices`."""
    batch = x.shape[:batch_dims]
    depth = indices.shape[-1]
    claim((*indices.shape[:-1], *x.shape[batch_dims + depth :]), x.dtype)
    picked = tuple(np.moveaxis(indices, -1, 0))
    inner = indices.ndim - 1 - batch_dims
    leading = tuple(
        np.arange(n).reshape((1,) * axis + (n,) + (1,) * (len(batch) - axis - 1 + inner))
        for axis, n in enumerate(batch)
    )
    return x[leading + picked]


@op("ScatterND", 11)
def scatter_nd(x: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    """X with `updates` at the index tuples that are the last axis of `indices`."""
    y = x.copy()
    where = tuple(np.moveaxis(indices, -1, 0))
    _scatter(y, where, updates, reduction)
    return y


@op("ScatterElements", 11)
def scatter_elements(
    x: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none"
) -> Array:
    """X with each element of `updates` at its index along an axis."""
    y = x.copy()
    grid: list[Any] = list(np.indices(indices.shape, sparse=True))
    axis = axis_of(x, axis)
    grid[axis] = np.where(indices < 0, indices + x.shape[axis], indices)
    _scatter(y, tuple(grid), updates, reduction)
    return y


_SCATTER = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(y: Array, where: tuple[Array, ...], updates: Array, reduction: str) -> None:
    if reduction == "none":
        y[where] = updates
    elif reduction in _SCATTER:
        _SCATTER[reduction].at(y, where, updates)
    else:
        raise ValueError(f"reduction={reduction!r}, expected none, {', '.join(_SCATTER)}")


@op("Tile", 6, shaped_by=(1,))
def tile(x: Array, repeats: Array) -> Array:
    """X repeated along each axis."""
    times = numbers(repeats)
    if len(times) != x.ndim or min(times, default=0) < 0:
        raise ValueError(f"repeats is {times[:8]}, for an array with {x.ndim} axes")
    claim([n * count for n, count in zip(x.shape, times, strict=True)], x.dtype)
    return np.tile(x, times)


@op("Trilu", 14)
def trilu(x: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    """The upper or lower triangle of matrices, the rest zero."""
    offset = 0 if k is None else int(np.asarray(k).reshape(-1)[0])
    offset = min(max(offset, -x.shape[-2] - 1), x.shape[-1] + 1)
    return np.triu(x, offset) if upper else np.tril(x, offset)
