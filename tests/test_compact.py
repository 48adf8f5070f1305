"""Layers whose weights are stored as int8 and int16: what they are, take, give back and refuse."""

from __future__ import annotations

import copy
import pickle
from time import process_time

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.layers.compact import LARGEST, quantised, scaled
from fastrnn.layers.engines import available_isas
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
EVERY_CELL = pytest.mark.parametrize("cell", LAYERS)
EVERY_TYPE = pytest.mark.parametrize("weight_dtype", LARGEST)
FEW = {"int8": 0.05, "int16": 2e-3}  # what h may be off by, of random weights


def weights_of(cell, *sizes, **more):
    return reference.random_weights(StackConfig(cell, *sizes, **more), np.random.default_rng(3))


def make(cell="LSTM", sizes=(19, 37), weight_dtype="int8", num_layers=2, proj_size=0, **more):
    weights = weights_of(cell, *sizes, num_layers=num_layers, proj_size=proj_size)
    return LAYERS[cell].from_state_dict(weights, weight_dtype=weight_dtype, **more)


def inputs(steps, batch, width=19):
    return np.random.default_rng(4).standard_normal((steps, batch, width)).astype(np.float32)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


# the codes


@EVERY_TYPE
@settings(max_examples=50)
@given(rows=st.integers(1, 9), columns=st.integers(1, 40), exponent=st.integers(-60, 60))
def test_codes_are_near_and_their_errors_cancel(weight_dtype, rows, columns, exponent):
    matrix = np.random.default_rng(rows).standard_normal((rows, columns)) * 2.0**exponent
    matrix = matrix.astype(np.float32)
    codes, scale = quantised(matrix, weight_dtype)
    assert codes.dtype == weight_dtype
    assert (np.abs(codes).max(axis=1) == LARGEST[weight_dtype]).all()
    off = (codes - matrix / scale.astype(np.float64)[:, None]).round(3)
    assert (np.abs(off) < 1).all()
    assert (np.abs(off.sum(axis=1)) <= 0.51).all()
    assert (np.abs(off) <= 0.501).sum() >= off.size / 2


@EVERY_TYPE
def test_rows_of_zeros_and_of_next_to_nothing(weight_dtype):
    matrix = np.float32([[0, 0], [1e-40, 0], [2.0**-110, 1e-35], [1, -3e38]])
    made = scaled(*quantised(matrix, weight_dtype))
    assert (made[:3] == 0).all()
    assert made[3, 1] == pytest.approx(-3e38, rel=1e-6)


@EVERY_TYPE
def test_a_second_time_changes_no_code(weight_dtype):
    matrix = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    codes, scale = quantised(matrix, weight_dtype)
    again, scale_again = quantised(scaled(codes, scale), weight_dtype)
    np.testing.assert_array_equal(again, codes)
    np.testing.assert_allclose(scale_again, scale, rtol=1e-6)


@pytest.mark.parametrize(
    ("codes", "scale", "match"),
    [
        (np.ones((2, 2), np.int32), np.ones(2), "codes of int32, expected int8 or int16"),
        (np.ones((2, 2), np.int8), np.ones(3), r"scales of shape \(3,\) do not fit"),
        (np.ones(2, np.int8), np.ones(2), r"do not fit codes of shape \(2,\)"),
        (np.full((2, 2), -128, np.int8), np.ones(2), "codes of int8 beyond 127"),
        (np.full((2, 2), 4096, np.int16), np.ones(2), "codes of int16 beyond 4095"),
        (np.ones((2, 2), np.int8), np.float32([1, -1]), "negative or not finite"),
        (np.ones((2, 2), np.int8), np.float32([1, np.nan]), "negative or not finite"),
        (np.ones((2, 2), np.int8), np.float32([1, 1e37]), "negative or not finite"),
        (np.ones((2, 2), np.int8), np.float64([1, 1e60]), "negative or not finite"),
    ],
)
def test_what_are_no_codes_or_scales(codes, scale, match):
    with pytest.raises(ValueError, match=match):
        scaled(codes, scale)
    weights = {"weight_ih_l0": codes, "weight_ih_l0_scale": scale}
    weights["weight_hh_l0"] = np.ones((2, 2), np.float32)
    with pytest.raises((ValueError, TypeError)):
        fastrnn.RNN.from_state_dict(weights)


# layers of them


@EVERY_ISA
@EVERY_CELL
@EVERY_TYPE
def test_is_near_the_floats(isa, cell, weight_dtype):
    x = inputs(40, 3)
    y, state = make(cell, weight_dtype=weight_dtype, isa=isa)(x)
    truth, end = make(cell, weight_dtype=None, engine="blas")(x)
    np.testing.assert_allclose(y, truth, rtol=0, atol=FEW[weight_dtype])
    for ours, theirs in zip(parts(state), parts(end), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3 * FEW[weight_dtype])


