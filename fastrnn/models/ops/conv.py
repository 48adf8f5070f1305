"""Convolutions: windows as rows, and their product with the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.models.ops.laying import Calls, contiguous, copy
from fastrnn.models.ops.product import Product
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array, are_constant, op, prepares
from fastrnn.models.ops.windows import Windows, lay


@op("Conv", 1)
def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """X (B, C, ...) with weights (M, C/group, *kernel) to (B, M, ...)."""
    products = _products(weight, bias, group, {})
    check_kernel(weight, kernel_shape)
    windows = lay(x.shape[2:], weight.shape[2:], strides, dilations, pads, auto_pad)
    return _convolve(x, weight, group, windows, products)


@prepares(conv)
def prepare_conv(
    known: Sequence[Any],
    options: dict[str, Any],
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Callable[..., Array] | None:
    """A convolution whose weights are packed once."""
    _, weight, bias = (*known, None)[:3]
    if not are_constant(weight) or not (bias is None or are_constant(bias)):
        return None
    check_kernel(weight, kernel_shape)
    products = _products(weight, bias, group, options)
    return Convolution(products, group, (strides, dilations, pads, auto_pad))


class Convolution:
    """A convolution with packed weights."""

    def __init__(self, products: list[Product], group: int, placing: tuple[Any, ...]) -> None:
        self.products, self.group, self.placing = products, group, placing

    def __call__(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """As `conv`."""
        windows = lay(x.shape[2:], weight.shape[2:], *self.placing)
        return _convolve(x, weight, self.group, windows, self.products)

    def lay(self, calls: Calls, x: Array, weight: Array, bias: Array | None = None) -> tuple[Array]:
        """As `table.lays` says."""
        windows = lay(x.shape[2:], weight.shape[2:], *self.placing)
        channels, batch, kernel = weight.shape[1], x.shape[0], weight.shape[2:]
        last = np.moveaxis(x, 1, -1)  # (B, ..., C)
        lengths = [sum(n) for n in zip(x.shape[2:], windows.before, windows.after, strict=True)]
        if last.shape[1:-1] != tuple(lengths):
            padded = np.zeros((batch, *lengths, x.shape[1]), x.dtype)
            inner = tuple(
                slice(low, low + n) for low, n in zip(windows.before, x.shape[2:], strict=True)
            )
            copy(calls, padded[(slice(None), *inner)], last)
            last = padded
        view = np.moveaxis(windows.over(np.moveaxis(last, -1, 1)), 1, -1)
        count = weight.shape[0] // self.group
        made = np.empty((batch, *windows.steps, weight.shape[0]), x.dtype)
        for i, product in enumerate(self.products):
            part = view[..., i * channels : (i + 1) * channels]
            if math.prod(kernel) == 1:
                part = part.reshape(batch, *windows.steps, channels)
            rows = contiguous(calls, part).reshape(batch, *windows.steps, -1)
            if self.group == 1:
                product.lay(calls, rows, made)
            else:
                copy(calls, made[..., i * count : (i + 1) * count], product.lay(calls, rows))
        return (np.moveaxis(made, -1, 1),)


def check_kernel(weight: Array, kernel_shape: Sequence[int] | None) -> None:
    """ValueError unless the weights have the kernel that the node names."""
    if kernel_shape is not None and tuple(kernel_shape) != weight.shape[2:]:
        raise ValueError(f"kernel_shape is {tuple(kernel_shape)}, the weight {weight.shape}")


def _products(
    weight: Array, bias: Array | None, group: int, options: dict[str, Any]
) -> list[Product]:
    """One product for each group, over windows whose channels come last."""
    if group < 1 or weight.ndim < 3 or weight.shape[0] % group:
        raise ValueError(f"{group} groups of the weight {weight.shape}")
    count = weight.shape[0] // group
    rows = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
    parts = [slice(start, start + count) for start in range(0, weight.shape[0], count or 1)]
    return [Product(rows[p], None if bias is None else bias[p], options) for p in parts]


def _convolve(
    x: Array, weight: Array, group: int, windows: Windows, products: list[Product]
) -> Array:
    channels = weight.shape[1]
    if x.ndim != weight.ndim or x.shape[1] != channels * group:
        raise ValueError(f"x is {x.shape}, for {group} groups of the weight {weight.shape}")
    batch, axes = x.shape[0], x.ndim - 2
    x = windows.padded(x, 0)
    size = math.prod(windows.kernel) * channels
    claim((batch, *windows.steps, size * group), x.dtype)
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))  # (B, ..., C)
    view = windows.over(np.moveaxis(last, -1, 1))  # (B, C, *steps, *kernel)
    view = np.moveaxis(view, 1, -1)
    made = [
        product(
            np.ascontiguousarray(
                view[..., i * channels : (i + 1) * channels] if group > 1 else view
            ).reshape(batch, *windows.steps, size)
        )
        for i, product in enumerate(products)
    ]
    y = made[0] if len(made) == 1 else np.concatenate(made, axis=-1)
    return y.transpose(0, axes + 1, *range(1, axes + 1))


@op("ConvTranspose", 1)
def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """X (B, C, ...) with weights (C, M/group, *kernel) to (B, M, ...)."""
    products = _transposed_products(weight, group, {})
    attributes = (auto_pad, dilations, kernel_shape, output_padding, output_shape, pads, strides)
    return _spread(x, weight, bias, group, products, *attributes)


@prepares(conv_transpose)
def prepare_conv_transpose(
    known: Sequence[Any],
    options: dict[str, Any],
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Callable[..., Array] | None:
    """A transposed convolution whose weights are packed once."""
    if not are_constant(known[1]):
        return None
    products = _transposed_products(known[1], group, options)
    attributes = (auto_pad, dilations, kernel_shape, output_padding, output_shape, pads, strides)

    def spread(x: Array, weight: Array, bias: Array | None = None) -> Array:
        return _spread(x, weight, bias, group, products, *attributes)

    return spread


def _transposed_products(weight: Array, group: int, options: dict[str, Any]) -> list[Product]:
    """One product for each group: from the channels of x to the kernel's places times M/group."""
    if group < 1 or weight.ndim < 3 or weight.shape[0] % group:
        raise ValueError(f"{group} groups of the weight {weight.shape}")
    count = weight.shape[0] // group
    columns = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)  # (C, kernel * M/group)
    starts = range(0, weight.shape[0], count or 1)
    return [Product(columns[start : start + count].T, None, options) for start in starts]


