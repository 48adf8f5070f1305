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
from fastrnn.models.ops.spread import Spread, TransposedConvolution
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
        x, y = given[0], np.moveaxis(results[0], 1, -1)
        windows = self._windows(x)
        calls, padded = windows.padding(x, 0, channels_last=True)
        view = self._over(np.moveaxis(padded, 1, -1), windows)
        if not self.products:
            more = self._depthwise_over(view, y)
        elif self.group == 1:
            more = self._rows_over(view, y, self.products[0])
        else:
            more = self._groups_over(view, y)
        return None if more is None else calls + more

    def _rows_over(self, view: Array, y: Array, product: Product) -> list[Any] | None:
        """One group's windows (B, *steps, *kernel, C) to y (B, *steps, M)."""
        out = y.reshape(-1, y.shape[-1])
        if not np.may_share_memory(out, y):
            return None
        return product.over(view, len(self.kernel) + 1, out)

    def _groups_over(self, view: Array, y: Array) -> list[Any] | None:
        calls: list[Any] = []
        count = y.shape[-1] // self.group
        for i, (part, product) in enumerate(zip(self._parts(view), self.products, strict=True)):
            made = np.empty((*y.shape[:-1], count), y.dtype)
            more = self._rows_over(part, made, product)
            if more is None:
                return None
            calls += [*more, partial(np.copyto, y[..., i * count : (i + 1) * count], made)]
        return calls

    def _depthwise_over(self, view: Array, y: Array) -> list[Any] | None:
        if view.dtype.kind != "f" or np.result_type(view.dtype, np.float32) != view.dtype:
            return None
        axes = len(self.kernel)
        wide = y.reshape(*y.shape[:-1], -1, self.repeats)
        if not np.may_share_memory(wide, y):
            return None
        term = np.empty_like(wide)
        calls: list[Any] = []
        for place, index in enumerate(np.ndindex(*self.kernel)):
            taken = view[(slice(None),) * (axes + 1) + index][..., None]
            taps = self.taps[place].reshape(-1, self.repeats)
            calls.append(partial(np.multiply, taken, taps, out=term if place else wide))
            if place:
                calls.append(partial(np.add, wide, term, out=wide))
        if self.bias is not None:
            calls.append(partial(np.add, y, self.bias, out=y))
        return calls


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
    layout = Spread(
        weight.shape[2:], auto_pad, dilations, kernel_shape, output_padding, output_shape, pads,
        strides,
    )  # fmt: skip
    return TransposedConvolution(weight, group, layout, {})(x, weight, bias)


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
    layout = Spread(
        known[1].shape[2:], auto_pad, dilations, kernel_shape, output_padding, output_shape, pads,
        strides,
    )  # fmt: skip
    return TransposedConvolution(known[1], group, layout, options)