@EVERY_CELL
@EVERY_TYPE
def test_streams_pools_cells_and_threads_give_the_same(cell, weight_dtype):
    layer = make(cell, weight_dtype=weight_dtype, num_layers=1)
    x = inputs(9, 4)
    y, _ = layer(x)
    stream, pool = layer.stream(4), layer.pool(4)
    ids = [pool.open() for _ in range(4)]
    one = getattr(fastrnn, f"{cell}Cell").from_state_dict(layer.stored_state_dict())
    shared = make(cell, weight_dtype=weight_dtype, num_layers=1, threads=2)
    state = None
    for frame, expected in zip(x, y, strict=True):
        np.testing.assert_array_equal(stream.step(frame), expected)
        np.testing.assert_array_equal(pool.step(ids, frame), expected)
        state = one(frame, state)
        np.testing.assert_array_equal(parts(state)[0], expected)
    np.testing.assert_array_equal(shared(x)[0], y)
    assert one.weight_dtype == weight_dtype


@EVERY_ISA
@EVERY_TYPE
def test_a_state_beyond_one(isa, weight_dtype):
    """h that is given can be large: its scale is then its own, and of no other row."""
    layer, floats = (make("GRU", weight_dtype=which, isa=isa) for which in (weight_dtype, None))
    x = inputs(6, 3)
    h = np.random.default_rng(1).uniform(-1, 1, (2, 3, 37)).astype(np.float32)
    y, _ = layer(x, h)
    h[:, 1] *= 4
    beside, _ = layer(x, h)
    np.testing.assert_array_equal(beside[:, [0, 2]], y[:, [0, 2]])
    np.testing.assert_allclose(beside, floats(x, h)[0], rtol=0, atol=8 * FEW[weight_dtype])


@EVERY_ISA
@EVERY_CELL
@EVERY_TYPE
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_inputs_end_where_floats_end(isa, cell, weight_dtype, value):
    x = inputs(6, 3)
    x[2, 1, 4] = value
    layer = make(cell, weight_dtype=weight_dtype, isa=isa)
    y, _ = layer(x)
    floats = LAYERS[cell].from_state_dict(layer.state_dict(), isa=isa)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(floats(x)[0]))


def test_memory_is_a_quarter():
    sizes = (128, 256)
    floats, compact, half = (make(sizes=sizes, weight_dtype=w) for w in (None, "int8", "int16"))
    held = {
        layer.weight_dtype: layer._packed.packed_bytes
        + sum(array.nbytes for array in layer._weights.values())
        for layer in (floats, compact, half)
    }
    assert compact._weights == {}
    assert held["int8"] <= 0.30 * floats._packed.packed_bytes
    assert held["int8"] <= 0.15 * held["float32"]
    assert held["int16"] <= 0.30 * held["float32"]


@EVERY_TYPE
def test_loading_takes_at_most_twice_as_long(weight_dtype):
    weights = weights_of("LSTM", 256, 512)

    def seconds(**how):
        start = process_time()
        fastrnn.LSTM.from_state_dict(weights, **how)
        return process_time() - start

    took = [(seconds(weight_dtype=weight_dtype), seconds()) for _ in range(7)]
    assert min(ours for ours, _ in took) <= 2 * min(theirs for _, theirs in took)


# in and out


@EVERY_CELL
@EVERY_TYPE
@pytest.mark.parametrize("bias", [True, False])
def test_what_it_computes_with_comes_out(cell, weight_dtype, bias):
    weights = weights_of(cell, 19, 37, num_layers=2, bidirectional=True, bias=bias)
    layer = LAYERS[cell].from_state_dict(weights, weight_dtype=weight_dtype)
    out = layer.state_dict()
    assert list(out) == list(weights)
    for name, array in out.items():
        assert array.dtype == np.float32
        assert not array.flags.writeable
        if name.startswith("bias"):
            np.testing.assert_array_equal(array, weights[name])
        else:
            np.testing.assert_array_equal(array, scaled(*quantised(weights[name], weight_dtype)))


@EVERY_CELL
@EVERY_TYPE
def test_codes_and_scales_are_loaded_as_they_are(cell, weight_dtype):
    layer = make(cell, weight_dtype=weight_dtype)
    stored = layer.stored_state_dict()
    assert stored["weight_ih_l0"].dtype == weight_dtype
    assert stored["weight_hh_l1_scale"].shape == stored["weight_hh_l1"].shape[:1]
    again = LAYERS[cell].from_state_dict({f"net.{k}": v for k, v in stored.items()}, "net")
    assert again.weight_dtype == weight_dtype
    assert again.fingerprint == layer.fingerprint
    np.testing.assert_array_equal(again(inputs(5, 2))[0], layer(inputs(5, 2))[0])
    other = LAYERS[cell](19, 37, 2, weight_dtype=weight_dtype)
    other.load_state_dict(stored)
    assert other.fingerprint == layer.fingerprint


