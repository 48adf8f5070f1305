"""Streams: stepping is running, state is the engine's, mistakes change nothing."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import reference
from conftest import ENGINES, SIZES, TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}


def make(cell="LSTM", sizes=(6, 17), num_layers=2, proj_size=0, dtype="float32", **options):
    config = StackConfig(cell, *sizes, num_layers=num_layers, proj_size=proj_size)
    weights = reference.random_weights(config, np.random.default_rng(0), dtype)
    return LAYERS[cell].from_state_dict(weights, **options)


def states(state):
    return state if isinstance(state, tuple) else (state,)


@st.composite
def cases(draw):
    cell = draw(st.sampled_from(list(LAYERS)))
    hidden = draw(SIZES)
    proj = draw(st.integers(0, hidden - 1)) if cell == "LSTM" else 0
    steps = draw(st.integers(1, 20))
    cuts = sorted(draw(st.lists(st.integers(0, steps), max_size=4)))
    return {
        "cell": cell,
        "sizes": (draw(SIZES), hidden),
        "num_layers": draw(st.integers(1, 3)),
        "proj_size": proj,
        "batch": draw(st.none() | st.integers(1, 9)),
        "cuts": [0, *cuts, steps],
    }


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@settings(max_examples=80)
@given(case=cases(), batch_first=st.booleans())
def test_streaming_is_the_whole_sequence_cut_any_way(how, dtype, case, batch_first):
    layer = make(
        case["cell"], case["sizes"], case["num_layers"], case["proj_size"], dtype,
        **how, batch_first=batch_first,
    )  # fmt: skip
    batch, cuts = case["batch"], case["cuts"]
    lead = () if batch is None else (batch,)
    x = np.random.default_rng(1).standard_normal((cuts[-1], *lead, layer.input_size)).astype(dtype)
    swap = batch_first and batch is not None

    def swapped(a):
        return a.swapaxes(0, 1) if swap else a

    y, state = layer(swapped(x))
    stepped, run = layer.stream(batch), layer.stream(batch)
    by_step = np.stack([stepped.step(frame) for frame in x])
    by_run = [swapped(run.run(swapped(x[a:b]))) for a, b in pairwise(cuts)]
    np.testing.assert_allclose(by_step, swapped(y), **TOLERANCE[dtype])
    np.testing.assert_allclose(np.concatenate(by_run), swapped(y), **TOLERANCE[dtype])
    for stream in (stepped, run):
        for ours, theirs in zip(states(stream.state), states(state), strict=True):
            np.testing.assert_allclose(ours, theirs, **TOLERANCE[dtype])


@pytest.mark.parametrize("cell", list(LAYERS))
def test_state_goes_out_and_back_in(rng, cell):
    layer = make(cell)
    x = rng.standard_normal((10, 3, 6)).astype(np.float32)
    stream = layer.stream(3)
    stream.run(x[:4])
    state = stream.state
    expected = stream.run(x[4:])
    kept = [s.copy() for s in states(state)]
    other = layer.stream(3)
    other.state = state
    np.testing.assert_array_equal(other.run(x[4:]), expected)
    for a, b in zip(states(state), kept, strict=True):
        np.testing.assert_array_equal(a, b)  # a copy: running on did not touch it
    _, h_n = layer(x[:4])
    assert [s.shape for s in states(state)] == [s.shape for s in states(h_n)]


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@pytest.mark.parametrize("cell", list(LAYERS))
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_streams_begin_with_the_initial_state_and_reset_goes_back_to_it(
    rng, cell, batch, how, dtype
):
    layer = make(cell, dtype=dtype, **how)
    rows = 1 if batch is None else batch
    x = rng.standard_normal((5, rows, 6)).astype(dtype)
    one = [rng.standard_normal((2, 17)) for _ in range(2 if cell == "LSTM" else 1)]
    each = [rng.standard_normal((2, rows, 17)) for _ in one]
    for initial, hx in (
        (one, [np.repeat(part[:, None], rows, 1) for part in one]),
        ([part[:, None] for part in one], [np.repeat(part[:, None], rows, 1) for part in one]),
        (each, each),
    ):
        if batch is None and initial[0].ndim == 3:
            continue
        initial = [part.copy() for part in initial]
        initial, hx = (tuple(parts) if cell == "LSTM" else parts[0] for parts in (initial, hx))
        expected, _ = layer(x, hx)
        stream = layer.stream(batch, initial_state=initial)
        for part in states(initial):
            part[...] = 9  # copied: what becomes of the caller's does not matter
        for _ in range(2):
            y = stream.run(x[:, 0] if batch is None else x)
            np.testing.assert_allclose(y.reshape(expected.shape), expected, **TOLERANCE[dtype])
            stream.reset()
        stream.run(x[:, 0] if batch is None else x)
        stream.reset(rows - 1)
        last = stream.run(x[:, 0] if batch is None else x).reshape(expected.shape)[:, -1]
        np.testing.assert_allclose(last, expected[:, -1], **TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("cell", "batch", "initial", "error", "message"),
    [
        (
            "GRU",
            3,
            np.zeros((2, 4, 17)),
            ValueError,
            r"initial_state is \(2, 4, 17\), expected \(2, 3, ",
        ),
        (
            "GRU",
            3,
            np.zeros(17),
            ValueError,
            r"initial_state is \(17,\), expected \(2, 3, 17\), or \(2, ",
        ),
        ("GRU", None, np.zeros((2, 1, 17)), ValueError, r"expected \(2, 17\)"),
        ("GRU", 3, "abc", TypeError, "initial_state has dtype"),
        ("GRU", 3, (np.zeros((2, 17)),) * 2, ValueError, "initial_state is"),
        ("LSTM", 3, np.zeros((2, 17)), ValueError, "initial_state is ndarray, expected a pair"),
        ("LSTM", 3, (np.zeros((2, 17)), None), TypeError, "initial_state c has dtype object"),
    ],
)
def test_an_initial_state_that_does_not_fit(cell, batch, initial, error, message):
    with pytest.raises(error, match=f"^{cell} stream: .*{message}"):
        make(cell).stream(batch, initial_state=initial)
    if batch is not None:
        with pytest.raises(error, match=f"^{cell} pool: "):
            make(cell).pool(batch, initial_state=initial)


def test_reset_zeroes_just_the_rows_named(rng):
    layer = make()
    x = rng.standard_normal((4, 6)).astype(np.float32)
    stream = layer.stream(4)
    fresh = stream.step(x)
    second = stream.step(x)
    for rows in ([1, 3], (3, 1), np.array([False, True, False, True]), [-1, 1]):
        stream.reset()
        stream.step(x)
        stream.reset(rows)
        y = stream.step(x)
        np.testing.assert_allclose(y[[1, 3]], fresh[[1, 3]], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(y[[0, 2]], second[[0, 2]], rtol=1e-6, atol=1e-7)
    stream.reset(2)
    assert not stream.state[0][:, 2].any()
    assert stream.state[0][:, 1].any()
    for rows in (4, [0, 9], [True, False], 1.5, True, [[1], [2, 3]]):
        with pytest.raises(IndexError, match="LSTM stream: reset rows for a batch of 4"):
            stream.reset(rows)


def test_out_is_filled_and_returned(rng):
    layer = make(sizes=(17, 17))
    x = rng.standard_normal((5, 3, 17)).astype(np.float32)
    expected, _ = layer(x)
    stream, out = layer.stream(3), np.empty((3, 17), np.float32)
    for frame, y in zip(x, expected, strict=True):
        assert stream.step(frame, out=out) is out
        np.testing.assert_allclose(out, y, rtol=1e-5, atol=1e-6)
    stream, own = layer.stream(3), x[0].copy()
    stream.step(own, out=own)  # onto its own input
    np.testing.assert_allclose(own, expected[0], rtol=1e-5, atol=1e-6)


def test_other_input_is_converted(rng):
    stream, twin = make().stream(2), make().stream(2)
    x = rng.integers(-2, 3, (2, 6))
    expected = twin.step(x.astype(np.float32))
    np.testing.assert_array_equal(stream.step(x.tolist()), expected)
    expected = twin.step(x.astype(np.float32))
    np.testing.assert_array_equal(stream.step(np.asfortranarray(x.astype(float))), expected)


X = np.zeros((2, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.step(X[:, :5]), ValueError,
         r"LSTM stream: x has 5 features, expected input_size=6 \(x.shape=\(2, 5\)\)"),
        (lambda s: s.step(X[:1]), ValueError, "x has 1 rows, expected batch=2"),
        (lambda s: s.step(X[0]), ValueError, r"x has 1 dimensions, expected 2: \(2, 6\)"),
        (lambda s: s.run(X), ValueError, r"x has 2 dimensions, expected 3: \(T, 2, 6\)"),
        (lambda s: s.step(X * 1j), TypeError, "x has dtype complex64"),
        (lambda s: s.step(None), TypeError, "x has dtype object"),
        (lambda s: s.step(X, np.zeros((2, 16), np.float32)), ValueError,
         r"out is float32 \(2, 16\), expected a writeable C-contiguous float32 array \(2, 17\)"),
        (lambda s: s.step(X, np.zeros((2, 17))), ValueError, "out is float64"),
        (lambda s: s.step(X, np.zeros((17, 2), np.float32).T), ValueError, "C-contiguous"),
        (lambda s: s.step(X, [0]), ValueError, "out is list"),
        (lambda s: s.step(X, np.broadcast_to(np.float32(0), (2, 17))), ValueError, "writeable"),
        (lambda s: setattr(s, "state", X), ValueError, r"state is ndarray, expected a pair \(h, c\)"),
        (lambda s: setattr(s, "state", (X, X)), ValueError,
         r"state h is \(2, 6\), expected \(2, 2, 17\)"),
        (lambda s: setattr(s, "state", (s.state[0], X)), ValueError, "state c is"),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_change_nothing(rng, call, error, message):
    stream = make().stream(2)
    stream.step(rng.standard_normal((2, 6)))
    before = stream.state
    with pytest.raises(error, match=message):
        call(stream)
    for a, b in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("batch", [0, -1, 2.0, True, "2", 2**31, 2**70])
def test_batch_is_a_positive_integer(batch):
    with pytest.raises(ValueError, match=r"batch=.*, expected an integer >= 1 or None"):
        make().stream(batch)


def test_a_bidirectional_layer_cannot_stream(rng):
    config = StackConfig("GRU", 3, 4, bidirectional=True)
    layer = fastrnn.GRU.from_state_dict(reference.random_weights(config, rng))
    with pytest.raises(ValueError, match="GRU stream: a bidirectional layer cannot stream"):
        layer.stream(1)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_is_not_copied(duplicate):
    with pytest.raises(TypeError, match="LSTM stream: cannot be copied or pickled; copy its state"):
        duplicate(make().stream(2))


def test_a_stream_keeps_its_weights(rng):
    layer = make(num_layers=1)
    stream, twin = layer.stream(1), layer.stream(1)
    x = rng.standard_normal((1, 6)).astype(np.float32)
    expected = twin.step(x)
    layer.load_state_dict({k: np.zeros_like(v) for k, v in layer.state_dict().items()})
    np.testing.assert_array_equal(stream.step(x), expected)


def test_two_threads_in_one_stream_raise_and_do_not_corrupt(rng):
    layer = make(sizes=(64, 256), num_layers=1)
    x = rng.standard_normal((64, 64)).astype(np.float32)
    stream = layer.stream(64)
    refused, done = [], []
    ready = threading.Barrier(4)

    def work():
        ready.wait()
        end = time.monotonic() + 20  # on a busy machine they may take turns for a while
        for tries in itertools.count():
            if tries >= 100 and (refused or time.monotonic() > end):
                break
            try:
                stream.step(x)
                done.append(1)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused
    assert set(refused) == {"LSTM stream: in use by another thread"}
    # Every step that was let in advanced the state once, whole.
    expected = layer.stream(64)
    for _ in done:
        expected.step(x)
    for a, b in zip(stream.state, expected.state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_with_out_allocates_nothing_in_python(rng):
    import tracemalloc

    stream = make().stream(4)
    x = rng.standard_normal((4, 6)).astype(np.float32)
    out = np.empty((4, 17), np.float32)
    stream.step(x, out)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            stream.step(x, out)
        assert tracemalloc.get_traced_memory()[0] - before < 512
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("batch", [None, 3])
def test_a_bound_step_is_a_step(batch):
    lstm = fastrnn.LSTM.from_state_dict(
        {
            "weight_ih_l0": np.full((32, 5), 0.1, np.float32),
            "weight_hh_l0": np.full((32, 8), -0.2, np.float32),
        }
    )
    lead = () if batch is None else (batch,)
    x, y = np.zeros((*lead, 5), np.float32), np.zeros((*lead, 8), np.float32)
    one, other = lstm.stream(batch), lstm.stream(batch)
    bound = one.bind(x, y)
    for value in (1, 2, 3):
        x[...] = value
        assert bound() is y
        np.testing.assert_array_equal(y, other.step(x))
    np.testing.assert_array_equal(one.state, other.state)
    with pytest.raises(ValueError, match=r"bind: x is ndarray float64 .* float32 array"):
        one.bind(x.astype(float), y)
    with pytest.raises(ValueError, match="bind: x is list"):
        one.bind([1.0], y)
    with pytest.raises(ValueError, match="out is float32"):
        one.bind(x, x)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="expected a writeable"):
        bound()
    np.testing.assert_array_equal(one.state, other.state)
