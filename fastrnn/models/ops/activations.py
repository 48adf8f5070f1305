"""Activations, element by element, and softmax along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn._kernels import product as kernel
from fastrnn.layers.engines import choose_isa
from fastrnn.models.ops.elementwise import erf
from fastrnn.models.ops.reduce import add_last, add_last_over, greatest_over, restore
from fastrnn.models.ops.table import Array, op, prepares, runs_over


@op("Relu", 6, kind="pointwise")
def relu(x: Array, *, out: Array | None = None) -> Array:
    """max(x, 0)."""
    return np.maximum(x, x.dtype.type(0), out=out)


@op("Sigmoid", 6, kind="pointwise")
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x))."""
    one = x.dtype.type(1)
    y = np.negative(x, out=out)
    y = np.exp(y, out=out)
    y = np.add(y, one, out=out)
    return np.divide(one, y, out=out)


@runs_over(relu)
def relu_over(given: Sequence[Any], results: Sequence[Array]) -> list[Any]:
    """The ufunc itself."""
    zero = np.zeros((), results[0].dtype)
    return [partial(np.maximum, given[0], zero, out=results[0])]


@runs_over(sigmoid)
def sigmoid_over(given: Sequence[Any], results: Sequence[Array]) -> list[Any]:
    """The ufuncs themselves."""
    y = results[0]
    one = np.ones((), y.dtype)
    return [
        partial(np.negative, given[0], out=y),
        partial(np.exp, y, out=y),
        partial(np.add, y, one, out=y),
        partial(np.divide, one, y, out=y),
    ]


