"""Pools: open(n), clone, evict, lists of ids; and saved states of streams, which are a pool's."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from serving import make_layer

from fastrnn import PoolFullError, StateError
from fastrnn.loading import load_model

DATA = Path(str(find_spec("silero_vad").origin)).parent / "data" / "silero_vad.onnx"


def vad():
    return load_model(DATA, fixed={"sr": 16000}, shapes={"input": (None, 576)})


MAKERS = {
    "lstm": make_layer,
    "gru": lambda: make_layer("GRU"),
    "blas": lambda: make_layer(engine="blas"),
    "model": vad,
}


@pytest.fixture(scope="module", params=MAKERS)
def layer(request):
    return MAKERS[request.param]()


@pytest.fixture
def x(layer, rng):
    shape = layer.pool(1).input_shape
    return rng.standard_normal((8, *shape)).astype(np.float32)


def same(one, other):
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_open_many_all_or_none(layer):
    pool = layer.pool(4)
    ids = pool.open(3)
    assert len({*ids}) == len(pool) == 3
    assert all(type(id) is int and id in pool for id in ids)
    assert pool.open(0) == []
    with pytest.raises(PoolFullError):
        pool.open(2)
    assert len(pool) == 3
    for n in (-1, 1.5, True):
        with pytest.raises(ValueError, match="expected an integer >= 0"):
            pool.open(n)
    pool.close(np.array(ids[:2]))
    assert len(pool) == 1
    assert len(layer.pool(1, grow=True).open(5)) == 5


def test_close_many_all_or_none(layer):
    pool = layer.pool(3)
    a, b, c = pool.open(3)
    with pytest.raises(LookupError, match="twice"):
        pool.close([a, b, a])
    pool.close(b)
    with pytest.raises(LookupError, match="no stream"):
        pool.close([a, b])
    assert a in pool
    assert c in pool


def test_a_clone_goes_its_own_way(layer, x):
    pool = layer.pool(8)
    a = pool.open()
    pool.step([a], x[:1])
    b = pool.clone(a)
    assert b != a
    twin = pool.load(pool.save(a))
    expected = pool.step([twin], x[1:2])
    same(pool.step([b], x[1:2]), expected)
    assert pool.save(a) != pool.save(b)
    same(pool.step([a], x[1:2]), expected)
    beams = pool.clone([a, a, b])
    assert len({a, b, twin, *beams}) == len(pool) == 6
    assert pool.save(beams) == [pool.save(id) for id in (a, a, b)]
    with pytest.raises(PoolFullError):
        pool.clone([a, a, a])
    assert len(pool) == 6
    with pytest.raises(LookupError):
        pool.clone(1 << 40)
    states = pool.save([a, b])
    pool.close(beams)
    assert pool.save(pool.load(states)) == states
    with pytest.raises(StateError):
        pool.load([states[0], b"nonsense"])
    assert len(pool) == 5


def test_evict_closes_what_nobody_used(layer, x):
    pool = layer.pool(5)
    a, b, c = pool.open(3)
    assert pool.evict(5) == []
    time.sleep(0.3)
    pool.step([b], x[:1])
    d = pool.open()
    assert sorted(pool.evict(0.2)) == sorted([a, c])
    assert a not in pool
    assert (b in pool, d in pool, len(pool)) == (True, True, 2)
    assert len(pool.open(3)) == 3
    assert a not in pool
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="idle_seconds"):
            pool.evict(bad)


def test_a_stream_is_saved_as_a_pools(layer, x):
    stream, pool = layer.stream(), layer.pool(3)
    a = pool.open()
    pool.step([a], x[:1])
    stream.step(x[0] if stream.batch is None else x[:1])
    state = stream.save()
    assert isinstance(state, bytes)
    b = pool.load(state)
    expected = pool.step([b], x[1:2])[0]
    other = layer.stream()
    other.load(state)
    assert other.save() == state
    same(np.squeeze(other.step(x[1])), np.squeeze(expected))
    for bad in (b"nonsense", state[:-1], state[:60] + b"!" + state[61:]):
        with pytest.raises(StateError):
            stream.load(bad)
    assert stream.save() == state
    other.load(pool.save(a))
    same(np.squeeze(other.step(x[1])), np.squeeze(expected))


def test_a_batch_is_saved_by_row(layer, x):
    stream = layer.stream(3)
    stream.step(x[:3])
    states = stream.save()
    assert len(states) == 3
    expected = stream.step(x[3:6])
    stream.load(states[::-1])
    same(stream.step(x[3:6][::-1].copy()), expected[::-1])
    single = layer.stream()
    single.load(states[1])
    same(np.squeeze(single.step(x[4])), np.squeeze(expected[1]))
    for bad, error in ((states[:2], ValueError), (states[0], TypeError), ([1, 2, 3], TypeError)):
        with pytest.raises(error):
            stream.load(bad)
