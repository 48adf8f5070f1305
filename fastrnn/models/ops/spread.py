"""Transposed convolutions: what products give, added up where it overlaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastrnn.models.ops.product import Product
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array


class Ends(NamedTuple):
    """Lengths of each axis: of all that is summed, and where what is kept begins and ends in it."""

    all: tuple[int, ...]
    kept: tuple[slice, ...]


class Spread:
    """Where the elements of a transposed convolution come to lie: a node's attributes."""

    def __init__(
        self,
        kernel: tuple[int, ...],
        auto_pad: str,
        dilations: Sequence[int] | None,
        kernel_shape: Sequence[int] | None,
        output_padding: Sequence[int] | None,
        output_shape: Sequence[int] | None,
        pads: Sequence[int] | None,
        strides: Sequence[int] | None,
    ) -> None:
        if kernel_shape is not None and tuple(kernel_shape) != kernel:
            raise ValueError(f"kernel_shape is {tuple(kernel_shape)}, the weight's {kernel}")
        axes = len(kernel)
        self.kernel, self.auto_pad, self.output_shape = kernel, auto_pad, output_shape
        self.strides, self.gaps = tuple(strides or (1,) * axes), tuple(dilations or (1,) * axes)
        self.more = tuple(output_padding or (0,) * axes)
        self.pads = list(pads or (0,) * 2 * axes) if auto_pad == "NOTSET" else [0] * 2 * axes
        if min((*self.strides, *self.gaps), default=1) < 1 or min(self.more, default=0) < 0:
            raise ValueError(
                f"strides are {self.strides}, dilations {self.gaps}, output_padding {self.more}"
            )

    def ends(self, lengths: Sequence[int]) -> Ends:
        """Of x's axes of those lengths; ValueError where nothing could be kept."""
        axes = len(lengths)
        full = [
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(lengths, self.strides, self.kernel, self.gaps, strict=True)
        ]
        if self.output_shape is not None or self.auto_pad.startswith("SAME"):
            whole = [n * s for n, s in zip(lengths, self.strides, strict=True)]
            wanted = list(self.output_shape or whole)[-axes:]
            sizes = zip(full, self.more, wanted, strict=True)
            total = [max(n + e - w, 0) for n, e, w in sizes]
            less, rest = [n // 2 for n in total], [n - n // 2 for n in total]
            before, after = (rest, less) if self.auto_pad == "SAME_LOWER" else (less, rest)
        else:
            before, after = self.pads[:axes], self.pads[axes:]
            ends = zip(full, self.more, before, after, strict=True)
            wanted = [n + e - low - high for n, e, low, high in ends]
        if (
            min(wanted, default=0) < 0
            or len(before) != axes
            or min((*before, *after), default=0) < 0
        ):
            raise ValueError(f"gives {wanted} elements")
        reached = [max(n, low + w) for n, low, w in zip(full, before, wanted, strict=True)]
        kept = tuple(slice(low, low + w) for low, w in zip(before, wanted, strict=True))
        return Ends(tuple(reached), kept)

    def target(self, place: Sequence[int], lengths: Sequence[int]) -> tuple[slice, ...]:
        """Where one place of the kernel is added."""
        sizes = zip(place, self.gaps, lengths, self.strides, strict=True)
        return tuple(slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in sizes)


class TransposedConvolution:
    """A transposed convolution with packed weights (C, M/group, *kernel)."""

    def __init__(self, weight: Array, group: int, layout: Spread, options: dict[str, Any]) -> None:
        if group < 1 or weight.ndim < 3 or weight.shape[0] % group:
            raise ValueError(f"{group} groups of the weight {weight.shape}")
        self.shape, self.layout = weight.shape, layout
        self.count, self.channels = weight.shape[0] // group, weight.shape[1]
        # One product for each group: from the channels of x to the kernel's places times M/group.
        columns = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
        starts = range(0, weight.shape[0], self.count or 1)
        self.products = [Product(columns[i : i + self.count].T, None, options) for i in starts]

    def __call__(self, x: Array, _: Array, bias: Array | None = None) -> Array:
        """X (B, C, ...) to (B, M, ...)."""
        ends, lengths = self._ends(x), x.shape[2:]
        claim((x.shape[0], *lengths, math.prod(self.layout.kernel) * self.channels), x.dtype)
        y = np.zeros((x.shape[0], *ends.all, self.channels * len(self.products)), x.dtype)
        last = np.moveaxis(x, 1, -1)
        for i, product in enumerate(self.products):
            made = product(np.ascontiguousarray(last[..., i * self.count : (i + 1) * self.count]))
            for target, term in self._terms(y, made, i, lengths):
                target += term
        y = y[(slice(None), *ends.kept)]
        return np.moveaxis(y if bias is None else y + bias, -1, 1)

    def over(self, given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
        """Calls that compute `results` from `given`."""
        x, _, bias = (*given, None)[:3]
        ends = self._ends(x)
        y = np.zeros((x.shape[0], *ends.all, self.channels * len(self.products)), x.dtype)
        last = np.moveaxis(x, 1, -1)
        calls: list[Any] = [partial(y.fill, 0)]
        for i, product in enumerate(self.products):
            part = last[..., i * self.count : (i + 1) * self.count]
            made = np.empty((*part.shape[:-1], product.outputs), x.dtype)
            calls += product.over(part, 1, made.reshape(-1, product.outputs))
            terms = self._terms(y, made, i, x.shape[2:])
            calls += [partial(np.add, target, term, out=target) for target, term in terms]
        kept, result = y[(slice(None), *ends.kept)], np.moveaxis(results[0], 1, -1)
        if bias is None:
            return [*calls, partial(np.copyto, result, kept)]
        return [*calls, partial(np.add, kept, bias, out=result)]

    def _ends(self, x: Array) -> Ends:
        if x.ndim != len(self.shape) or x.shape[1] != self.shape[0]:
            raise ValueError(f"x is {x.shape}, for the weight {self.shape}")
        ends = self.layout.ends(x.shape[2:])
        claim((x.shape[0], *ends.all, self.channels * len(self.products)), x.dtype)
        return ends

    def _terms(
        self, y: Array, made: Array, group: int, lengths: Sequence[int]
    ) -> list[tuple[Array, Array]]:
        """For each place of the kernel, where in y (B, ..., M) it is added, and what of a group's
        products (B, ..., kernel * M/group).
        """
        if not min(lengths, default=1):
            return []
        kernel = self.layout.kernel
        part = y[..., group * self.channels : (group + 1) * self.channels]
        places = made.reshape(*made.shape[:-1], *kernel, self.channels)
        every = (slice(None),) * (len(kernel) + 1)
        return [
            (part[(slice(None), *self.layout.target(place, lengths))], places[every + place])
            for place in np.ndindex(*kernel)
        ]
