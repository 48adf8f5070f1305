"""Pools: the greatest or the mean of windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.models.ops.reduce import add_last
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array, op, runs_over
from fastrnn.models.ops.windows import Windows, lay

_FEW_PLACES = 64  # of a window; of more, a file could ask for any number of calls


@op("MaxPool", 8)
def max_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    outputs: int,
) -> Any:
    """The greatest of each window of x (B, C, ...), and where in x it stands."""
    windows = lay(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    view = windows.over(windows.padded(x, _least(x)))
    if outputs < 2 and math.prod(kernel_shape) <= _FEW_PLACES:
        places = _places(view, windows)
        claim(places[0].shape, x.dtype)
        y = places[0].copy(order="K")
        for place in places[1:]:
            np.maximum(y, place, out=y)
        return y
    claim(view.shape, x.dtype)
    flat = np.ascontiguousarray(view).reshape(*x.shape[:2], *windows.steps, -1)
    if outputs < 2:
        return flat.max(axis=-1)
    claim(view.shape, np.int64)
    order: Any = "F" if storage_order else "C"
    numbers = np.arange(math.prod(x.shape[2:]), dtype=np.int64).reshape(x.shape[2:], order=order)
    inner = windows.over(windows.padded(numbers[None, None], -1))
    where = np.ascontiguousarray(inner).reshape(1, 1, *windows.steps, -1)
    chosen = flat.argmax(axis=-1)[..., None]
    found = np.take_along_axis(np.broadcast_to(where, flat.shape), chosen, -1)[..., 0]
    offsets = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
    return flat.max(axis=-1), found + offsets * numbers.size


@runs_over(max_pool)
def max_pool_over(
    given: Sequence[Any],
    results: Sequence[Array],
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> list[Callable[[], Any]] | None:
    """One place of the windows after another, as the function does it."""
    x = given[0]
    if len(results) > 1 or math.prod(kernel_shape) > _FEW_PLACES:
        return None
    windows = lay(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    calls, padded = windows.padding(x, _least(x))
    first, *others = _places(windows.over(padded), windows)
    calls.append(partial(np.copyto, results[0], first))
    return calls + [partial(np.maximum, results[0], other, out=results[0]) for other in others]


def _least(x: Array) -> Any:
    """What padding is to a maximum."""
    return -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min


def _places(view: Array, windows: Windows) -> list[Array]:
    """Of windows (B, C, *steps, *kernel) the same place of all of them, (B, C, *steps), each."""
    return [view[(..., *index)] for index in np.ndindex(*windows.kernel)]


@op("AveragePool", 7)
def average_pool(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Array:
    """The mean of each window of x (B, C, ...), over its padding or without."""
    windows = lay(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    view = windows.over(windows.padded(x, 0))
    claim(view.shape, x.dtype)
    axes = tuple(range(x.ndim, 2 * x.ndim - 2))
    counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if count_include_pad:  # that which the node asks for, not what ceil_mode adds
        axes_pads = list(pads or (0,) * 2 * (x.ndim - 2))
        if auto_pad != "NOTSET":
            axes_pads = [*windows.before, *windows.after]
        half = len(axes_pads) // 2
        widths = [(0, 0), (0, 0), *zip(axes_pads[:half], axes_pads[half:], strict=True)]
        counted = np.pad(counted, widths, constant_values=1)
        rest = [(0, a + b + n - c) for n, a, b, c in zip(
            x.shape[2:], windows.before, windows.after, counted.shape[2:], strict=True
        )]  # fmt: skip
        counted = windows.over(np.pad(counted, [(0, 0), (0, 0), *rest]))
    else:
        counted = windows.over(windows.padded(counted, 0))
    return (add_last(view, axes) / add_last(counted, axes)).astype(x.dtype, copy=False)


@op("GlobalAveragePool", 1)
def global_average_pool(x: Array) -> Array:
    """The mean over all axes after batch and channels, which stay with length 1."""
    axes = tuple(range(2, x.ndim))
    count = x.dtype.type(math.prod(x.shape[2:]))
    return np.expand_dims((add_last(x, axes) / count).astype(x.dtype, copy=False), axes)


@op("GlobalMaxPool", 1)
def global_max_pool(x: Array) -> Array:
    """The greatest over all axes after batch and channels, which stay with length 1."""
    return x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
