"""LSTM, GRU and RNN cells as ONNX defines them, in plain NumPy: every attribute, any activation.

Formulas: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html. What torch
has too runs in the layers instead (packed.py).

Shapes: T steps, B rows, I inputs, H hidden units; gates lie one behind another: i, o, f, c of LSTM,
z, r, h of GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.models.ops import activations as act
from fastrnn.models.ops.table import Array

Activation = Callable[[Array], Array]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}

# Each activation's function of x, alpha and beta, and the defaults of those that it takes.
_ACTIVATIONS: dict[str, tuple[Callable[..., Array], tuple[float, ...]]] = {
    "relu": (act.relu, ()),
    "tanh": (np.tanh, ()),
    "sigmoid": (act.sigmoid, ()),
    "affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "leakyrelu": (lambda x, a: act.leaky_relu(x, alpha=a), (0.01,)),
    "thresholdedrelu": (lambda x, a: act.thresholded_relu(x, alpha=a), (1.0,)),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), (1.0, 1.0)),
    "hardsigmoid": (lambda x, a, b: act.hard_sigmoid(x, alpha=a, beta=b), (0.2, 0.5)),
    "elu": (lambda x, a: act.elu(x, alpha=a), (1.0,)),
    "softsign": (act.softsign, ()),
    "softplus": (act.softplus, ()),
}


def functions(
    cell: str,
    directions: int,
    names: Sequence[str] | None,
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
) -> list[tuple[Activation, ...]]:
    """Each direction's activations; ValueError for one that there is not.

    Alphas and betas are taken in order by the activations that have them.
    """
    default = DEFAULTS[cell]
    named = [name.lower() for name in names or default * directions]
    if len(named) != len(default) * directions:
        raise ValueError(f"{len(named)} activations, expected {len(default) * directions}")
    left = {0: list(alphas or ()), 1: list(betas or ())}
    made: list[Activation] = []
    for name in named:
        if name not in _ACTIVATIONS:
            raise ValueError(f"activation {name[:80]!r}, expected one of {', '.join(_ACTIVATIONS)}")
        function, defaults = _ACTIVATIONS[name]
        values = [left[i].pop(0) if left[i] else value for i, value in enumerate(defaults)]
        made.append(_bind(function, values))
    count = len(default)
    return [tuple(made[start : start + count]) for start in range(0, len(made), count)]


def _bind(function: Callable[..., Array], values: list[float]) -> Activation:
    return lambda x: function(x, *map(x.dtype.type, values))


@dataclass(frozen=True)
class Cell:
    """One direction's weights: w (gates*H, I), r (gates*H, H), both biases, peepholes p (3*H,)."""

    kind: str
    w: Array
    r: Array
    bias: Array | None
    p: Array | None
    functions: tuple[Activation, ...]
    clip: float | None
    input_forget: bool = False
    linear_before_reset: bool = False

    def steps(self, x: Array, h: Array, c: Array, lengths: Array | None, reverse: bool) -> Any:
        """Run x (T, B, I) from h, c (B, H) on; return y (T, B, H), h and c at each row's end."""
        rows = np.arange(x.shape[1])
        ends = np.full(x.shape[1], x.shape[0]) if lengths is None else lengths
        y = np.zeros((*x.shape[:2], h.shape[1]), x.dtype)
        for step in range(x.shape[0]):
            alive = rows[step < ends]
            if not len(alive):
                break
            at = ends[alive] - 1 - step if reverse else np.full(len(alive), step)
            new_h, new_c = self.step(x[at, alive], h[alive], c[alive])
            h[alive], c[alive], y[at, alive] = new_h, new_c, new_h
        return y, h, c

    def step(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        """One step of rows x (B, I)."""
        return getattr(self, f"_{self.kind.lower()}")(x, h, c)

    def _parts(self, rows: Array, weight: Array, half: int) -> list[Array]:
        """Each gate's part of a product, with its bias."""
        y = rows @ weight.T
        if self.bias is not None:
            y = y + np.split(self.bias, 2)[half]
        return np.split(y, GATES[self.kind], axis=-1)

    def _clipped(self, x: Array) -> Array:
        return x if not self.clip else np.clip(x, -x.dtype.type(self.clip), x.dtype.type(self.clip))

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        sums = [
            a + b for a, b in zip(self._parts(x, self.w, 0), self._parts(h, self.r, 1), strict=True)
        ]
        zero = x.dtype.type(0)
        p_i, p_o, p_f = (zero,) * 3 if self.p is None else np.split(self.p, 3)
        f, g, last = self.functions
        i = f(self._clipped(sums[0] + p_i * c))
        forget = 1 - i if self.input_forget else f(self._clipped(sums[2] + p_f * c))
        c = forget * c + i * g(self._clipped(sums[3]))
        o = f(self._clipped(sums[1] + p_o * c))
        return o * last(c), c

    def _gru(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        from_x, from_h = self._parts(x, self.w, 0), self._parts(h, self.r, 1)
        f, g = self.functions
        z = f(self._clipped(from_x[0] + from_h[0]))
        r = f(self._clipped(from_x[1] + from_h[1]))
        if self.linear_before_reset:
            n = from_x[2] + r * from_h[2]
        else:
            n = from_x[2] + self._parts(r * h, self.r, 1)[2]
        n = g(self._clipped(n))
        return (1 - z) * n + z * h, c

    def _rnn(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        total = self._parts(x, self.w, 0)[0] + self._parts(h, self.r, 1)[0]
        return self.functions[0](self._clipped(total)), c
