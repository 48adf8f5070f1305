"""Streams in use elsewhere: BusyError for who does not wait, and a turn for who does."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from serving import make_layer

import fastrnn

LAYER = make_layer(input_size=64, hidden_size=128)
LONG = np.random.default_rng(0).standard_normal((4000, LAYER.input_size)).astype(np.float32)
FRAME = LONG[:1]


def stream_calls():
    stream = LAYER.stream(1)
    return stream, {
        "step": lambda wait: stream.step(FRAME, wait=wait),
        "run": lambda wait: stream.run(FRAME[:, None], wait=wait),
        "reset": lambda wait: stream.reset(wait=wait),
    }, lambda: stream.run(LONG[:, None])  # fmt: skip


def pool_calls():
    pool = LAYER.pool(2)
    ids = [pool.open()]
    h = np.zeros((2, 1, LAYER.hidden_size), np.float32)
    return pool, {
        "step": lambda wait: pool.step(ids, FRAME, wait=wait),
        "run": lambda wait: pool.run(ids, FRAME[:, None], wait=wait),
        "run of lengths": lambda wait: pool.run(ids, FRAME[:, None], [1], wait=wait),
        "reset": lambda wait: pool.reset(ids, wait=wait),
        "get_state": lambda wait: pool.get_state(ids, wait=wait),
        "set_state": lambda wait: pool.set_state(ids, (h, h), wait=wait),
        "save": lambda wait: pool.save(ids[0], wait=wait),
        "close": lambda wait: pool.close(ids[0], wait=wait),
    }, lambda: pool.run(ids, LONG[:, None])  # fmt: skip


def is_busy(call):
    """Whether the call, which does not wait, is told that its stream is in use."""
    try:
        call(False)
    except fastrnn.BusyError as error:
        return "in use by another thread" in str(error)
    return False


@pytest.mark.parametrize(
    ("make", "name"),
    [(make, name) for make in (stream_calls, pool_calls) for name in make()[1]],
)
def test_a_call_that_meets_another_is_told_or_waits(make, name):
    for _ in range(20):  # a machine may be too busy for the two to meet
        _, calls, run = make()
        elsewhere = threading.Thread(target=run)
        elsewhere.start()
        while elsewhere.is_alive() and not is_busy(calls["reset"]):
            pass
        met = is_busy(calls[name])
        if met:
            calls[name](True)
        elsewhere.join()
        if met:
            return
    pytest.fail("the calls never met")


def test_busy_is_a_runtime_error():
    assert issubclass(fastrnn.BusyError, RuntimeError)


def test_everybody_who_waits_gets_a_turn():
    layer = make_layer()
    pool, stream, twin = layer.pool(1), layer.stream(), layer.stream()
    id = pool.open()
    x = np.random.default_rng(1).standard_normal(layer.input_size).astype(np.float32)

    def work():
        for _ in range(200):
            stream.step(x, wait=True)
            pool.step([id], x[None], wait=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(800):
        y = twin.step(x)
    np.testing.assert_array_equal(stream.state[0][-1], y)
    np.testing.assert_array_equal(pool.get_state([id])[0][-1, 0], y)


def test_what_is_refused_for_another_reason_is_not_tried_again():
    pool = make_layer().pool(1)
    with pytest.raises(LookupError):
        pool.step([7], np.zeros((1, 5)), wait=True)
    with pytest.raises(ValueError, match="expected"):
        make_layer().stream().step(np.zeros(4), wait=True)
