"""A signal's handler is called during a long run; what it raises ends the run, and nothing has changed."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.layers.weights import StackConfig

HOWS = [{"engine": "simd"}, {"engine": "simd", "isa": "generic"}, {"engine": "simd", "threads": 2}]
EVERY_HOW = pytest.mark.parametrize(
    "how", [*HOWS, {"engine": "blas"}], ids=["simd", "generic", "threads", "blas"]
)
# Seconds until the signal comes, and of the CPU's time in which the call must have ended.
DELAY, MOST = 0.05, 0.6


class StoppedError(Exception):
    """What the handler raises."""


def make(hidden=1024, cell="LSTM", num_layers=2, **how):
    config = StackConfig(cell, 16, hidden, num_layers)
    weights = reference.random_weights(config, np.random.default_rng(0))
    return getattr(fastrnn, cell).from_state_dict(weights, **how)


def state_of(owner):
    if isinstance(owner, fastrnn.Stream):
        return owner.state
    return owner.get_state(range(len(owner)))


def streams(layer, count):
    pool = layer.pool(count)
    for _ in range(count):
        pool.open()
    return pool


def long_calls():
    """What takes seconds: name, and what makes its call and the owner of its state from a layer."""

    def whole(layer):
        x = np.zeros((2000, 4, 16), np.float32)
        return lambda: layer(x), None

    def ragged(layer):
        x = np.zeros((2000, 4, 16), np.float32)
        return lambda: layer(x, lengths=[2000, 5, 2000, 1900]), None

    def trace(layer):
        x = np.zeros((1000, 8, 16), np.float32)
        return lambda: layer.trace(x), None

    def stream_run(layer):
        stream = layer.stream(4)
        x = np.zeros((2000, 4, 16), np.float32)
        return lambda: stream.run(x), stream

    def stream_step(layer):
        stream = layer.stream(4000)
        x = np.zeros((4000, 16), np.float32)
        out = np.full((4000, 1024), 7, np.float32)
        return lambda: stream.step(x, out=out), stream, out

    def pool_run(layer):
        pool = streams(layer, 4)
        x = np.zeros((2000, 4, 16), np.float32)
        return lambda: pool.run(range(4), x), pool

    def pool_step(layer):
        pool = streams(layer, 4000)
        x = np.zeros((4000, 16), np.float32)
        out = np.full((4000, 1024), 7, np.float32)
        return lambda: pool.step(range(4000), x, out=out), pool, out

    return {
        f.__name__: f for f in (whole, ragged, trace, stream_run, stream_step, pool_run, pool_step)
    }


LONG_CALLS = long_calls()


@pytest.fixture
def stopped_soon():
    """Begin a clock after which SIGALRM comes, and its handler raises."""
    calls = []

    def handler(signum, frame):
        calls.append(time.perf_counter())
        raise StoppedError

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, DELAY) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert len(calls) == 1


@EVERY_HOW
@pytest.mark.parametrize("name", LONG_CALLS)
def test_a_handler_that_raises_ends_the_call_and_nothing_has_changed(name, how, stopped_soon):
    call, owner, *out = LONG_CALLS[name](make(**how))
    if owner is not None:
        before = [part.copy() for part in state_of(owner)]
    begin = time.process_time()
    stopped_soon()
    with pytest.raises(StoppedError):
        call()
    assert time.process_time() - begin < DELAY + MOST
    if owner is not None:
        for now, then in zip(state_of(owner), before, strict=True):
            np.testing.assert_array_equal(now, then)
    for array in out:
        assert (array == 7).all()


def test_a_cell(stopped_soon):
    layer = make(num_layers=1)
    cell = fastrnn.LSTMCell(16, 1024)
    cell.load_state_dict(layer.state_dict())
    x = np.zeros((8000, 16), np.float32)
    h, c = np.ones((2, 8000, 1024), np.float32)
    stopped_soon()
    with pytest.raises(StoppedError):
        cell(x, (h, c), out=(h, c))
    assert (h == 1).all()
    assert (c == 1).all()


def test_a_handler_that_returns_changes_no_bit(rng):
    """Nor does being watched: another thread's run is not."""
    layer = make()
    x = rng.standard_normal((500, 4, 16)).astype(np.float32)
    unwatched = []
    thread = threading.Thread(target=lambda: unwatched.append(layer(x)))
    thread.start()
    thread.join()
    calls = []

    def handler(signum, frame):
        calls.append(layer(x[:3])[0])  # a run within the run, under the caller's rounding
        calls.append(np.float32(1e-40) * np.float32(0.5))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, DELAY, DELAY)
    try:
        y, state = layer(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(y, unwatched[0][0])
    for ours, theirs in zip(state, unwatched[0][1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(calls[0], y[:3])
    assert calls[1] > 0  # a denormal


def test_a_handler_may_not_step_the_stream_that_is_in_the_run():
    pool = streams(make(), 4)
    x = np.zeros((500, 4, 16), np.float32)
    refused = []

    def handler(signum, frame):
        with pytest.raises(fastrnn.BusyError) as error:
            pool.reset([2])
        refused.append(str(error.value))

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, DELAY)
    try:
        pool.run(range(4), x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert refused == ["LSTM pool: stream 2 is in use by another thread"]
