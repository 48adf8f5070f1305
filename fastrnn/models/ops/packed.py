"""Recurrent nodes as fastrnn's layers, where torch has the same cell.

That is: default activations (of RNN, tanh or relu), no clip, no peepholes, no coupled gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastrnn.layers import LAYERS, RecurrentLayer
from fastrnn.models.ops import cells
from fastrnn.models.ops.recurrent import (
    Attributes,
    States,
    Weights,
    check_weights,
    dequantised,
    dynamic_quantize_lstm,
    gru,
    lstm,
    rnn,
    whole,
)
from fastrnn.models.ops.table import Array, are_constant, prepares

# ONNX's gates in torch's order: i, o, f, c as i, f, g, o; z, r, h as r, z, n.
ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


@dataclass(frozen=True)
class Packed:
    """A recurrent node's layer.

    reverse: whether the layer, which runs forward, is given its sequences back to front.
    """

    layer: RecurrentLayer[Any]
    reverse: bool

    def run(self, x: Array, h: Array, c: Array, lengths: Array | None) -> Any:
        """Run x (T, B, I) from h, c (D, B, H) on; return y (T, B, D, H), h and c."""
        T, B = x.shape[:2]
        D, _, H = h.shape
        if not T or not B:
            return np.zeros((T, B, D, H), x.dtype), h, c
        is_lstm = LAYERS["LSTM"] is type(self.layer)
        state: Any = (h, c) if is_lstm else h
        at = None
        if self.reverse:
            at = backwards(T, np.full(B, T) if lengths is None else lengths)
            x = x[at, np.arange(B)]
        if lengths is None:
            y, state = self.layer(x, state)
        else:
            y, state = self.layer(x, state, np.maximum(lengths, 1))
        new_h, new_c = state if is_lstm else (state, c)
        if lengths is not None and (lengths == 0).any():
            none = lengths == 0
            y[:, none] = 0
            new_h[:, none], new_c[:, none] = h[:, none], c[:, none]
        if at is not None:
            y = y[at, np.arange(B)]
        return y.reshape(T, B, D, H), new_h, new_c


def backwards(T: int, lengths: Array) -> Array:
    """For each step and row of (T, B) the step that stands there when rows are turned round."""
    steps = np.arange(T)[:, None]
    return np.where(steps < lengths, lengths - 1 - steps, steps)


def oddity(kind: str, weights: Weights, attributes: Attributes) -> str:
    """Why torch has no such cell, in words; "" where it has."""
    directions = weights.w.shape[0]
    wanted = [[*cells.DEFAULTS[kind] * directions]]
    wanted += [["relu"] * directions] if kind == "RNN" else []
    if _activations(kind, weights, attributes) not in wanted:
        return f"has the activations {', '.join(attributes.activations or ())[:200]}"
    if attributes.clip:
        return f"has clip={attributes.clip}"
    if attributes.input_forget:
        return "has input_forget=1"
    if weights.w.dtype not in (np.float32, np.float64):
        return f"is of {weights.w.dtype}"
    return "" if weights.w.shape[2] else "has no inputs"


def cell_options(kind: str, attributes: Attributes) -> dict[str, Any]:
    """What torch's tensors do not say of a layer, and a node's attributes do."""
    if kind == "GRU":
        return {"reset_after": bool(attributes.linear_before_reset)}
    if kind == "RNN":
        named = attributes.activations or cells.DEFAULTS[kind]
        return {"nonlinearity": named[0].lower()}
    return {}


def _activations(kind: str, weights: Weights, attributes: Attributes) -> list[str]:
    default = cells.DEFAULTS[kind] * weights.w.shape[0]
    return [name.lower() for name in attributes.activations or default]


def pack(
    kind: str, weights: Weights, attributes: Attributes, options: Mapping[str, Any]
) -> Packed | None:
    """The layer of a node's weights; None where torch has no such cell."""
    if oddity(kind, weights, attributes):
        return None
    more = cell_options(kind, attributes)
    named = state_dict(kind, weights)
    layer = LAYERS[kind].from_state_dict(named, dtype=weights.w.dtype, **more, **options)
    return Packed(layer, attributes.direction == "reverse")


