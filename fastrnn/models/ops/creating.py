"""Arrays made from numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.models.ops.room import claim
from fastrnn.models.ops.shape import numbers
from fastrnn.models.ops.table import Array, op


@op("Constant", 1)
def constant(
    *,
    value: Array | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Array:
    """The value that the node carries."""
    given: list[tuple[Any, Any]] = [
        (value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
    ]
    found = [np.asarray(one, dtype) for one, dtype in given if one is not None]
    if len(found) != 1:
        raise ValueError(f"carries {len(found)} values, expected one")
    return found[0]


@op("ConstantOfShape", 9, shaped_by=(0,))
def constant_of_shape(shape: Array, *, value: Array | None = None) -> Array:
    """One value throughout, a float32 zero if none is given."""
    fill = np.zeros(1, np.float32) if value is None else value
    lengths = numbers(shape)
    if fill.size != 1 or min(lengths, default=0) < 0:
        raise ValueError(f"shape is {tuple(lengths[:8])}, the value has {fill.size} elements")
    claim(lengths, fill.dtype)
    return np.full(lengths, fill.reshape(())[()])


@op("Range", 11, shaped_by=(0, 1, 2))
def arange(start: Array, limit: Array, delta: Array) -> Array:
    """From `start` in steps of `delta` to before `limit`."""
    first, last, step = (np.asarray(v).reshape(-1)[0] for v in (start, limit, delta))
    if step == 0 or not all(np.isfinite(v) for v in (first, last, step)):
        raise ValueError(f"a range from {first} to {last} in steps of {step}")
    count = max(math.ceil((last.item() - first.item()) / step.item()), 0)
    claim((count,), first.dtype)
    return (first + np.arange(count, dtype=first.dtype) * step).astype(first.dtype)


@op("OneHot", 9, shaped_by=(1,))
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """values[1] where the new axis has the index, else values[0]; from the end if negative."""
    count = int(np.asarray(depth).reshape(-1)[0])
    if count < 0 or not -indices.ndim - 1 <= axis <= indices.ndim:
        raise ValueError(f"depth is {count}, axis {axis}, for indices {indices.shape}")
    claim((*indices.shape, count), values.dtype)
    wanted = np.expand_dims(indices, axis)
    wanted = np.where(wanted < 0, wanted + count, wanted)
    places = np.arange(count).reshape((-1,) + (1,) * (indices.ndim - axis % (indices.ndim + 1)))
    off, on = values
    return np.where(wanted == places, on, off).astype(values.dtype, copy=False)
