"""Padding with a constant, with what is near, or with what is at the other end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastrnn.models.ops.room import claim
from fastrnn.models.ops.shape import numbers
from fastrnn.models.ops.slicing import axis_of
from fastrnn.models.ops.table import Array, op, runs_over

_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


class _Amounts(NamedTuple):
    """What a Pad cuts off first, and what it then adds before and after each axis."""

    cut: tuple[slice, ...]
    widths: list[tuple[int, int]]


@op("Pad", 2)
def pad_2(x: Array, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """X with `pads` elements before each axis and then after each, fewer where negative."""
    return pad_11(x, np.array(pads), x.dtype.type(value), mode=mode)


@op("Pad", 11, shaped_by=(1, 3))
def pad_11(
    x: Array, pads: Any, value: Any = None, axes: Any = None, *, mode: str = "constant"
) -> Array:
    """X with `pads` elements before each of `axes` and then after each, fewer where negative."""
    if mode not in _MODES:
        raise ValueError(f"mode={mode!r}, expected one of {', '.join(_MODES)}")
    cut, widths = _amounts(x, pads, axes)
    x = x[cut]
    claim([n + low + high for n, (low, high) in zip(x.shape, widths, strict=True)], x.dtype)
    if mode == "constant":
        fill = 0 if value is None else np.asarray(value).reshape(-1)[0]
        return np.pad(x, widths, constant_values=fill)
    most = {"reflect": -1, "wrap": 0}.get(mode)
    for n, pair in zip(x.shape, widths, strict=True):
        if max(pair) and (not n or (most is not None and max(pair) > n + most)):
            raise ValueError(f"mode={mode!r} pads {n} elements with {max(pair)}")
    return np.pad(x, widths, mode=_MODES[mode])  # type: ignore[call-overload]


def _amounts(x: Array, pads: Any, axes: Any) -> _Amounts:
    amounts = numbers(pads)
    chosen = list(range(x.ndim)) if axes is None else [axis_of(x, a) for a in numbers(axes)]
    if len(amounts) != 2 * len(chosen):
        raise ValueError(f"pads has {len(amounts)} numbers, expected {2 * len(chosen)}")
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = amounts[place], amounts[len(chosen) + place]
    cut = tuple(
        slice(max(-low, 0), max(n - max(-high, 0), 0))
        for n, low, high in zip(x.shape, before, after, strict=True)
    )
    return _Amounts(
        cut, [(max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True)]
    )


@runs_over(pad_2)
def pad_2_over(
    given: Sequence[Any],
    results: Sequence[Array],
    *,
    pads: Sequence[int],
    mode: str = "constant",
    value: float = 0.0,
) -> list[Any] | None:
    """As `pad_over`."""
    return pad_over([given[0], np.array(pads)], results, mode=mode)


@runs_over(pad_11)
def pad_over(
    given: Sequence[Any], results: Sequence[Array], *, mode: str = "constant"
) -> list[Any] | None:
    """Copies: of x into its place, and of the edges one axis after another."""
    x, y = given[0], results[0]
    cut, widths = _amounts(x, given[1], given[3] if len(given) > 3 else None)
    if mode == "constant" and len(given) > 2 and given[2] is not None and given[2].flags.writeable:
        return None  # a value that may change
    x = x[cut]
    place = [slice(low, low + n) for n, (low, _) in zip(x.shape, widths, strict=True)]
    calls: list[Any] = [partial(np.copyto, y[tuple(place)], x)]
    if mode == "constant":  # which stays
        return calls
    for axis, (low, high) in enumerate(widths):
        inner = place[axis]
        for count, side in ((low, 0), (high, 1)):
            if count:
                at = slice(0, low) if side == 0 else slice(inner.stop, inner.stop + high)
                source = _edge(inner, count, side, mode)
                index = (*(slice(None),) * axis,)
                rest = tuple(place[axis + 1 :])
                calls.append(partial(np.copyto, y[(*index, at, *rest)], y[(*index, source, *rest)]))
        place[axis] = slice(None)
    return calls


def _edge(inner: slice, count: int, side: int, mode: str) -> slice | list[int]:
    """Where in a padded axis the numbers of an edge come from."""
    first, last = inner.start, inner.stop - 1
    if mode == "edge":
        return slice(first, first + 1) if side == 0 else slice(last, last + 1)
    if mode == "wrap":
        return slice(last + 1 - count, last + 1) if side == 0 else slice(first, first + count)
    if side == 0:
        return slice(first + count, first, -1)
    return slice(last - 1, last - 1 - count if last - 1 - count >= 0 else None, -1)
