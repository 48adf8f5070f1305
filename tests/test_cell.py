"""Cells against torch's, and state in the caller's own buffers."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from conftest import ENGINES, SIZES, TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.layers.weights import StackConfig

CELLS = {"LSTM": fastrnn.LSTMCell, "GRU": fastrnn.GRUCell, "RNN": fastrnn.RNNCell}


def make(cell="LSTM", sizes=(6, 9), bias=True, dtype="float32", seed=0, **options):
    config = StackConfig(cell, *sizes, bias=bias)
    weights = reference.random_weights(config, np.random.default_rng(seed), dtype)
    weights = {name.removesuffix("_l0"): value for name, value in weights.items()}
    return CELLS[cell].from_state_dict(weights, **options), weights


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@settings(max_examples=100)
@given(
    cell=st.sampled_from(list(CELLS)),
    sizes=st.tuples(SIZES, SIZES),
    bias=st.booleans(),
    batch=st.none() | st.integers(0, 9),
    given_state=st.booleans(),
    relu=st.booleans(),
)
def test_cells_say_what_torch_says(torch, how, dtype, cell, sizes, bias, batch, given_state, relu):
    options = {"nonlinearity": "relu"} if cell == "RNN" and relu else {}
    ours, weights = make(cell, sizes, bias, dtype, **how, **options)
    theirs = getattr(torch.nn, f"{cell}Cell")(*sizes, bias=bias, **options)
    theirs = theirs.to(getattr(torch, dtype))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    rng = np.random.default_rng(1)
    lead = () if batch is None else (batch,)
    x, h, c = (
        rng.standard_normal((*lead, n)).astype(dtype) for n in (sizes[0], sizes[1], sizes[1])
    )
    hx = None if not given_state else (h, c) if cell == "LSTM" else h
    with torch.no_grad():
        tensor = torch.from_numpy
        t_hx = hx if hx is None else tuple(map(tensor, hx)) if cell == "LSTM" else tensor(hx)
        expected = theirs(tensor(x), t_hx)
    result = ours(x, hx)
    for a, b in zip(
        result if cell == "LSTM" else (result,),
        expected if cell == "LSTM" else (expected,),
        strict=True,
    ):
        assert a.dtype == np.dtype(dtype)
        np.testing.assert_allclose(a, b.numpy(), **TOLERANCE[dtype])


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("batch", [None, 4])
def test_state_is_advanced_in_place(rng, cell, batch):
    ours, _ = make(cell)
    lead = () if batch is None else (batch,)
    x = rng.standard_normal((5, *lead, 6)).astype(np.float32)
    parts = 2 if cell == "LSTM" else 1
    own = tuple(np.zeros((*lead, 9), np.float32) for _ in range(parts))
    fresh = None
    for frame in x:
        fresh = ours(frame, fresh)
        state = own if cell == "LSTM" else own[0]
        result = ours(frame, state, out=state)
        if cell == "LSTM":
            assert result[0] is own[0]
            assert result[1] is own[1]
        else:
            assert result is own[0]
    for a, b in zip(own, fresh if cell == "LSTM" else (fresh,), strict=True):
        np.testing.assert_array_equal(a, b)


def test_out_may_overlap_any_input(rng):
    cell, _ = make("LSTM", (9, 9))
    x, h, c = (rng.standard_normal((3, 9)).astype(np.float32) for _ in range(3))
    expected = cell(x, (h, c))
    swapped = h.copy(), c.copy()
    cell(x, swapped, out=swapped[::-1])  # h goes where c was
    np.testing.assert_array_equal(swapped[1], expected[0])
    np.testing.assert_array_equal(swapped[0], expected[1])
    onto_x = x.copy()
    result = cell(onto_x, (h, c), out=(onto_x, np.empty_like(c)))
    np.testing.assert_array_equal(onto_x, expected[0])
    np.testing.assert_array_equal(result[1], expected[1])
    same = np.empty_like(h)
    with pytest.raises(ValueError, match="LSTMCell: the arrays of out overlap"):
        cell(x, (h, c), out=(same, same))


def test_reset_before_is_the_reference(rng):
    cell, weights = make("GRU", dtype="float64", reset_after=False)
    x, h = rng.standard_normal((3, 6)), rng.standard_normal((3, 9))
    expected, _ = reference.step("GRU", weights, "", x, h, None, False, "tanh")
    np.testing.assert_allclose(cell(x, h), expected, rtol=1e-13)


X, H = np.zeros((2, 6), np.float32), np.zeros((2, 9), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda c: c(X[:, 1:]),
            ValueError,
            r"LSTMCell: x is \(2, 5\), expected \(B, 6\) or \(6,\)",
        ),
        (lambda c: c(X[None]), ValueError, "LSTMCell: x is"),
        (lambda c: c(X, H), ValueError, r"hx is ndarray, expected a pair \(h, c\)"),
        (lambda c: c(X, (H, H[:1])), ValueError, r"c is \(1, 9\), expected \(2, 9\)"),
        (lambda c: c(X, (H, H), out=H), ValueError, "out is ndarray, expected a pair"),
        (lambda c: c(X, (H, H), out=(H, H.astype(float))), ValueError, "out c is float64"),
        (lambda c: c(X, (H, H), out=(H, [1])), TypeError, "out c is list"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(make()[0])


def test_a_stack_is_no_cell(rng):
    weights = reference.random_weights(StackConfig("GRU", 3, 4, num_layers=2), rng)
    with pytest.raises(
        ValueError, match=r"GRUCell: the weights under '' are those of GRU\(3, 4, num"
    ):
        fastrnn.GRUCell.from_state_dict(weights)


@pytest.mark.parametrize("cell", list(CELLS))
def test_state_dict_has_the_cells_names(cell):
    ours, weights = make(cell)
    assert list(ours.state_dict()) == list(weights)
    twin = CELLS[cell](6, 9)
    twin.load_state_dict(ours.state_dict())
    x = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(np.asarray(twin(x)), np.asarray(ours(x)))
