"""Integers that stand for numbers: y = (x - zero_point) * scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.models.ops.conv import conv
from fastrnn.models.ops.elements import dtype_of
from fastrnn.models.ops.linear import matmul
from fastrnn.models.ops.table import Array, op


def _along(values: Array, x: Array, axis: int, block_size: int = 0) -> Array:
    """Scales or zero points in a shape that goes with x: one in all, of an axis, or of blocks."""
    if values.ndim == 0 or (values.size == 1 and not block_size):
        return values.reshape(())
    axis %= x.ndim
    if block_size:
        repeated = np.repeat(values, block_size, axis=axis)
        return repeated[(slice(None),) * axis + (slice(x.shape[axis]),)]
    if values.ndim != 1:
        raise ValueError(f"scales are {values.shape}, expected one, or one for each of an axis")
    return values.reshape([-1 if a == axis else 1 for a in range(x.ndim)])


@op("QuantizeLinear", 10)
def quantize_linear(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Array:
    """X / scale, rounded half to even, plus the zero point, as far as its type goes."""
    dtype = np.dtype(np.uint8)
    if output_dtype:
        dtype = dtype_of(output_dtype)
    elif zero_point is not None:
        dtype = zero_point.dtype
    inner = dtype_of(precision) if precision else np.result_type(x, np.float32)
    y = np.rint(x.astype(inner) / _along(scale, x, axis, block_size).astype(inner))
    if zero_point is not None:
        y = y + _along(zero_point, x, axis, block_size).astype(inner)
    limits = np.iinfo(dtype)
    return np.clip(y, limits.min, limits.max).astype(dtype)


@op("DequantizeLinear", 10)
def dequantize_linear(
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Array:
    """(x - zero_point) * scale, in the type of the scale."""
    dtype = dtype_of(output_dtype) if output_dtype else scale.dtype
    wide = x.astype(np.int64)
    if zero_point is not None:
        wide = wide - _along(zero_point, x, axis, block_size).astype(np.int64)
    inner = np.result_type(scale, np.float32)
    y = wide.astype(inner) * _along(scale, x, axis, block_size).astype(inner)
    return y.astype(dtype, copy=False)


@op("DynamicQuantizeLinear", 11)
def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """X as uint8 over its own range with zero in it, the scale, and the zero point."""
    low = np.minimum(x.min(initial=0), np.float32(0))
    high = np.maximum(x.max(initial=0), np.float32(0))
    scale = np.float32((high - low) / np.float32(255)) or np.float32(1)
    zero_point = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    y = quantize_linear(x, np.asarray(scale), np.asarray(zero_point))
    return y, np.asarray(scale, np.float32), np.asarray(zero_point)


@op("MatMulInteger", 10)
def matmul_integer(
    a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> Array:
    """The product of integers less their zero points (rows of A, columns of B), as int32."""
    left, right = a.astype(np.float64), b.astype(np.float64)  # exact: below 2**53
    if a_zero is not None:
        left = left - (a_zero[..., None] if a_zero.ndim == 1 and a_zero.size > 1 else a_zero)
    if b_zero is not None:
        right = right - b_zero
    return matmul(left, right).astype(np.int32)


@op("ConvInteger", 10)
def conv_integer(
    x: Array,
    weight: Array,
    x_zero: Array | None = None,
    w_zero: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The convolution of integers less their zero points, as int32."""
    left, right = x.astype(np.float64), weight.astype(np.float64)  # exact: below 2**53
    if x_zero is not None:
        left = left - x_zero.reshape(())
    if w_zero is not None:
        right = right - w_zero.reshape(-1, *(1,) * (weight.ndim - 1))
    attributes: dict[str, Any] = {
        "auto_pad": auto_pad,
        "dilations": dilations,
        "group": group,
        "kernel_shape": kernel_shape,
        "pads": pads,
        "strides": strides,
    }
    return conv(left, right, **attributes).astype(np.int32)
