"""The promise on bits: what a stream computes does not depend on the company it keeps.

For every ISA of the SIMD engine, `array_equal`: whatever the batch and the row's place in it, its
neighbours, the cutting of time into calls, stream or whole, alignment, `out=`, and ragged lengths.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import reference
from conftest import SIZES
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.layers.engines import available_isas
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
KINDS = [
    ("LSTM", {}, 0),
    ("LSTM", {}, 5),
    ("GRU", {"reset_after": True}, 0),
    ("GRU", {"reset_after": False}, 0),
    ("RNN", {"nonlinearity": "tanh"}, 0),
    ("RNN", {"nonlinearity": "relu"}, 0),
    ("LSTM", {"weight_dtype": "int8"}, 0),
    ("LSTM", {"weight_dtype": "int16"}, 5),
    ("GRU", {"weight_dtype": "int8"}, 0),
    ("GRU", {"reset_after": False, "weight_dtype": "int16"}, 0),
    ("RNN", {"nonlinearity": "relu", "weight_dtype": "int8"}, 0),
]
EVERY_KIND = pytest.mark.parametrize(
    ("cell", "options", "proj_size"), KINDS, ids=lambda v: str(v).replace(" ", "")
)


def make(isa, cell, options, proj_size, sizes=(19, 37), num_layers=2, **more):
    config = StackConfig(cell, *sizes, num_layers=num_layers, proj_size=proj_size, **more)
    weights = reference.random_weights(config, np.random.default_rng(3))
    return LAYERS[cell].from_state_dict(weights, engine="simd", isa=isa, **options)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def inputs(layer, steps, batch, seed=4):
    shape = (steps, batch, layer.input_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_rows_alone(layer, x, y, state, rows=None):
    """Every row of x, run alone as a whole sequence, gives its row of y and state, bit for bit."""
    for row in range(x.shape[1]) if rows is None else rows:
        alone, alone_state = layer(x[:, row])
        np.testing.assert_array_equal(alone, y[:, row])
        for a, b in zip(parts(alone_state), parts(state), strict=True):
            np.testing.assert_array_equal(a, b[:, row])


@EVERY_ISA
@EVERY_KIND
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6, 7, 11, 13, 24, 97, 200])
def test_any_batch(isa, cell, options, proj_size, batch):
    layer = make(isa, cell, options, proj_size)
    x = inputs(layer, 5, batch)
    rows = range(batch) if batch < 30 else [0, 1, batch // 2, batch - 2, batch - 1]
    assert_rows_alone(layer, x, *layer(x), rows)


@EVERY_ISA
@EVERY_KIND
@settings(max_examples=25)
@given(
    sizes=st.tuples(SIZES, SIZES.filter(lambda n: n > 5)),
    batch=st.integers(1, 14),
    steps=st.integers(1, 110),
    cuts=st.lists(st.integers(0, 110), max_size=3),
)
@example(sizes=(7, 33), batch=1, steps=110, cuts=[1, 97])
def test_any_cut_of_time_stream_or_whole(isa, cell, options, proj_size, sizes, batch, steps, cuts):
    layer = make(isa, cell, options, proj_size, sizes)
    x = inputs(layer, steps, batch)
    y, state = layer(x)
    stream, stepped = layer.stream(batch), layer.stream(batch)
    bounds = [0, *sorted(min(cut, steps) for cut in cuts), steps]
    ran = [stream.run(x[a:b]) for a, b in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(ran), y)
    np.testing.assert_array_equal([stepped.step(frame) for frame in x], y)
    for ours in (stream.state, stepped.state):
        for a, b in zip(parts(ours), parts(state), strict=True):
            np.testing.assert_array_equal(a, b)


@EVERY_ISA
@EVERY_KIND
@pytest.mark.parametrize("batch", [3, 7, 16])
def test_any_company(isa, cell, options, proj_size, batch):
    """NaN, infinities and huge values stay in their own rows, and change nobody's bits."""
    layer = make(isa, cell, options, proj_size)
    x = inputs(layer, 6, batch)
    y, _ = layer(x)
    own = batch // 2
    for bad in (np.nan, np.inf, -np.inf, 1e30, 1e-40):
        other = np.full_like(x, bad)
        other[:, own] = x[:, own]
        beside, _ = layer(other)
        np.testing.assert_array_equal(beside[:, own], y[:, own])
        stream = layer.stream(batch)
        stepped = np.stack([stream.step(frame) for frame in other])
        np.testing.assert_array_equal(stepped[:, own], y[:, own])


@EVERY_ISA
@EVERY_KIND
def test_any_alignment_and_out(isa, cell, options, proj_size):
    layer = make(isa, cell, options, proj_size)
    x = inputs(layer, 8, 3)
    expected, _ = layer(x)
    for offset in range(0, 64, 4):
        frame = np.empty(x[0].nbytes + 64, np.uint8)[offset:][: x[0].nbytes]
        frame = frame.view(np.float32).reshape(x[0].shape)
        out = np.empty(expected[0].nbytes + 64, np.uint8)[64 - offset :][: expected[0].nbytes]
        out = out.view(np.float32).reshape(expected[0].shape)
        stream = layer.stream(3)
        for t in range(8):
            frame[...] = x[t]
            stream.step(frame, out=out)
            np.testing.assert_array_equal(out, expected[t])


@EVERY_ISA
@EVERY_KIND
def test_state_moved_between_rows_and_streams(isa, cell, options, proj_size):
    layer = make(isa, cell, options, proj_size)
    x = inputs(layer, 20, 5)
    y, _ = layer(x)
    stream = layer.stream(5)
    stream.run(x[:9])
    order = [3, 0, 4, 1, 2]
    moved = layer.stream(5)
    state = tuple(part[:, order] for part in parts(stream.state))
    moved.state = state if cell == "LSTM" else state[0]
    np.testing.assert_array_equal(moved.run(x[9:, order]), y[9:, order])


@EVERY_ISA
@EVERY_KIND
@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9))
def test_any_lengths_and_both_directions(isa, cell, options, proj_size, lengths):
    layer = make(isa, cell, options, proj_size, bidirectional=True)
    x = inputs(layer, max(lengths), len(lengths))
    y, state = layer(x, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, alone_state = layer(x[:length, row])
        np.testing.assert_array_equal(y[:length, row], alone)
        assert not y[length:, row].any()
        for a, b in zip(parts(state), parts(alone_state), strict=True):
            np.testing.assert_array_equal(a[:, row], b)


def test_a_stream_runs_on_the_engine_of_its_layer():
    layer = make(None, *KINDS[0])
    assert layer.engine == "simd"
    assert layer.stream(2)._stepper.stack is layer._packed
