"""Whole models whose recurrent nodes have weights of integers."""

from __future__ import annotations

import inspect

import numpy as np
import onnx_models
import pytest
from onnx import helper
from onnx_models import value

import fastrnn
from fastrnn.errors import StateError
from fastrnn.layers.engines import available_isas

SIZE = 24


def recurrent(kind="LSTM") -> bytes:
    """x (time, batch, SIZE) through a recurrent node and a head."""
    rng = np.random.default_rng(4)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = {
        "w": rng.standard_normal((1, gates * SIZE, SIZE)).astype(np.float32) / 4,
        "r": rng.standard_normal((1, gates * SIZE, SIZE)).astype(np.float32) / 4,
        "one": np.array([1]),
        "head": rng.standard_normal((SIZE, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node(kind, ["x", "w", "r"], ["y4"], name="rnn", hidden_size=SIZE),
        helper.make_node("Squeeze", ["y4", "one"], ["y3"]),
        helper.make_node("MatMul", ["y3", "head"], ["y"]),
    ]
    inputs, outputs = [value("x", "time", "batch", SIZE)], [value("y", "time", "batch", 3)]
    return onnx_models.model(nodes, inputs, outputs, weights).SerializeToString()


X = np.random.default_rng(5).standard_normal((20, 6, SIZE)).astype(np.float32)


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("weight_dtype", "error"), [("int8", 0.05), ("int16", 0.002)])
def test_it_is_near_and_a_row_has_the_same_bits_everywhere(isa, kind, weight_dtype, error):
    content = recurrent(kind)
    model = fastrnn.load_model(content, isa=isa, weight_dtype=weight_dtype)
    (layer,) = model.layers.values()
    assert layer.weight_dtype == weight_dtype
    assert f"weight_dtype='{weight_dtype}'" in repr(model)
    floats = fastrnn.load_model(content, isa=isa)(X)
    whole = model(X)
    rms = np.sqrt(np.mean((whole - floats) ** 2) / np.mean(floats**2))
    assert 0 < rms < error
    stream, alone = model.stream(6), model.stream()
    pool = model.pool(6)
    ids = [pool.open() for _ in range(6)]
    for t, frame in enumerate(X):
        assert np.array_equal(stream.step(frame), whole[t])
        assert np.array_equal(alone.step(frame[4]), whole[t, 4])
        assert np.array_equal(pool.step(ids, frame), whole[t])


def test_two_types_are_two_models():
    content = recurrent()
    models = [fastrnn.load_model(content, weight_dtype=w) for w in (None, "int8", "int16")]
    same = fastrnn.load_model(content, weight_dtype="float32")
    assert len({model.fingerprint for model in models}) == 3
    assert same.fingerprint == models[0].fingerprint
    pools = [model.pool(2) for model in models]
    saved = pools[0].save(pools[0].open())
    for pool in pools[1:]:
        with pytest.raises(StateError):
            pool.load(saved)


def test_what_cannot_be():
    content = recurrent()
    for options, error, message in (
        ({"weight_dtype": "int4"}, ValueError, "4 bits need a model"),
        ({"weight_dtype": "int8", "engine": "blas"}, ValueError, "only the SIMD engine"),
        ({"dtype": "float32"}, TypeError, "types are those of the file"),
        ({"weight": 8}, TypeError, "unknown argument 'weight'"),
    ):
        with pytest.raises(error, match=f"^load_model: .*{message}"):
            fastrnn.load_model(content, **options)
    node = helper.make_node("Relu", ["x"], ["y"])
    plain = onnx_models.model([node], [value("x", "batch", 2)], [value("y", "batch", 2)])
    with pytest.raises(ValueError, match="weight_dtype='int8', but no recurrent node runs in the"):
        fastrnn.load_model(plain.SerializeToString(), weight_dtype="int8")


def test_the_options_are_those_of_layers():
    parameters = inspect.signature(fastrnn.load_model).parameters
    assert [*parameters][-4:] == ["engine", "isa", "threads", "weight_dtype"]
    assert "weight_dtype : " in fastrnn.load_model.__doc__