def test_codes_are_made_floats_for_who_computes_in_them():
    layer = make()
    stored, x = layer.stored_state_dict(), inputs(5, 2)
    expected = fastrnn.LSTM.from_state_dict(layer.state_dict(), isa=layer.isa)(x)[0]
    as_floats = fastrnn.LSTM.from_state_dict(stored, isa=layer.isa, weight_dtype="float32")
    np.testing.assert_array_equal(as_floats(x)[0], expected)
    assert as_floats.weight_dtype == "float32"
    for how in ({"engine": "blas"}, {"dtype": "float64"}):
        floats = fastrnn.LSTM.from_state_dict(stored, **how)
        np.testing.assert_allclose(floats(x)[0], expected, rtol=0, atol=1e-6)
    assert fastrnn.LSTM.from_state_dict(stored, weight_dtype="int16").weight_dtype == "int16"


def test_a_matrix_of_codes_without_its_scales_and_the_reverse():
    stored = make().stored_state_dict()
    scale = stored.pop("weight_hh_l0_scale")
    with pytest.raises(TypeError, match="weight_hh_l0 has dtype int8, expected floating point"):
        fastrnn.LSTM.from_state_dict(stored)
    stored["weight_hh_l0_scale"] = scale
    del stored["weight_hh_l0"]
    with pytest.raises(ValueError, match="weight_hh_l0_scale"):
        fastrnn.LSTM.from_state_dict(stored)


def test_a_float64_state_dict_is_rounded_first():
    weights = weights_of("GRU", 5, 6)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    layer = fastrnn.GRU.from_state_dict(wide, weight_dtype="int8")
    assert layer.dtype == np.float32
    assert layer.fingerprint == make("GRU", (5, 6), num_layers=1).fingerprint


@EVERY_TYPE
def test_copies_are_the_same_layer(weight_dtype):
    layer, x = make("GRU", weight_dtype=weight_dtype), inputs(5, 2)
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), copy.copy(layer)):
        np.testing.assert_array_equal(other(x)[0], layer(x)[0])
        assert (other.fingerprint, other.weight_dtype) == (layer.fingerprint, weight_dtype)


def test_two_formats_are_two_models():
    layers = [make("GRU", weight_dtype=which) for which in (None, "int8", "int16")]
    assert len({layer.fingerprint for layer in layers}) == 3
    pool = layers[1].pool(1)
    state = pool.save(pool.open())
    assert layers[1].pool(1).load(state) >= 0
    for other in (layers[0], layers[2]):
        with pytest.raises(fastrnn.StateError, match="a saved state of another model"):
            other.pool(1).load(state)


def test_instruction_sets_are_the_same_model():
    assert len({make(isa=isa).fingerprint for isa in available_isas()}) == 1


def test_new_weights_in_the_layer_are_not_the_streams():
    layer, x = make("GRU"), inputs(5, 2)
    expected, stream, pool = layer(x)[0], layer.stream(2), layer.pool(2)
    before = pool.save(pool.open())
    layer.load_state_dict({k: v / 2 for k, v in layer.state_dict().items()})
    np.testing.assert_array_equal(stream.run(x), expected)
    assert pool.load(before) != 0
    assert not np.array_equal(layer(x)[0], expected)


def test_the_trace_is_of_the_weights_as_floats():
    layer, x = make("GRU"), inputs(5, 2)
    floats = fastrnn.GRU.from_state_dict(layer.state_dict())
    for name, values in layer.trace(x).items():
        np.testing.assert_array_equal(values, floats.trace(x)[name])


# what is said and refused


def test_it_is_told():
    assert make().weight_dtype == "int8"
    assert "weight_dtype='int8'" in repr(make())
    assert make(weight_dtype=None).weight_dtype == "float32"
    assert "weight_dtype" not in repr(make(weight_dtype="float32"))
    assert make(weight_dtype=None, dtype="float64").weight_dtype == "float64"
    assert make(weight_dtype=np.int16).weight_dtype == "int16"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtype": "float64"}, "weight_dtype='int8', but a layer of float64 has its weights in it"),
        ({"engine": "blas"}, "weight_dtype='int8', but only the SIMD engine multiplies integers"),
        ({"weight_dtype": "int4"}, "weight_dtype='int4', .*: weights of 4 bits need a model that"),
        ({"weight_dtype": "uint8"}, "weight_dtype='uint8', expected 'float32', 'int16', 'int8'"),
        ({"weight_dtype": "float16"}, "weight_dtype='float16', expected"),
        ({"weight_dtype": 8}, "weight_dtype=8, expected"),
        ({"weight_dtype": "float32", "dtype": "float64"}, "weight_dtype='float32', but a layer of"),
    ],
)
def test_what_there_is_not(options, match):
    with pytest.raises(ValueError, match=match):
        fastrnn.GRU(3, 4, **{"weight_dtype": "int8", **options})
