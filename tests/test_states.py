"""Saved states: they move between processes and engines, and nothing else passes for one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.layers.engines import available_isas
from fastrnn.layers.weights import StackConfig

CONFIG = StackConfig("LSTM", 3, 9, num_layers=2)
WEIGHTS = reference.random_weights(CONFIG, np.random.default_rng(0))


def make(**options):
    return fastrnn.LSTM.from_state_dict(WEIGHTS, **options)


def saved(layer, steps=4):
    pool = layer.pool(1)
    id = pool.open()
    x = np.random.default_rng(1).standard_normal((steps, 1, 3)).astype(layer.dtype)
    pool.run([id], x)
    return pool.save(id), pool.get_state([id])


STATE, (H, C) = saved(make())


def assert_loads(data):
    pool = make().pool(1)
    h, c = pool.get_state([pool.load(data)])
    np.testing.assert_array_equal(h, H)
    np.testing.assert_array_equal(c, C)


def test_what_is_in_one():
    """The layout is a promise: states that are stored stay readable."""
    assert STATE[:16] == b"fastrnn state 1\n"
    assert STATE[16:48].hex() == make().fingerprint
    expected = np.concatenate([H[:, 0], C[:, 0]], axis=1).astype("<f4").tobytes()
    assert STATE[48:-16] == expected


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_there_and_back(kind):
    assert_loads(kind(STATE))


def test_strange_values_pass():
    """A stream that was fed NaN is saved as it is."""
    pool = make().pool(2)
    id = pool.open()
    pool.step([id], np.full((1, 3), np.nan, np.float32))
    h, c = pool.get_state([pool.load(pool.save(id))])
    assert np.isnan(h).all()
    assert np.isnan(c).all()


def test_fingerprints_stay():
    """Written down here, since states that are stored carry them."""
    ones = {name: np.ones(shape, np.float32) for name, shape in CONFIG.shapes().items()}
    lstm = fastrnn.LSTM.from_state_dict(ones)
    assert lstm.fingerprint == "8dbe6b0f5c108f54e768b66af2d94a53f6c180c632e0699020b572bd84afaa3f"
    gru_config = StackConfig("GRU", 3, 9)
    ones = {name: np.ones(shape, np.float32) for name, shape in gru_config.shapes().items()}
    assert (
        fastrnn.GRU.from_state_dict(ones).fingerprint
        == "70691faa08a7e5fd93510025b97578f34a8a4fd9b735600e97dd4ace0362237b"
    )


def test_every_engine_and_layout_has_the_same_fingerprint():
    ways = [{"isa": isa} for isa in available_isas()]
    ways += [{"engine": "blas"}, {"batch_first": True}, {"threads": 2}]
    assert {make(**way).fingerprint for way in ways} == {make().fingerprint}
    for way in ways:
        pool = make(**way).pool(1)
        np.testing.assert_array_equal(pool.get_state([pool.load(STATE)])[0], H)


def test_a_word_of_numpys_has_the_same_fingerprint():
    weights = reference.random_weights(StackConfig("RNN", 3, 9), np.random.default_rng(0))
    layers = [
        fastrnn.RNN.from_state_dict(weights, nonlinearity=word)
        for word in ("relu", np.str_("relu"))
    ]
    assert layers[0].fingerprint == layers[1].fingerprint


def test_every_other_model_has_another():
    other = {name: value.copy() for name, value in WEIGHTS.items()}
    other["bias_hh_l1"][0] += 1e-3
    gru = reference.random_weights(StackConfig("GRU", 3, 9), np.random.default_rng(0))
    rnn = reference.random_weights(StackConfig("RNN", 3, 9), np.random.default_rng(0))
    layers = [
        make(),
        make(dtype="float64"),
        fastrnn.LSTM.from_state_dict(other),
        fastrnn.GRU.from_state_dict(gru),
        fastrnn.GRU.from_state_dict(gru, reset_after=False),
        fastrnn.RNN.from_state_dict(rnn),
        fastrnn.RNN.from_state_dict(rnn, nonlinearity="relu"),
    ]
    assert len({layer.fingerprint for layer in layers}) == len(layers)
    for layer in layers[1:]:
        pool = layer.pool(1)
        with pytest.raises(
            fastrnn.StateError, match=r"a saved state of another model, [0-9a-f]{16}"
        ):
            pool.load(STATE)
        assert len(pool) == 0


def test_new_weights_in_the_layer_are_not_the_pools():
    layer = make()
    pool = layer.pool(1)
    layer.load_state_dict({name: value * 2 for name, value in WEIGHTS.items()})
    assert layer.fingerprint != make().fingerprint
    pool.load(STATE)


def refused(data):
    pool = make().pool(1)
    with pytest.raises(fastrnn.StateError, match="LSTM pool: ") as caught:
        pool.load(data)
    assert len(pool) == 0
    return str(caught.value)


def test_every_damaged_byte_and_every_length():
    for i in range(len(STATE)):
        for bit in (1, 0x80):
            refused(STATE[:i] + bytes([STATE[i] ^ bit]) + STATE[i + 1 :])
        refused(STATE[:i])
    refused(STATE + b"\0")
    assert "another version" in refused(STATE.replace(b"state 1", b"state 2"))
    assert "not a saved state" in refused(b"")


class NoMemory:
    """A pool of the kernels that has none when states are set."""

    def __init__(self, pool):
        self.pool = pool

    def __getattr__(self, name):
        return getattr(self.pool, name)

    def set_state(self, ids, h, c):
        raise MemoryError


def test_a_load_that_fails_leaves_no_stream():
    pool = make().pool(1)
    kernels, pool._pool = pool._pool, NoMemory(pool._pool)
    with pytest.raises(MemoryError):
        pool.load(STATE)
    pool._pool = kernels
    assert len(pool) == 0
    pool.load(STATE)


@given(st.binary(max_size=400))
def test_any_bytes(data):
    refused(data)
    body = STATE[:48] + data
    if len(body) + 16 != len(STATE):  # with a checksum that is right
        refused(body + hashlib.blake2b(body, digest_size=16).digest())
    refused(STATE[:16] + data)
    refused(STATE[:48] + data)


def test_another_process(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **WEIGHTS)
    (tmp_path / "state").write_bytes(STATE)
    code = """
        import sys, pathlib, numpy as np, fastrnn
        folder = pathlib.Path(sys.argv[1])
        pool = fastrnn.load(folder / "weights.npz").pool(1)
        id = pool.load((folder / "state").read_bytes())
        pool.step([id], np.ones((1, 3), np.float32))
        (folder / "state").write_bytes(pool.save(id))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], check=True)
    pool = make().pool(2)
    here, there = pool.load(STATE), pool.load((tmp_path / "state").read_bytes())
    pool.step([here], np.ones((1, 3), np.float32))
    for part in pool.get_state([here, there]):
        np.testing.assert_array_equal(part[:, 0], part[:, 1])
