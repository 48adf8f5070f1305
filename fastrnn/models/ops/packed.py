"""Recurrent nodes as fastrnn's layers, where torch has the same cell.

That is: default activations (of RNN, tanh or relu), no clip, no peepholes, no coupled gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.layers import LAYERS, RecurrentLayer
from fastrnn.models.ops import cells
from fastrnn.models.ops.table import Array

# ONNX's gates in torch's order: i, o, f, c as i, f, g, o; z, r, h as r, z, n.
ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


@dataclass(frozen=True)
class Packed:
    """A recurrent node's layer.

    reverse: whether the layer, which runs forward, is given its sequences back to front.
    """

    layer: RecurrentLayer
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


def pack(
    kind: str,
    w: Array,
    r: Array,
    bias: Array | None,
    options: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> Packed | None:
    """The layer of a node's weights; None where torch has no such cell.

    Parameters
    ----------
    w, r, bias : arrays (D, gates*H, I), (D, gates*H, H), (D, 2*gates*H)
        bias may be None.
    """
    directions = w.shape[0]
    named = [
        name.lower() for name in attributes.get("activations") or cells.DEFAULTS[kind] * directions
    ]
    wanted = [list(cells.DEFAULTS[kind] * directions)]
    wanted += [["relu"] * directions] if kind == "RNN" else []
    if (
        named not in wanted
        or attributes.get("clip")
        or attributes.get("input_forget")
        or w.dtype not in (np.float32, np.float64)
        or not w.shape[2]
    ):
        return None
    weights = state_dict(kind, w, r, bias)
    more: dict[str, Any] = {}
    if kind == "GRU":
        more["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    if kind == "RNN":
        more["nonlinearity"] = named[0]
    layer = LAYERS[kind].from_state_dict(weights, dtype=w.dtype, **more, **options)
    return Packed(layer, attributes.get("direction") == "reverse")


def state_dict(
    kind: str, w: Array, r: Array, bias: Array | None, layer: int = 0
) -> dict[str, Array]:
    """The weights of one node under torch's names, as those of `layer`."""
    weights = {}
    for d in range(w.shape[0]):
        suffix = f"_l{layer}{'_reverse' if d else ''}"
        weights[f"weight_ih{suffix}"] = _ordered(kind, w[d])
        weights[f"weight_hh{suffix}"] = _ordered(kind, r[d])
        if bias is not None:
            from_x, from_h = np.split(bias[d], 2)
            weights[f"bias_ih{suffix}"] = _ordered(kind, from_x)
            weights[f"bias_hh{suffix}"] = _ordered(kind, from_h)
    return weights


def _ordered(kind: str, rows: Array) -> Array:
    gates = np.split(rows, cells.GATES[kind])
    return np.concatenate([gates[gate] for gate in ORDER[kind]])
