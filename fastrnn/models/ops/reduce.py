"""Reductions along axes.

NumPy adds in an order that depends on the memory's layout. Sums here are along the last axis of a
contiguous array: that order depends on the number of terms alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn._kernels import product as kernel
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array, op, runs_over


def add_last(x: Array, axes: Sequence[int]) -> Array:
    """The sum of x along `axes`, which vanish."""
    claim(x.shape, x.dtype)
    rows = _rows(x, axes)
    if not _in_kernel(rows):
        return np.add.reduce(rows, axis=-1, dtype=x.dtype)
    y = np.empty(rows.shape[:-1], x.dtype)
    kernel.rows_over("sum", rows.reshape(-1, rows.shape[-1]), y.reshape(-1))()
    return y


def _in_kernel(rows: Array) -> bool:
    return rows.dtype == np.float32 and rows.shape[-1] > 0


def add_last_over(x: Array, y: Array, axes: Sequence[int]) -> list[Callable[[], Any]] | None:
    """Calls that compute in y the sum of x along `axes`, as `add_last`; None: there are none."""
    rows = _rows(x, axes)
    out = y.reshape(rows.shape[:-1])
    if not np.may_share_memory(out, y):
        return None
    calls: list[Callable[[], Any]] = []
    if not np.may_share_memory(rows, x):
        kept, moved = np.empty(rows.shape, x.dtype), _moved(x, axes)
        calls.append(partial(np.copyto, kept.reshape(moved.shape), moved))
        rows = kept
    if _in_kernel(rows):
        sums = out if out.flags.c_contiguous else np.empty(out.shape, x.dtype)
        flat = rows.reshape(-1, rows.shape[-1])
        calls.append(kernel.rows_over("sum", flat, sums.reshape(-1)))
        return calls if sums is out else [*calls, partial(np.copyto, out, sums)]
    return [*calls, partial(np.add.reduce, rows, -1, x.dtype, out)]


def greatest_over(name: str, x: Array, y: Array, axes: Sequence[int]) -> list[Callable[[], Any]]:
    """Calls that compute in y the "max" or "min" of x along `axes`, with their axes or without."""
    last = [axis % x.ndim for axis in axes] == list(range(x.ndim - len(axes), x.ndim))
    if x.dtype == np.float32 and last and x.flags.c_contiguous and y.flags.c_contiguous:
        return [kernel.rows_over(name, x.reshape(y.size, -1), y.reshape(-1))]
    out = y.squeeze(tuple(axes)) if y.ndim == x.ndim else y
    return [partial(_EXTREMES[name].reduce, x, tuple(axes), None, out)]


def _moved(x: Array, axes: Sequence[int]) -> Array:
    """X with `axes` last."""
    chosen = sorted(axis % x.ndim for axis in axes)
    kept = [axis for axis in range(x.ndim) if axis not in chosen]
    return x.transpose(kept + chosen)


def _rows(x: Array, axes: Sequence[int]) -> Array:
    """X, contiguous, with `axes` as one, the last."""
    moved = _moved(x, axes)
    shape = moved.shape[: x.ndim - len(axes)]
    count = math.prod(x.shape[axis] for axis in axes)
    return np.ascontiguousarray(moved).reshape(*shape, count)


def restore(y: Array, ndim: int, axes: Sequence[int]) -> Array:
    """Y with the reduced axes of an array of `ndim` axes put back, each of length 1."""
    return np.expand_dims(y, tuple(axis % ndim for axis in axes))


def _along(x: Array, axes: Any, noop: int) -> tuple[int, ...]:
    """The axes that a node means: all where it names none."""
    named = () if axes is None else tuple(int(axis) for axis in np.asarray(axes).reshape(-1))
    for axis in named:
        if not -x.ndim <= axis < x.ndim:
            raise ValueError(f"axis {axis} of an array with {x.ndim} axes")
    return named or (() if noop else tuple(range(x.ndim)))


def _sum(x: Array, axes: tuple[int, ...]) -> Array:
    return add_last(x, axes)


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    count = math.prod(x.shape[axis] for axis in axes)
    if x.dtype.kind != "f":
        return add_last(x, axes) // x.dtype.type(count)
    return add_last(x, axes) / x.dtype.type(count)


def _square_sum(x: Array, axes: tuple[int, ...]) -> Array:
    return add_last(x * x, axes)


def _l1(x: Array, axes: tuple[int, ...]) -> Array:
    return add_last(np.abs(x), axes)


def _l2(x: Array, axes: tuple[int, ...]) -> Array:
    return np.sqrt(add_last(x * x, axes)).astype(x.dtype, copy=False)


def _log_sum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.log(add_last(x, axes)).astype(x.dtype, copy=False)


def _log_sum_exp(x: Array, axes: tuple[int, ...]) -> Array:
    if not x.size:
        return np.log(add_last(x, axes)).astype(x.dtype, copy=False)
    most = x.max(axis=axes, keepdims=True)
    most = np.where(np.isfinite(most), most, 0).astype(most.dtype)
    total = np.log(add_last(np.exp(x - most), axes))
    return (total + most.reshape(total.shape)).astype(x.dtype, copy=False)


def _prod(x: Array, axes: tuple[int, ...]) -> Array:
    claim(x.shape, x.dtype)
    return np.multiply.reduce(_rows(x, axes), axis=-1, dtype=x.dtype)


def _max(x: Array, axes: tuple[int, ...]) -> Array:
    return np.maximum.reduce(x, axis=axes, initial=_extreme(x.dtype, -1))


def _min(x: Array, axes: tuple[int, ...]) -> Array:
    return np.minimum.reduce(x, axis=axes, initial=_extreme(x.dtype, 1))


def _extreme(dtype: np.dtype[Any], sign: int) -> Any:
    """What the maximum (-1) or minimum (1) of nothing is."""
    if dtype.kind == "f":
        return dtype.type(sign * math.inf)
    if dtype.kind == "b":
        return np.bool_(sign > 0)
    return np.iinfo(dtype).min if sign < 0 else np.iinfo(dtype).max


_REDUCTIONS: dict[str, tuple[int, Callable[[Array, tuple[int, ...]], Array]]] = {
    "ReduceSum": (13, _sum),  # the version from which on the axes are an input
    "ReduceMean": (18, _mean),
    "ReduceMax": (18, _max),
    "ReduceMin": (18, _min),
    "ReduceProd": (18, _prod),
    "ReduceSumSquare": (18, _square_sum),
    "ReduceL1": (18, _l1),
    "ReduceL2": (18, _l2),
    "ReduceLogSum": (18, _log_sum),
    "ReduceLogSumExp": (18, _log_sum_exp),
}
_EXTREMES = {"max": np.maximum, "min": np.minimum}
_OF_ONE_IS_IT = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"}


def _over(name: str, x: Array, y: Array, axes: tuple[int, ...]) -> list[Callable[[], Any]] | None:
    """A sum, mean or extreme as calls of the ufuncs themselves."""
    if name in ("ReduceMax", "ReduceMin") and x.dtype.kind == "f" and axes and x.size:
        return greatest_over(name.removeprefix("Reduce").lower(), x, y, axes)
    if name not in ("ReduceSum", "ReduceMean") or not axes or x.dtype.kind != "f" or not x.size:
        return None
    calls = add_last_over(x, y, axes)
    if calls is None:
        return None
    if name == "ReduceMean":
        count = math.prod(x.shape[axis] for axis in axes)
        calls.append(partial(np.divide, y, np.array(count, x.dtype), out=y))
    return calls


def _enter(name: str, since: int, reduction: Callable[[Array, tuple[int, ...]], Array]) -> None:
    def reduce(x: Array, axes: tuple[int, ...], keepdims: int) -> Array:
        if name in _OF_ONE_IS_IT and all(x.shape[axis] == 1 for axis in axes):
            return x if keepdims else x.squeeze(axes)
        y = reduction(x, axes)
        return restore(y, x.ndim, axes) if keepdims else y

    kind = "view" if name in _OF_ONE_IS_IT else ""

    @op(name, 1, kind=kind)
    def by_attribute(x: Array, *, axes: Any = None, keepdims: int = 1) -> Array:
        return reduce(x, _along(x, axes, 0), keepdims)

    @op(name, since, kind=kind, shaped_by=(1,))
    def by_input(
        x: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Array:
        return reduce(x, _along(x, axes, noop_with_empty_axes), keepdims)

    @runs_over(by_attribute)
    def by_attribute_over(
        given: Sequence[Any], results: Sequence[Array], *, axes: Any = None, keepdims: int = 1
    ) -> list[Callable[[], Any]] | None:
        return _over(name, given[0], results[0], _along(given[0], axes, 0))

    @runs_over(by_input)
    def by_input_over(
        given: Sequence[Any],
        results: Sequence[Array],
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> list[Callable[[], Any]] | None:
        axes = given[1] if len(given) > 1 else None
        return _over(name, given[0], results[0], _along(given[0], axes, noop_with_empty_axes))


for _name, (_since, _reduction) in _REDUCTIONS.items():
    _enter(_name, _since, _reduction)


@op("ArgMax", 1)
def argmax(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    """The index of the greatest along an axis; of several the first, or the last."""
    return _argument(np.argmax, x, axis, keepdims, select_last_index)


@op("ArgMin", 1)
def argmin(x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    """The index of the least along an axis; of several the first, or the last."""
    return _argument(np.argmin, x, axis, keepdims, select_last_index)


def _argument(find: Callable[..., Any], x: Array, axis: int, keepdims: int, last: int) -> Array:
    found = find(np.flip(x, axis) if last else x, axis=axis)
    found = np.asarray(x.shape[axis] - 1 - found if last else found, np.int64)
    return np.expand_dims(found, axis) if keepdims else found


def _top_k(x: Array, k: int, axis: int, largest: int) -> tuple[Array, Array]:
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"k is {k}, expected 0 to {x.shape[axis]}")
    keys = x if not largest else np.flip(x, axis)
    order = np.argsort(keys, axis=axis, kind="stable")
    if largest:  # from the last on: of equal ones the first comes first
        order = x.shape[axis] - 1 - np.flip(order, axis)
    order = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


@op("TopK", 1)
def top_k_1(x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    """The `k` greatest along an axis, in order, and their indices."""
    return _top_k(x, k, axis, 1)


@op("TopK", 10, shaped_by=(1,))
def top_k_10(
    x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Array, Array]:
    """The k greatest, or least, along an axis, and their indices; always in order."""
    return _top_k(x, int(np.asarray(k).reshape(-1)[0]), axis, largest)


@op("CumSum", 11)
def cum_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """The sums up to each element along an axis, itself included or not, from either end."""
    along = int(np.asarray(axis).reshape(-1)[0])
    if not -x.ndim <= along < x.ndim:
        raise ValueError(f"axis {along} of an array with {x.ndim} axes")
    x = np.flip(x, along) if reverse else x
    y = np.cumsum(x, axis=along, dtype=x.dtype)
    if exclusive:
        y = np.roll(y, 1, along)
        y[(slice(None),) * (along % x.ndim) + (slice(0, 1),)] = 0
    return np.flip(y, along) if reverse else y
