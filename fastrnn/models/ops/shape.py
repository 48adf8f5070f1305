"""Shapes: reading them, and the same elements in another one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.models.ops.table import Array, op


def numbers(values: Any) -> list[int]:
    """The integers of a 1-D array, scalar or tuple."""
    return [int(value) for value in np.asarray(values).reshape(-1)]


@op("Identity", 1, kind="view")
def identity(x: Array) -> Array:
    """X itself."""
    return x


@op("Dropout", 7, kind="view")
def dropout_7(x: Array, *, ratio: float = 0.5) -> tuple[Array, Array]:
    """X itself, and the mask of what was kept: all."""
    return x, np.ones(x.shape, np.bool_)


@op("Dropout", 12, kind="view")
def dropout_12(
    x: Array, ratio: Any = None, training: Any = None, *, seed: int | None = None
) -> tuple[Array, Array]:
    """X itself, and the mask of what was kept: all. In training elements drop at random."""
    if training is not None and training and (ratio is None or ratio > 0):
        raise ValueError("training_mode is on, expected a model for inference")
    return x, np.ones(x.shape, np.bool_)


@op("Shape", 1)
def shape_1(x: Array, *, start: int = 0, end: int | None = None) -> Array:
    """The lengths of the axes from `start` to `end`."""
    return np.array(x.shape[start:end], np.int64)


@op("Size", 1)
def size(x: Array) -> Array:
    """The number of elements."""
    return np.array(x.size, np.int64)


@op("Reshape", 5, kind="view", shaped_by=(1,))
def reshape(x: Array, shape: Array, *, allowzero: int = 0) -> Array:
    """The same elements in another shape: -1 is what is left, 0 x's own length (or 0)."""
    lengths = numbers(shape)
    if not allowzero:
        if 0 in lengths[x.ndim :]:
            raise ValueError(f"shape {tuple(lengths)} takes a length of x.shape={x.shape}")
        lengths = [n or x.shape[axis] for axis, n in enumerate(lengths)]
    if min(lengths, default=0) < -1:
        raise ValueError(f"shape is {tuple(lengths)}")
    return x.reshape(lengths)


@op("Flatten", 1, kind="view")
def flatten(x: Array, *, axis: int = 1) -> Array:
    """Two axes: those before `axis` together, and the rest."""
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis {axis} of an array with {x.ndim} axes")
    cut = axis if axis >= 0 else axis + x.ndim
    return x.reshape(math.prod(x.shape[:cut]), math.prod(x.shape[cut:]))


@op("Squeeze", 1, kind="view")
def squeeze_1(x: Array, *, axes: Sequence[int] | None = None) -> Array:
    """X without the axes named, or without all axes of length 1."""
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(axes))


@op("Squeeze", 13, kind="view", shaped_by=(1,))
def squeeze_13(x: Array, axes: Array | None = None) -> Array:
    """X without the axes named, or without all axes of length 1."""
    return squeeze_1(x, axes=None if axes is None else numbers(axes))


@op("Unsqueeze", 1, kind="view")
def unsqueeze_1(x: Array, *, axes: Sequence[int]) -> Array:
    """X with axes of length 1 put in, at places of the result."""
    return np.expand_dims(x, tuple(axes))


@op("Unsqueeze", 13, kind="view", shaped_by=(1,))
def unsqueeze_13(x: Array, axes: Array) -> Array:
    """X with axes of length 1 put in, at places of the result."""
    return np.expand_dims(x, tuple(numbers(axes)))


@op("Transpose", 1, kind="view")
def transpose(x: Array, *, perm: Sequence[int] | None = None) -> Array:
    """X with its axes in another order, or in reverse order."""
    return x.transpose(perm)


@op("Expand", 8, kind="view", shaped_by=(1,))
def expand(x: Array, shape: Array) -> Array:
    """X broadcast with a shape, both ways; the elements stay where they are."""
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(numbers(shape))))