def _spread(
    x: Array,
    weight: Array,
    bias: Array | None,
    group: int,
    products: list[Product],
    auto_pad: str,
    dilations: Sequence[int] | None,
    kernel_shape: Sequence[int] | None,
    output_padding: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> Array:
    check_kernel(weight, kernel_shape)
    kernel, lengths, axes = weight.shape[2:], x.shape[2:], x.ndim - 2
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[0]:
        raise ValueError(f"x is {x.shape}, for the weight {weight.shape}")
    steps, gaps = tuple(strides or (1,) * axes), tuple(dilations or (1,) * axes)
    more = tuple(output_padding or (0,) * axes)
    if min((*steps, *gaps), default=1) < 1 or min(more, default=0) < 0:
        raise ValueError(f"strides are {steps}, dilations {gaps}, output_padding {more}")
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(lengths, steps, kernel, gaps, strict=True)
    ]
    if output_shape is not None or auto_pad.startswith("SAME"):
        wanted = output_shape or [n * s for n, s in zip(lengths, steps, strict=True)]
        wanted = list(wanted)[-axes:]
        total = [max(n + e - w, 0) for n, e, w in zip(full, more, wanted, strict=True)]
        less, rest = [n // 2 for n in total], [n - n // 2 for n in total]
        before, after = (rest, less) if auto_pad == "SAME_LOWER" else (less, rest)
    else:
        given = list(pads or (0,) * 2 * axes) if auto_pad == "NOTSET" else [0] * 2 * axes
        before, after = given[:axes], given[axes:]
        wanted = [
            n + e - low - high for n, e, low, high in zip(full, more, before, after, strict=True)
        ]
    if min(wanted, default=0) < 0 or len(before) != axes or min((*before, *after), default=0) < 0:
        raise ValueError(f"gives {wanted} elements")
    channels = weight.shape[1]
    count = weight.shape[0] // group
    ends = [
        max(n, low + w) for n, low, w in zip(full, before, wanted, strict=True)
    ]  # as much as is summed into or kept
    claim((x.shape[0], *ends, channels * group), x.dtype)
    claim((x.shape[0], *lengths, math.prod(kernel) * channels), x.dtype)
    y = np.zeros((x.shape[0], *ends, channels * group), x.dtype)
    last = np.moveaxis(x, 1, -1)
    for i, product in enumerate(products):
        rows = np.ascontiguousarray(last[..., i * count : (i + 1) * count])
        made = product(rows).reshape(*rows.shape[:-1], *kernel, channels)
        part = y[..., i * channels : (i + 1) * channels]
        for place in np.ndindex(*kernel):
            target = tuple(
                slice(p * d, p * d + (n - 1) * s + 1, s)
                for p, d, n, s in zip(place, gaps, lengths, steps, strict=True)
            )
            if min(lengths, default=1):
                part[(slice(None), *target)] += made[(slice(None),) * (axes + 1) + place]
    kept = tuple(slice(low, low + w) for low, w in zip(before, wanted, strict=True))
    y = y[(slice(None), *kept)]
    if bias is not None:
        y = y + bias
    return np.moveaxis(y, -1, 1)