def state_dict(kind: str, weights: Weights, layer: int = 0) -> dict[str, Array]:
    """The weights of one node under torch's names, as those of `layer`."""
    named = {}
    for d in range(weights.w.shape[0]):
        suffix = f"_l{layer}{'_reverse' if d else ''}"
        named[f"weight_ih{suffix}"] = _ordered(kind, weights.w[d])
        named[f"weight_hh{suffix}"] = _ordered(kind, weights.r[d])
        if weights.bias is not None:
            from_x, from_h = np.split(weights.bias[d], 2)
            named[f"bias_ih{suffix}"] = _ordered(kind, from_x)
            named[f"bias_hh{suffix}"] = _ordered(kind, from_h)
    return named


def _ordered(kind: str, rows: Array) -> Array:
    gates = np.split(rows, cells.GATES[kind])
    return np.concatenate([gates[gate] for gate in ORDER[kind]])


class InLayer:
    """A recurrent node that runs in a layer, `packed.layer`."""

    def __init__(self, kind: str, packed: Packed, weights: Weights, attributes: Attributes) -> None:
        self.kind, self.packed = kind, packed
        self.weights, self.attributes = weights, attributes

    def __call__(
        self,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
        *_: Array | None,
    ) -> tuple[Array, ...]:
        """As the operator; w, r and bias are the constants that the layer was made of."""
        states = States(lengths, h, c)
        return whole(self.kind, x, self.weights, states, self.attributes.layout, self.packed.run)

    def over(self, given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
        """Calls that compute `results` from `given`: states are copied, and advanced in place."""
        x, _, _, _, lengths, *states = (*given, *(None,) * 7)[:7]
        layer, reverse = self.packed.layer, self.packed.reverse
        if lengths is not None or reverse or self.attributes.layout or not x.size:
            return None
        y = results[0].transpose(0, 2, 1, 3)
        T, B, D, H = y.shape
        out = y.reshape(T, B, D * H)
        if not np.may_share_memory(out, results[0]):
            return None
        calls: list[Any] = []
        if not x.flags.c_contiguous or x.dtype != layer.dtype:
            fixed = np.empty(x.shape, layer.dtype)
            calls.append(partial(np.copyto, fixed, x))
            x = fixed
        for state, end in zip(states, results[1:], strict=False):
            calls.append(partial(np.copyto, end, 0 if state is None else state))
        c = results[2] if len(results) > 2 else None
        return [*calls, partial(layer._packed.run, x, results[1], c, out)]


def _prepare(
    kind: str, known: Sequence[Any], options: dict[str, Any], attributes: Attributes
) -> InLayer | None:
    """A layer in place of the node, where torch has the same cell and its weights are constant."""
    _, w, r, bias, _, _, _, p = (*known, *(None,) * 8)[:8]
    if not are_constant(w, r) or not (bias is None or are_constant(bias)) or p is not None:
        return None
    weights = Weights(w, r, bias)
    check_weights(kind, weights, attributes)
    packed = pack(kind, weights, attributes, options)
    return None if packed is None else InLayer(kind, packed, weights, attributes)


@prepares(lstm)
def prepare_lstm(known: Sequence[Any], options: Any, **attributes: Any) -> Any:
    """As `_prepare`."""
    return _prepare("LSTM", known, options, Attributes(**attributes))


@prepares(gru)
def prepare_gru(known: Sequence[Any], options: Any, **attributes: Any) -> Any:
    """As `_prepare`."""
    return _prepare("GRU", known, options, Attributes(**attributes))


@prepares(rnn)
def prepare_rnn(known: Sequence[Any], options: Any, **attributes: Any) -> Any:
    """As `_prepare`."""
    return _prepare("RNN", known, options, Attributes(**attributes))


@prepares(dynamic_quantize_lstm)
def prepare_dynamic_quantize_lstm(known: Sequence[Any], options: Any, **attributes: Any) -> Any:
    """As `_prepare`, of the numbers that the integers stand for."""
    _, w, r, bias, lengths, h, c, p, *scales = known
    if len(scales) != 4 or not are_constant(w, r, *scales):
        return None
    weights = dequantised(w, *scales[:2]), dequantised(r, *scales[2:])
    return _prepare(
        "LSTM", (None, *weights, bias, lengths, h, c, p), options, Attributes(**attributes)
    )
