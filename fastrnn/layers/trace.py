"""Every gate at every step, for looking inside a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.layers.engines import pack
from fastrnn.layers.weights import GATES, StackConfig

Array = npt.NDArray[Any]

GATE_NAMES = {
    "LSTM": ("input", "forget", "cell", "output"),
    "GRU": ("reset", "update", "candidate"),
    "RNN": ("h",),  # its one activation is its state
}


def trace(
    config: StackConfig,
    weights: Mapping[str, Array],
    x: Array,
    h: Array,
    c: Array | None,
    cell_options: Mapping[str, Any],
) -> dict[str, Array]:
    """Run layer by layer on the BLAS engine, which leaves its activated gates behind.

    Parameters
    ----------
    x : (T, B, I)
    h, c : (L*D, B, P), (L*D, B, H) or None
        Advanced in place.

    Returns
    -------
    dict of arrays (L, D, T, B, H): the gates, "h" (last axis P) and, for LSTM, "c"
    """
    steps, batch, _ = x.shape
    directions, hidden = config.directions, config.hidden_size
    lead = (config.num_layers, directions, steps, batch)
    gates = np.empty((*lead, GATES[config.cell] * hidden), x.dtype)
    traced = {
        name: gates[..., g * hidden : (g + 1) * hidden]
        for g, name in enumerate(GATE_NAMES[config.cell])
    }
    traced["h"] = np.empty((*lead, config.output_size), x.dtype)
    if c is not None:
        traced["c"] = np.empty((*lead, hidden), x.dtype)
    suffixes = list(config.suffixes())
    for layer in range(config.num_layers):
        own = slice(layer * directions, (layer + 1) * directions)
        one = replace(config, input_size=x.shape[2], num_layers=1)
        stack = pack(
            None,
            one,
            {
                name.replace(old, new): weights[name]
                for old, new in zip(suffixes[own], one.suffixes(), strict=True)
                for name in weights
                if name.endswith(old)
            },
            **cell_options,
        )
        if c is not None:
            initial_c = c[own].copy()
        y = np.empty((steps, batch, directions * config.output_size), x.dtype)
        stack.run(x, h[own], None if c is None else c[own], y, gates=gates[layer])
        traced["h"][layer] = np.moveaxis(
            y.reshape(steps, batch, directions, config.output_size), 2, 0
        )
        if c is not None and batch:  # T may be anything where there are no rows
            _cell_states(traced, layer, initial_c)
        x = y
    return traced


def _cell_states(traced: dict[str, Array], layer: int, initial_c: Array) -> None:
    """Fill in c = f*c + i*g of one layer, which the engine keeps only the last of."""
    forget, new = traced["forget"][layer], traced["input"][layer] * traced["cell"][layer]
    out = traced["c"][layer]
    for direction, c in enumerate(initial_c):
        order = range(out.shape[1])
        for t in reversed(order) if direction else order:
            c = forget[direction, t] * c + new[direction, t]
            out[direction, t] = c
