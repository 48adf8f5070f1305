"""Where the windows of convolutions and pools lie: padding, strides, dilation, output lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array


@dataclass(frozen=True)
class Windows:
    """Windows over the axes after batch and channels; one number for each of them.

    before, after: padding. steps: how many windows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    steps: tuple[int, ...]

    def padded(self, x: Array, fill: Any) -> Array:
        """X (B, C, ...) with its padding, where there is any."""
        if not any(self.before) and not any(self.after):
            return x
        widths = [(0, 0), (0, 0), *zip(self.before, self.after, strict=True)]
        claim([n + low + high for n, (low, high) in zip(x.shape, widths, strict=True)], x.dtype)
        return np.pad(x, widths, constant_values=fill)

    def padding(
        self, x: Array, fill: Any, *, channels_last: bool = False
    ) -> tuple[list[Callable[[], Any]], Array]:
        """Calls that bring x (B, C, ...) to an array that stays, with its padding; and that array.

        No calls, and x, where there is no padding, and its channels lie last in memory if they are
        to.
        """
        lies = not channels_last or np.moveaxis(x, 1, -1).flags.c_contiguous
        if lies and not any(self.before) and not any(self.after):
            return [], x
        lengths = zip(x.shape[2:], self.before, self.after, strict=True)
        shape = (*x.shape[:2], *map(sum, lengths))
        if channels_last:
            padded = np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), x.dtype), -1, 1)
        else:
            padded = empty_like(x, shape)
        padded[...] = fill
        inner = tuple(slice(low, low + n) for n, low in zip(x.shape[2:], self.before, strict=True))
        return [partial(np.copyto, padded[(slice(None), slice(None), *inner)], x)], padded

    def over(self, x: Array) -> Array:
        """A view of padded x (B, C, ...): (B, C, *steps, *kernel)."""
        axes = x.strides[2:]
        return as_strided(
            x,
            (*x.shape[:2], *self.steps, *self.kernel),
            (
                *x.strides[:2],
                *(step * n for step, n in zip(axes, self.strides, strict=True)),
                *(step * n for step, n in zip(axes, self.dilations, strict=True)),
            ),
            writeable=False,
        )


def empty_like(x: Array, shape: Sequence[int]) -> Array:
    """An array of another shape whose axes lie in memory in the order of x's."""
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    made = np.empty([shape[axis] for axis in order], x.dtype)
    return made.transpose(np.argsort(order))


def lay(
    lengths: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int = 0,
) -> Windows:
    """The windows of a node's attributes over axes of `lengths`; ValueError if they do not fit."""
    axes = len(kernel)
    strides, dilations = tuple(strides or (1,) * axes), tuple(dilations or (1,) * axes)
    for name, values in (("kernel", kernel), ("strides", strides), ("dilations", dilations)):
        if len(values) != len(lengths) or min(values, default=1) < 1:
            raise ValueError(f"{name} is {tuple(values)}, for {len(lengths)} axes")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in ("NOTSET", "VALID"):
        pads = tuple(pads or (0,) * 2 * axes) if auto_pad == "NOTSET" else (0,) * 2 * axes
        if len(pads) != 2 * axes or min(pads, default=0) < 0:
            raise ValueError(f"pads is {tuple(pads)}, for {axes} axes")
        before, after = tuple(pads[:axes]), tuple(pads[axes:])
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        steps = [-(-n // s) for n, s in zip(lengths, strides, strict=True)]
        total = [
            max((count - 1) * s + span - n, 0)
            for count, s, span, n in zip(steps, strides, spans, lengths, strict=True)
        ]
        less, more = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
        before, after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    else:
        raise ValueError(f"auto_pad={auto_pad!r}")
    steps, extra = [], []
    for n, span, s, low, high in zip(lengths, spans, strides, before, after, strict=True):
        room = n + low + high - span
        if room < 0:
            raise ValueError(f"a window of {span} over {n + low + high} elements")
        count = room // s + 1
        if ceil_mode and room % s and count * s < n + low:  # it must start before the padding
            count += 1
        steps.append(count)
        extra.append(max((count - 1) * s - room, 0))
    after = tuple(high + more for high, more in zip(after, extra, strict=True))
    return Windows(tuple(kernel), strides, dilations, before, after, tuple(steps))
