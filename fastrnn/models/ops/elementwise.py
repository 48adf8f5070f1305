"""Arithmetic, comparison and logic, element by element.

For the same bits wherever an element stands, only ufuncs that treat the elements of a contiguous
array alike (`tests/test_models_bits.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from fastrnn.errors import without_scipy
from fastrnn.models.ops.elements import dtype_of
from fastrnn.models.ops.table import Array, op, prepares, runs_over

_UFUNCS: dict[str, tuple[int, np.ufunc]] = {
    "Add": (7, np.add),
    "Sub": (7, np.subtract),
    "Mul": (7, np.multiply),
    "Sqrt": (6, np.sqrt),
    "Exp": (6, np.exp),
    "Log": (6, np.log),
    "Neg": (6, np.negative),
    "Abs": (6, np.absolute),
    "Floor": (6, np.floor),
    "Ceil": (6, np.ceil),
    "Round": (11, np.rint),
    "Sign": (9, np.sign),
    "Sin": (7, np.sin),
    "Cos": (7, np.cos),
    "Tan": (7, np.tan),
    "Atan": (7, np.arctan),
    "Tanh": (6, np.tanh),
    "Equal": (7, np.equal),
    "Greater": (7, np.greater),
    "GreaterOrEqual": (12, np.greater_equal),
    "Less": (7, np.less),
    "LessOrEqual": (12, np.less_equal),
    "And": (7, np.logical_and),
    "Or": (7, np.logical_or),
    "Xor": (7, np.logical_xor),
    "Not": (1, np.logical_not),
    "IsNaN": (9, np.isnan),
}
for _name, (_since, _ufunc) in _UFUNCS.items():
    op(_name, _since, kind="pointwise")(_ufunc)


@op("Div", 7, kind="pointwise")
def div(x: Array, y: Array, *, out: Array | None = None) -> Array:
    """X / y; of integers towards zero, as in C."""
    if x.dtype.kind == "f":
        return np.divide(x, y, out=out)
    quotient = np.floor_divide(x, y)
    if x.dtype.kind == "i":
        quotient += ((x % y != 0) & ((x < 0) != (y < 0))).astype(quotient.dtype)
    if out is None:
        return quotient
    out[...] = quotient
    return out


@op("Mod", 10, kind="pointwise")
def mod(x: Array, y: Array, *, fmod: int = 0) -> Array:
    """The remainder, of y's sign; with `fmod` of x's, as C's fmod."""
    return np.fmod(x, y) if fmod else np.mod(x, y)


@op("Pow", 7, kind="pointwise")
def power(x: Array, y: Array, *, out: Array | None = None) -> Array:
    """X to the power y, in x's type."""
    if y.ndim == 0 and y == 2:
        return np.square(x, out=out)
    if x.dtype == y.dtype:
        return np.power(x, y, out=out)
    raised = np.power(x, y).astype(x.dtype, copy=False)
    if out is None:
        return raised
    out[...] = raised
    return out


@runs_over(power)
def power_over(given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
    """Squares by the ufunc itself."""
    x, y = given
    if y.ndim == 0 and not y.flags.writeable and y == 2:
        return [partial(np.square, x, out=results[0])]
    return None


@op("Reciprocal", 6, kind="pointwise")
def reciprocal(x: Array, *, out: Array | None = None) -> Array:
    """1 / x."""
    return np.divide(x.dtype.type(1), x, out=out)


@op("Erf", 9, kind="pointwise")
def erf(x: Array, *, out: Array | None = None) -> Array:
    """The error function."""
    try:
        from scipy.special import erf as scipy_erf  # only graphs that have it load SciPy
    except ModuleNotFoundError as error:
        raise without_scipy("the operator Erf") from error

    if x.dtype in (np.float32, np.float64):
        return scipy_erf(x, out=out)
    return scipy_erf(x.astype(np.float64)).astype(x.dtype)


@op("Min", 6, kind="pointwise")
def minimum(*values: Array) -> Array:
    """The least of all."""
    return reduce(np.minimum, values)


@op("Max", 6, kind="pointwise")
def maximum(*values: Array) -> Array:
    """The greatest of all."""
    return reduce(np.maximum, values)


@op("Sum", 8, kind="pointwise")
def total(*values: Array) -> Array:
    """The sum of all."""
    return reduce(np.add, values)


@op("Mean", 8, kind="pointwise")
def mean(*values: Array) -> Array:
    """The mean of all."""
    return reduce(np.add, values) / values[0].dtype.type(len(values))


@op("Clip", 6, kind="pointwise")
def clip_6(
    x: Array, *, min: float | None = None, max: float | None = None, out: Array | None = None
) -> Array:
    """X no less than `min` and no more than `max`."""
    low, high = (None if v is None else x.dtype.type(v) for v in (min, max))
    return clip_11(x, low, high, out=out)


@op("Clip", 11, kind="pointwise")
def clip_11(x: Array, low: Any = None, high: Any = None, *, out: Array | None = None) -> Array:
    """X no less than `low` and no more than `high`, scalars."""
    if low is not None:
        x = np.maximum(x, low, out=out)
    if high is not None:
        x = np.minimum(x, high, out=out)
    return x if low is not None or high is not None else np.positive(x, out=out)


@op("IsInf", 10, kind="pointwise")
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    """Whether infinite, of the signs that are asked for."""
    found = np.zeros(x.shape, np.bool_)
    if detect_negative:
        found |= np.isneginf(x)
    if detect_positive:
        found |= np.isposinf(x)
    return found


@op("Where", 9, kind="pointwise")
def where(condition: Array, x: Array, y: Array) -> Array:
    """X where the condition holds, else y."""
    return np.where(condition, x, y)


@op("Cast", 6, kind="pointwise")
def cast(x: Array, *, to: int, saturate: int = 1, round_mode: str = "up") -> Array:
    """X in the type `to`; the other attributes concern types that NumPy lacks."""
    return x.astype(dtype_of(to))


@prepares(cast)
def prepare_cast(
    known: Any, options: Any, *, to: int, saturate: int = 1, round_mode: str = "up"
) -> Any:
    """The cast to a type that is looked up once."""
    dtype = dtype_of(to)
    return lambda x: x.astype(dtype, copy=False)


@op("CastLike", 15)
def cast_like(x: Array, like: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    """X in the type of `like`."""
    return x.astype(like.dtype)
