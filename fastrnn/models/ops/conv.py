"""Convolutions: windows as rows, and their product with the weights.

Channels come last inside: a window is then a row of adjacent numbers, wherever rows begin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

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
    check_kernel(weight, kernel_shape)
    layout = partial(lay, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    return Convolution(weight, bias, group, layout, {})(x)


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
    layout = partial(lay, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    return Convolution(weight, bias, group, layout, options)


def check_kernel(weight: Array, kernel_shape: Sequence[int] | None) -> None:
    """ValueError unless the weights have the kernel that the node names."""
    if kernel_shape is not None and tuple(kernel_shape) != weight.shape[2:]:
        raise ValueError(f"kernel_shape is {tuple(kernel_shape)}, the weight {weight.shape}")


class Convolution:
    """A convolution with packed weights.

    Parameters
    ----------
    weight, bias : arrays (M, C/group, *kernel), (M,) or None
    layout : function of the lengths of x's axes and of the kernel's
        Where its windows lie.
    """

    def __init__(
        self,
        weight: Array,
        bias: Array | None,
        group: int,
        layout: Callable[[Sequence[int], Sequence[int]], Windows],
        options: dict[str, Any],
    ) -> None:
        if group < 1 or weight.ndim < 3 or weight.shape[0] % group:
            raise ValueError(f"{group} groups of the weight {weight.shape}")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"the bias is {bias.shape}, for the weight {weight.shape}")
        self.group, self.channels, self.kernel = group, weight.shape[1], weight.shape[2:]
        self.layout = layout
        self.products: list[Product] = []
        self.bias, count = bias, weight.shape[0] // group
        rows = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
        if self.channels == 1 and group > 1:  # each group is a few products of single numbers
            self.taps = np.ascontiguousarray(rows.T)  # (places, M)
            self.repeats = count
            return
        for start in range(0, weight.shape[0], count or 1):
            part = slice(start, start + count)
            self.products.append(Product(rows[part], None if bias is None else bias[part], options))

    def __call__(self, x: Array, *_: Any) -> Array:
        """X (B, C, ...) to (B, M, ...)."""
        windows, axes = self._windows(x), x.ndim - 2
        last = np.ascontiguousarray(np.moveaxis(windows.padded(x, 0), 1, -1))
        view = self._over(last, windows)  # (B, *steps, *kernel, C)
        if not self.products:
            y = self._depthwise(view)
        else:
            claim((*view.shape,), x.dtype)
            rows = [part.reshape(*part.shape[: axes + 1], -1) for part in self._parts(view)]
            made = [product(part) for product, part in zip(self.products, rows, strict=True)]
            y = made[0] if len(made) == 1 else np.concatenate(made, axis=-1)
        return y.transpose(0, axes + 1, *range(1, axes + 1))

    def _windows(self, x: Array) -> Windows:
        if x.ndim != len(self.kernel) + 2 or x.shape[1] != self.channels * self.group:
            raise ValueError(
                f"x is {x.shape}, expected {self.channels * self.group} channels and "
                f"{len(self.kernel)} axes after them"
            )
        return self.layout(x.shape[2:], self.kernel)

    def _over(self, last: Array, windows: Windows) -> Array:
        """The windows of padded (B, ..., C): a view (B, *steps, *kernel, C)."""
        return np.moveaxis(windows.over(np.moveaxis(last, -1, 1)), 1, -1)

    def _parts(self, view: Array) -> list[Array]:
        """Each group's windows."""
        if self.group == 1:
            return [view]
        starts = range(0, self.group * self.channels, self.channels)
        return [view[..., start : start + self.channels] for start in starts]

    def _depthwise(self, view: Array) -> Array:
        """One place of the kernel after another, in the order that products have, too."""
        axes, kernel = len(self.kernel), math.prod(self.kernel)
        claim((*view.shape[: axes + 1], self.taps.shape[1]), view.dtype, 3)
        wide = np.result_type(view.dtype, np.float32)
        y: Any = None
        for place, index in zip(range(kernel), np.ndindex(*self.kernel), strict=True):
            taken = view[(slice(None),) * (axes + 1) + index]
            term = np.repeat(taken, self.repeats, axis=-1) if self.repeats > 1 else taken
            term = np.multiply(term, self.taps[place], dtype=wide)
            y = term if y is None else np.add(y, term, out=y)
        y = y if self.bias is None else y + self.bias
        return y.astype(view.dtype, copy=False)

    def over(self, given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
        """Calls that compute `results` from `given`: padding stays, and is not copied again."""
        if len(self.products) != 1:
            return None
        x, y = given[0], np.moveaxis(results[0], 1, -1)
        windows, size = self._windows(x), self.products[0].inputs
        calls: list[Any] = []
        last = np.moveaxis(x, 1, -1)
        if any((*windows.before, *windows.after)) or not last.flags.c_contiguous:
            lengths = zip(x.shape[2:], windows.before, windows.after, strict=True)
            padded = np.zeros((len(x), *map(sum, lengths), x.shape[1]), x.dtype)
            inner = tuple(
                slice(low, low + n) for n, low in zip(x.shape[2:], windows.before, strict=True)
            )
            calls.append(partial(np.copyto, padded[(slice(None), *inner)], last))
            last = padded
        view = self._over(last, windows)
        rows = view.reshape(-1, size)
        if not np.may_share_memory(rows, last):
            calls.append(partial(np.copyto, rows.reshape(view.shape), view))
        out = y.reshape(-1, y.shape[-1])
        if not np.may_share_memory(out, results[0]):
            return None
        return [*calls, *self.products[0].over(rows, out)]


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
