"""The cells in plain NumPy float64, straight from their published formulas.

LSTM, GRU, RNN: https://docs.pytorch.org/docs/stable/nn.html; GRU with the reset gate before the
product: Cho et al. 2014 (https://arxiv.org/abs/1406.1078), as Keras and ONNX compute it.
"""

from __future__ import annotations

import numpy as np

from fastrnn.layers.weights import GATES, StackConfig


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def random_weights(config: StackConfig, rng, dtype="float32", scale=None):
    """Uniform in +-1/sqrt(H), as torch initialises, or +-scale."""
    bound = 1 / np.sqrt(config.hidden_size) if scale is None else scale
    return {
        name: rng.uniform(-bound, bound, shape).astype(dtype)
        for name, shape in config.shapes().items()
    }


def run(config: StackConfig, weights, x, h=None, c=None, *, reset_after=True, nonlinearity="tanh"):
    """x (T, B, I), h (L*D, B, P), c (L*D, B, H) to y (T, B, D*P) and the last h, c; in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    states = config.num_layers * config.directions
    batch = x.shape[1]
    h = np.zeros((states, batch, config.output_size)) if h is None else h.astype(np.float64)
    c = np.zeros((states, batch, config.hidden_size)) if c is None else c.astype(np.float64)
    h, c, y = h.copy(), c.copy(), x.astype(np.float64)
    for layer in range(config.num_layers):
        outputs = []
        for direction in range(config.directions):
            index = layer * config.directions + direction
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            order = range(len(y) - 1, -1, -1) if direction else range(len(y))
            out = np.empty((len(y), batch, config.output_size))
            for t in order:
                h[index], c[index] = step(
                    config.cell, w, suffix, y[t], h[index], c[index], reset_after, nonlinearity
                )
                out[t] = h[index]
            outputs.append(out)
        y = np.concatenate(outputs, axis=-1)
    return y, h, c


def step(cell, w, suffix, x, h, c, reset_after, nonlinearity):
    """One step of one layer: h and c of the rows."""
    zero = np.zeros(w[f"weight_ih{suffix}"].shape[0])
    from_x = x @ w[f"weight_ih{suffix}"].T + w.get(f"bias_ih{suffix}", zero)
    w_hh, b_hh = w[f"weight_hh{suffix}"], w.get(f"bias_hh{suffix}", zero)
    if cell == "LSTM":
        i, f, g, o = np.split(from_x + h @ w_hh.T + b_hh, GATES[cell], axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        if f"weight_hr{suffix}" in w:
            h = h @ w[f"weight_hr{suffix}"].T
        return h, c
    if cell == "RNN":
        sums = from_x + h @ w_hh.T + b_hh
        return (np.tanh(sums) if nonlinearity == "tanh" else np.maximum(sums, 0)), c
    r_x, z_x, n_x = np.split(from_x, 3, axis=-1)
    r_w, z_w, n_w = np.split(w_hh, 3)
    r_b, z_b, n_b = np.split(b_hh, 3)
    r = sigmoid(r_x + h @ r_w.T + r_b)
    z = sigmoid(z_x + h @ z_w.T + z_b)
    n = np.tanh(n_x + (r * (h @ n_w.T + n_b) if reset_after else (r * h) @ n_w.T + n_b))
    return (1 - z) * n + z * h, c
