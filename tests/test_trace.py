"""Traced gates and states against the formulas that bind them."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
NAMES = {
    "LSTM": {"input", "forget", "cell", "output", "h", "c"},
    "GRU": {"reset", "update", "candidate", "h"},
    "RNN": {"h"},
}


def make(cell, rng, dtype="float64", proj_size=0, **options):
    config = StackConfig(cell, 4, 7, num_layers=2, bidirectional=True, proj_size=proj_size)
    weights = reference.random_weights(config, rng, dtype)
    return LAYERS[cell].from_state_dict(weights, **options), weights


@pytest.mark.parametrize("cell", list(LAYERS))
def test_the_trace_ends_where_the_layer_does(rng, cell):
    layer, _ = make(cell, rng)
    x = rng.standard_normal((6, 3, 4))
    y, state = layer(x)
    traced = layer.trace(x)
    assert set(traced) == NAMES[cell]
    assert {values.shape for values in traced.values()} == {(2, 2, 6, 3, 7)}
    top = traced["h"][-1]
    np.testing.assert_allclose(np.concatenate([top[0], top[1]], axis=-1), y, rtol=1e-12)
    last = np.stack([traced["h"][i, d, 0 if d else -1] for i in range(2) for d in range(2)])
    np.testing.assert_allclose(last, state[0] if cell == "LSTM" else state, rtol=1e-12)


@pytest.mark.parametrize("proj_size", [0, 3])
def test_lstm_gates_make_its_states(rng, proj_size):
    layer, weights = make("LSTM", rng, proj_size=proj_size)
    x = rng.standard_normal((6, 3, 4))
    h_0, c_0 = rng.standard_normal((4, 3, proj_size or 7)), rng.standard_normal((4, 3, 7))
    traced = layer.trace(x, (h_0, c_0))
    before = np.concatenate([c_0[:1], traced["c"][0, 0, :-1]])
    c = traced["forget"][0, 0] * before + traced["input"][0, 0] * traced["cell"][0, 0]
    np.testing.assert_allclose(traced["c"][0, 0], c, rtol=1e-12)
    h = traced["output"][1, 1] * np.tanh(traced["c"][1, 1])
    if proj_size:
        h = h @ weights["weight_hr_l1_reverse"].T
    np.testing.assert_allclose(traced["h"][1, 1], h, rtol=1e-12)
    i, f, g, o = np.split(
        x[0] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        + h_0[0] @ weights["weight_hh_l0"].T + weights["bias_hh_l0"], 4, axis=-1,
    )  # fmt: skip
    sigmoid, at = reference.sigmoid, (0, 0, 0)
    expected = {"input": sigmoid(i), "forget": sigmoid(f), "cell": np.tanh(g), "output": sigmoid(o)}
    for name, gate in expected.items():
        np.testing.assert_allclose(traced[name][at], gate, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_gates_make_its_state(rng, reset_after):
    layer, weights = make("GRU", rng, reset_after=reset_after)
    x, h_0 = rng.standard_normal((6, 3, 4)), rng.standard_normal((4, 3, 7))
    traced = layer.trace(x, h_0)
    before = np.concatenate([h_0[:1], traced["h"][0, 0, :-1]])
    z, n = traced["update"][0, 0], traced["candidate"][0, 0]
    np.testing.assert_allclose(traced["h"][0, 0], (1 - z) * n + z * before, rtol=1e-12)
    r_w, z_w, _ = np.split(weights["weight_ih_l0"], 3)
    r_u, z_u, _ = np.split(weights["weight_hh_l0"], 3)
    bias = np.split(weights["bias_ih_l0"] + weights["bias_hh_l0"], 3)
    r = reference.sigmoid(x @ r_w.T + before @ r_u.T + bias[0])
    z = reference.sigmoid(x @ z_w.T + before @ z_u.T + bias[1])
    np.testing.assert_allclose(traced["reset"][0, 0], r, rtol=1e-12)
    np.testing.assert_allclose(traced["update"][0, 0], z, rtol=1e-12)


def test_a_batch_of_none(rng):
    layer, _ = make("GRU", rng)
    assert {a.shape for a in layer.trace(np.zeros((6, 0, 4))).values()} == {(2, 2, 6, 0, 7)}


def test_layout_follows_the_layer(rng):
    layer, weights = make("GRU", rng)
    x = rng.standard_normal((6, 3, 4))
    traced = layer.trace(x)
    batch_first = fastrnn.GRU.from_state_dict(weights, batch_first=True).trace(x.swapaxes(0, 1))
    alone = layer.trace(x[:, 1])
    for name, values in traced.items():
        np.testing.assert_array_equal(batch_first[name], values.swapaxes(2, 3))
        np.testing.assert_allclose(alone[name], values[:, :, :, 1], rtol=1e-12)