class InVectors:
    """Sigmoid, tanh, erf or gelu of float32 by the SIMD engine; of other types, as `plain`."""

    def __init__(self, name: str, plain: Callable[..., Array], isa: str) -> None:
        self._over = partial(kernel.activation_over, isa, name)
        self._plain = plain

    def __call__(self, x: Array) -> Array:
        """The function of each element."""
        if x.dtype != np.float32:
            return self._plain(x)
        y = np.empty_like(x)  # without gaps, whatever x is
        for call in self._calls(x, y):
            call()
        return y

    def over(self, given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
        """Calls that compute `results` from `given`."""
        (x,), (y,) = given, results
        if x.dtype != np.float32 or not kernel.is_dense(y):
            return None
        return self._calls(x, y)

    def _calls(self, x: Array, y: Array) -> list[Any]:
        if x.strides == y.strides and x.flags.aligned:
            return [self._over(x, y)]
        return [partial(np.copyto, y, x), self._over(y, y)]


def _in_vectors(name: str, plain: Callable[..., Array], options: dict[str, Any]) -> Any:
    if options.get("engine", "auto") == "blas":
        return None
    return InVectors(name, plain, choose_isa(options.get("isa")))


@prepares(sigmoid)
def prepare_sigmoid(known: Sequence[Any], options: dict[str, Any]) -> Any:
    """As the SIMD engine's cells compute it."""
    return _in_vectors("sigmoid", sigmoid, options)


@prepares(np.tanh)
def prepare_tanh(known: Sequence[Any], options: dict[str, Any]) -> Any:
    """As the SIMD engine's cells compute it."""
    return _in_vectors("tanh", np.tanh, options)


@op("LeakyRelu", 6, kind="pointwise")
def leaky_relu(x: Array, *, alpha: float = 0.01) -> Array:
    """X where it is positive, else alpha * x."""
    less = x.dtype.type(alpha) * x
    return np.maximum(x, less) if 0 < alpha <= 1 else np.where(x >= 0, x, less)


@runs_over(leaky_relu)
def leaky_relu_over(
    given: Sequence[Any], results: Sequence[Array], *, alpha: float = 0.01
) -> list[Any] | None:
    """The ufuncs themselves."""
    (x,), (y,) = given, results
    if not 0 < alpha <= 1:
        return None
    slope = np.array(alpha, x.dtype)
    return [partial(np.multiply, slope, x, out=y), partial(np.maximum, x, y, out=y)]


@op("PRelu", 7, kind="pointwise")
def prelu(x: Array, slope: Array) -> Array:
    """X where it is positive, else slope * x."""
    return np.where(x >= 0, x, slope * x)


@op("ThresholdedRelu", 10, kind="pointwise")
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Array:
    """X where it is above alpha, else 0."""
    return np.where(x > x.dtype.type(alpha), x, x.dtype.type(0))


@op("Elu", 6, kind="pointwise")
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    """X where it is positive, else alpha * (exp(x) - 1)."""
    return np.where(x >= 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


@op("Celu", 12, kind="pointwise")
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    """X where it is positive, else alpha * (exp(x / alpha) - 1)."""
    scale = x.dtype.type(alpha)
    return np.where(x >= 0, x, scale * np.expm1(np.minimum(x, 0) / scale))


@op("Selu", 6, kind="pointwise")
def selu(
    x: Array, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Array:
    """Gamma times elu."""
    return x.dtype.type(gamma) * elu(x, alpha=alpha)


@op("Gelu", 20, kind="pointwise")
def gelu(x: Array, *, approximate: str = "none") -> Array:
    """X * P(normal < x); with `approximate="tanh"` by tanh."""
    kind = x.dtype.type
    if approximate == "none":
        return kind(0.5) * x * (kind(1) + erf(x * kind(math.sqrt(0.5))))
    if approximate != "tanh":
        raise ValueError(f"approximate={approximate!r}, expected 'none' or 'tanh'")
    inner = kind(math.sqrt(2 / math.pi)) * (x + kind(0.044715) * (x * x * x))
    return kind(0.5) * x * (kind(1) + np.tanh(inner))


@prepares(gelu)
def prepare_gelu(
    known: Sequence[Any], options: dict[str, Any], *, approximate: str = "none"
) -> Any:
    """As the SIMD engine's vectors compute it."""
    if approximate != "none":
        return None
    return _in_vectors("gelu", gelu, options)


@prepares(erf)
def prepare_erf(known: Sequence[Any], options: dict[str, Any]) -> Any:
    """As the SIMD engine's vectors compute it."""
    return _in_vectors("erf", erf, options)


@op("HardSigmoid", 6, kind="pointwise")
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """Alpha * x + beta, between 0 and 1."""
    kind = x.dtype.type
    return np.minimum(np.maximum(kind(alpha) * x + kind(beta), kind(0)), kind(1))


@op("HardSwish", 14, kind="pointwise")
def hard_swish(x: Array) -> Array:
    """X * hard_sigmoid(x) with a slope of 1/6."""
    return x * hard_sigmoid(x, alpha=1 / 6, beta=0.5)


@op("Swish", 24, kind="pointwise")
def swish(x: Array, *, alpha: float = 1.0) -> Array:
    """X * sigmoid(alpha * x)."""
    return x * sigmoid(x.dtype.type(alpha) * x)


@op("Mish", 18, kind="pointwise")
def mish(x: Array) -> Array:
    """X * tanh(softplus(x))."""
    return x * np.tanh(softplus(x))


@op("Softplus", 1, kind="pointwise")
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-np.abs(x)))


@op("Softsign", 1, kind="pointwise")
def softsign(x: Array) -> Array:
    """X / (1 + |x|)."""
    return x / (x.dtype.type(1) + np.abs(x))


@op("Softmax", 13)
def softmax_13(x: Array, *, axis: int = -1) -> Array:
    """exp(x) over its sum along one axis."""
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    return y / _total(y, axis)


@op("LogSoftmax", 13)
def log_softmax_13(x: Array, *, axis: int = -1) -> Array:
    """The logarithm of softmax."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(_total(np.exp(shifted), axis))


@runs_over(softmax_13)
def softmax_over(given: Sequence[Any], results: Sequence[Array], *, axis: int = -1) -> Any:
    """The ufuncs themselves."""
    (x,), (y,) = given, results
    most, total, calls = _totals(x, y, y, axis)
    return [*greatest_over("max", x, most, (axis,)), *calls,
            partial(np.divide, y, total, out=y)] if calls else None  # fmt: skip


@runs_over(log_softmax_13)
def log_softmax_over(given: Sequence[Any], results: Sequence[Array], *, axis: int = -1) -> Any:
    """The ufuncs themselves."""
    (x,), (y,) = given, results
    most, total, calls = _totals(x, y, np.empty_like(y), axis)
    return [*greatest_over("max", x, most, (axis,)), *calls,
            partial(np.log, total, out=total),
            partial(np.subtract, y, total, out=y)] if calls else None  # fmt: skip


@op("Softmax", 1)
def softmax_1(x: Array, *, axis: int = 1) -> Array:
    """Softmax over all axes from `axis` on together."""
    return softmax_13(_flat(x, axis), axis=1).reshape(x.shape)


@op("LogSoftmax", 1)
def log_softmax_1(x: Array, *, axis: int = 1) -> Array:
    """The logarithm of softmax over all axes from `axis` on together."""
    return log_softmax_13(_flat(x, axis), axis=1).reshape(x.shape)


def _total(x: Array, axis: int) -> Array:
    """The sum along one axis, which stays with length 1."""
    return restore(add_last(x, (axis,)), x.ndim, (axis,))


def _totals(x: Array, shifted: Array, powers: Array, axis: int) -> tuple[Array, Array, list[Any]]:
    """The maximum along an axis; the sum of the exponentials of x less that; and calls that
    compute, once the maximum is there, `shifted`, `powers` and the sum. No calls: there are none.
    """
    most = np.empty_like(x.max(axis=axis, keepdims=True))
    total = np.empty_like(most)
    summed = add_last_over(powers, total, (axis,)) if x.dtype.kind == "f" and x.size else None
    if summed is None:
        return most, total, []
    calls = [partial(np.subtract, x, most, out=shifted), partial(np.exp, shifted, out=powers)]
    return most, total, calls + summed


def _flat(x: Array, axis: int) -> Array:
    rows = math.prod(x.shape[: axis if axis >= 0 else x.ndim + axis])
    return x.reshape(rows, x.size // max(rows, 1))
