"""The operators LSTM, GRU and RNN: what their inputs and attributes mean.

`cells.py` computes them as they stand, `packed.py` in fastrnn's layers where torch has the same.
Shapes: T steps, B rows, I inputs, H hidden units, D directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastrnn.models.ops import cells
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import MICROSOFT, Array, op

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class Weights(NamedTuple):
    """w (D, gates*H, I), r (D, gates*H, H), bias (D, 2*gates*H), peepholes p (D, 3*H)."""

    w: Array
    r: Array
    bias: Array | None = None
    p: Array | None = None


class States(NamedTuple):
    """lengths (B,), h and c (D, B, H), or (B, D, H) with layout=1: what a sequence starts with."""

    lengths: Array | None = None
    h: Array | None = None
    c: Array | None = None


@dataclass(frozen=True)
class Attributes:
    """The attributes of all three operators, as ONNX has them."""

    activation_alpha: Sequence[float] | None = None
    activation_beta: Sequence[float] | None = None
    activations: Sequence[str] | None = None
    clip: float | None = None
    direction: str = "forward"
    hidden_size: int | None = None
    input_forget: int = 0
    layout: int = 0
    linear_before_reset: int = 0


@op("LSTM", 7)
def lstm(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    p: Array | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    """Long short-term memory: Y, Y_h, Y_c."""
    attributes = Attributes(
        activation_alpha,
        activation_beta,
        activations,
        clip,
        direction,
        hidden_size,
        input_forget,
        layout,
    )
    return _plain("LSTM", x, Weights(w, r, bias, p), States(lengths, h, c), attributes)


@op("GRU", 7)
def gru(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Array, ...]:
    """Gated recurrent unit: Y, Y_h."""
    attributes = Attributes(
        activation_alpha,
        activation_beta,
        activations,
        clip,
        direction,
        hidden_size,
        layout=layout,
        linear_before_reset=linear_before_reset,
    )
    return _plain("GRU", x, Weights(w, r, bias), States(lengths, h), attributes)


@op("RNN", 7)
def rnn(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Array, ...]:
    """Vanilla RNN: Y, Y_h."""
    attributes = Attributes(
        activation_alpha,
        activation_beta,
        activations,
        clip,
        direction,
        hidden_size,
        layout=layout,
    )
    return _plain("RNN", x, Weights(w, r, bias), States(lengths, h), attributes)


@op("DynamicQuantizeLSTM", 1, domain=MICROSOFT, like=lstm)
def dynamic_quantize_lstm(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None,
    lengths: Array | None,
    h: Array | None,
    c: Array | None,
    p: Array | None,
    w_scale: Array,
    w_zero_point: Array,
    r_scale: Array,
    r_zero_point: Array,
    **attributes: Any,
) -> tuple[Array, ...]:
    """LSTM of weights that are integers, transposed: computed as the numbers they stand for."""
    weights = dequantised(w, w_scale, w_zero_point), dequantised(r, r_scale, r_zero_point)
    return lstm(x, *weights, bias, lengths, h, c, p, **attributes)


def dequantised(values: Array, scale: Array, zero_point: Array) -> Array:
    """Integers (D, I, 4*H), scales and zero points (D,) or (D, 4*H), as numbers (D, 4*H, I)."""
    shape = (values.shape[0], 1, -1)
    wide = values.astype(np.int32) - zero_point.astype(np.int32).reshape(shape)
    numbers = wide.astype(scale.dtype) * scale.reshape(shape)
    return np.ascontiguousarray(numbers.swapaxes(1, 2))


def _plain(
    kind: str, x: Array, weights: Weights, states: States, attributes: Attributes
) -> tuple[Array, ...]:
    """The node in plain NumPy."""
    check_weights(kind, weights, attributes)
    directions = weights.r.shape[0]
    functions = cells.functions(
        kind,
        directions,
        attributes.activations,
        attributes.activation_alpha,
        attributes.activation_beta,
    )
    made = [
        cells.Cell(
            kind,
            weights.w[d],
            weights.r[d],
            None if weights.bias is None else weights.bias[d],
            None if weights.p is None else weights.p[d],
            functions[d],
            attributes.clip,
            bool(attributes.input_forget),
            bool(attributes.linear_before_reset),
        )
        for d in range(directions)
    ]

    def run(x: Array, h: Array, c: Array, lengths: Array | None) -> tuple[Array, Array, Array]:
        y = np.empty((*x.shape[:2], directions, h.shape[2]), x.dtype)
        for d, cell in enumerate(made):
            back = attributes.direction == "reverse" or d == 1
            y[:, :, d], h[d], c[d] = cell.steps(x, h[d], c[d], lengths, back)
        return y, h, c

    return whole(kind, x, weights, states, attributes.layout, run)


def check_weights(kind: str, weights: Weights, attributes: Attributes) -> None:
    """ValueError unless the weights go together and are what the attributes say."""
    if attributes.direction not in DIRECTIONS:
        raise ValueError(
            f"direction={attributes.direction!r}, expected one of {', '.join(DIRECTIONS)}"
        )
    directions, gates = DIRECTIONS[attributes.direction], cells.GATES[kind]
    w, r = weights.w, weights.r
    H = r.shape[-1] if r.ndim == 3 else 0
    inputs = w.shape[-1] if w.ndim == 3 else 0
    wanted = {
        "W": (w, (directions, gates * H, inputs)),
        "R": (r, (directions, gates * H, H)),
        "B": (weights.bias, (directions, 2 * gates * H)),
        "P": (weights.p, (directions, 3 * H)),
    }
    for name, (array, shape) in wanted.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} is {array.shape}, expected {shape}")
    if not H or attributes.hidden_size not in (None, H):
        raise ValueError(f"hidden_size={attributes.hidden_size}, but R is {r.shape}")


def whole(
    kind: str,
    x: Array,
    weights: Weights,
    states: States,
    layout: int,
    run: Callable[[Array, Array, Array, Array | None], tuple[Array, Array, Array]],
) -> tuple[Array, ...]:
    """Check x and the states, and run: x (T, B, I), h and c (D, B, H) to y (T, B, D, H), h, c.

    Returns Y (T, D, B, H), Y_h (D, B, H) and, of LSTM, Y_c; with layout=1 B comes first.
    """
    directions, _, H = weights.r.shape
    inputs, lengths = weights.w.shape[2], states.lengths
    if x.ndim != 3 or x.shape[2] != inputs:
        raise ValueError(f"X is {x.shape}, expected three axes, the last of {inputs}")
    x = x.swapaxes(0, 1) if layout else x
    T, B = x.shape[:2]
    claim((T, B, directions * H), x.dtype, 3)
    begin = []
    for name, state in (("initial_h", states.h), ("initial_c", states.c)):
        if state is None:
            begin.append(np.zeros((directions, B, H), x.dtype))
            continue
        state = state.swapaxes(0, 1) if layout else state
        if state.shape != (directions, B, H):
            raise ValueError(f"{name} is {state.shape}, expected {(directions, B, H)}")
        begin.append(np.array(state, x.dtype, order="C"))
    if lengths is not None:
        if lengths.shape != (B,) or not ((lengths >= 0) & (lengths <= T)).all():
            raise ValueError(f"sequence_lens is {lengths.shape}, expected {B} of 0 to {T}")
        lengths = lengths.astype(np.int64)
    y, h, c = run(x, begin[0], begin[1], lengths)
    if layout:
        made = [y.transpose(1, 0, 2, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)]
    else:
        made = [y.transpose(0, 2, 1, 3), h, c]
    return tuple(made if kind == "LSTM" else made[:2])
