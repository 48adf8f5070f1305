"""Normalisation over features, channels or groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.models.ops.reduce import add_last, add_last_over
from fastrnn.models.ops.table import Array, are_constant, op, prepares, runs_over


@op("BatchNormalization", 7)
def batch_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    outputs: int,
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias of each channel of x (B, C, ...)."""
    _check_inference(training_mode, spatial, outputs)
    return _scaled(x, *factor_and_shift(scale, bias, mean, var, epsilon))


@prepares(batch_normalization)
def prepare_batch_normalization(
    known: Sequence[Any],
    options: Any,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    outputs: int,
) -> Callable[..., Array] | None:
    """One factor and one shift of each channel."""
    _check_inference(training_mode, spatial, outputs)
    if not are_constant(*known[1:]):
        return None
    factor, shift = factor_and_shift(known[1], known[2], known[3], known[4], epsilon)

    def normalise(x: Array, *_: Array) -> Array:
        return _scaled(x, factor, shift)

    return normalise


def _check_inference(training_mode: int, spatial: int, outputs: int) -> None:
    if training_mode or outputs > 1:
        raise ValueError("training_mode is on, expected a model for inference")
    if not spatial:
        raise ValueError("spatial=0, expected a mean for each channel")


def factor_and_shift(
    scale: Array, bias: Array, mean: Array, var: Array, epsilon: float
) -> tuple[Array, Array]:
    """What batch normalisation multiplies each channel by, and what it then adds."""
    factor = scale / np.sqrt(var + var.dtype.type(epsilon))
    return factor, bias - mean * factor


def _scaled(x: Array, factor: Array, shift: Array) -> Array:
    """X (B, C, ...) times a factor of each channel, plus a shift."""
    shape = (-1, *(1,) * (x.ndim - 2))
    return (x * factor.reshape(shape) + shift.reshape(shape)).astype(x.dtype, copy=False)


@op("LayerNormalization", 17)
def layer_normalization(
    x: Array,
    scale: Array,
    bias: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Array, Array, Array]:
    """X less its mean over its deviation along the axes from `axis` on; both are outputs, too."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    wide = x.astype(np.float32) if stash_type == 1 and x.dtype == np.float16 else x
    centred, mean, inverse = _standardise(wide, axes, epsilon)
    y = (centred * inverse).astype(x.dtype, copy=False) * scale
    return y if bias is None else y + bias, mean, inverse


@runs_over(layer_normalization)
def layer_normalization_over(
    given: Sequence[Any],
    results: Sequence[Array],
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> list[Any] | None:
    """The ufuncs themselves, in the function's order."""
    (x, scale, bias), y = (*given, None)[:3], results[0]
    if x.dtype not in (np.float32, np.float64) or not x.size:
        return None
    axes = tuple(range(axis % x.ndim, x.ndim))
    count = np.array(math.prod(x.shape[axes[0] :]), x.dtype)
    centred, squares = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    mean, inverse = (np.empty((*x.shape[: axes[0]], *(1,) * len(axes)), x.dtype) for _ in "mi")
    sums = add_last_over(x, mean, axes), add_last_over(squares, inverse, axes)
    if sums[0] is None or sums[1] is None:
        return None
    one, least = np.ones((), x.dtype), np.array(epsilon, x.dtype)
    calls = [
        *sums[0],
        partial(np.divide, mean, count, out=mean),
        partial(np.subtract, x, mean, out=centred),
        partial(np.multiply, centred, centred, out=squares),
        *sums[1],
        partial(np.divide, inverse, count, out=inverse),
        partial(np.add, inverse, least, out=inverse),
        partial(np.sqrt, inverse, out=inverse),
        partial(np.divide, one, inverse, out=inverse),
        partial(np.multiply, centred, inverse, out=y),
        partial(np.multiply, y, scale, out=y),
    ]
    if bias is not None:
        calls.append(partial(np.add, y, bias, out=y))
    others = zip(results[1:], (mean, inverse), strict=False)
    return calls + [partial(np.copyto, result, one) for result, one in others]


@op("RMSNormalization", 23)
def rms_normalization(
    x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Array:
    """X over its root mean square along the axes from `axis` on."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    wide = x.astype(np.float32) if stash_type == 1 and x.dtype == np.float16 else x
    square = _mean(wide * wide, axes)
    y = wide / np.sqrt(square + wide.dtype.type(epsilon))
    return y.astype(x.dtype, copy=False) * scale


@op("InstanceNormalization", 6)
def instance_normalization(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Array:
    """Each channel of each row of x (B, C, ...) less its mean over its deviation."""
    centred, _, inverse = _standardise(x, tuple(range(2, x.ndim)), epsilon)
    shape = (-1, *(1,) * (x.ndim - 2))
    return centred * inverse * scale.reshape(shape) + bias.reshape(shape)


@op("GroupNormalization", 21)
def group_normalization_21(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Array:
    """Groups of channels of x (B, C, ...) less their mean over their deviation; scale (C,)."""
    wide = x.astype(np.float32) if stash_type == 1 and x.dtype == np.float16 else x
    grouped = wide.reshape(x.shape[0], num_groups, -1)
    centred, _, inverse = _standardise(grouped, (2,), epsilon)
    shape = (-1, *(1,) * (x.ndim - 2))
    y = (centred * inverse).reshape(x.shape).astype(x.dtype, copy=False)
    return y * scale.reshape(shape) + bias.reshape(shape)


@op("GroupNormalization", 18)
def group_normalization_18(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5
) -> Array:
    """The same with one scale and bias for each group."""
    each = x.shape[1] // num_groups
    return group_normalization_21(
        x, np.repeat(scale, each), np.repeat(bias, each), num_groups=num_groups, epsilon=epsilon
    )


@op("LpNormalization", 1)
def lp_normalization(x: Array, *, axis: int = -1, p: int = 2) -> Array:
    """X over its norm along an axis; zeros stay zeros."""
    if p not in (1, 2):
        raise ValueError(f"p={p}, expected 1 or 2")
    norm = add_last(np.abs(x), (axis,)) if p == 1 else np.sqrt(add_last(x * x, (axis,)))
    norm = np.expand_dims(norm, axis)
    return np.divide(x, norm, out=np.zeros_like(x), where=np.broadcast_to(norm != 0, x.shape))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = x.dtype.type(math.prod(x.shape[axis] for axis in axes))
    return np.expand_dims(add_last(x, axes) / count, axes)


def _standardise(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Any]:
    """X less its mean, the mean, and one over its deviation."""
    mean = _mean(x, axes)
    centred = x - mean
    variance = _mean(centred * centred, axes)
    return centred, mean, x.dtype.type(1) / np.sqrt(variance + x.dtype.type(epsilon))
