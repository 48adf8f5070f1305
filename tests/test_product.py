"""Linear layers on the SIMD engine's tiles: right, and with the same bits for a row in any company."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SIZES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, ndtr

from fastrnn._kernels.product import Product, activation_over, rows_over
from fastrnn.layers.engines import available_isas

EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
ROWS = [1, 2, 3, 4, 5, 6, 7, 12, 13, 95, 96, 97, 200]


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def make(isa, outputs=37, inputs=19, **more):
    return Product(isa, random(outputs, inputs, seed=1), random(outputs, seed=2), **more)


@EVERY_ISA
@settings(max_examples=60)
@given(st.sampled_from(ROWS), SIZES, st.one_of(SIZES, st.sampled_from([129, 300])), st.booleans())
def test_is_what_it_says(isa, rows, outputs, inputs, has_bias):
    weight, bias = random(outputs, inputs), random(outputs, seed=1) if has_bias else None
    x = random(rows, inputs, seed=2)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + (bias if has_bias else 0)
    y = Product(isa, weight, bias).run(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6 * inputs**0.5)


@EVERY_ISA
@pytest.mark.parametrize("rows", ROWS)
def test_a_row_has_the_same_bits_in_any_company(isa, rows):
    product, x = make(isa, inputs=150), random(rows, 150)
    y = product.run(x)
    for row in {0, rows // 2, rows - 1}:
        np.testing.assert_array_equal(product.run(x[row : row + 1])[0], y[row])
        poisoned = np.full_like(x, np.nan)
        poisoned[row] = x[row]
        np.testing.assert_array_equal(product.run(poisoned)[row], y[row])


@EVERY_ISA
def test_any_alignment_and_out(isa):
    product, x = make(isa), random(7, 19)
    y = product.run(x)
    for offset in range(0, 64, 4):
        moved = np.empty(x.nbytes + 64, np.uint8)[offset:][: x.nbytes].view(np.float32)
        moved = moved.reshape(x.shape)
        moved[...] = x
        out = np.empty(y.nbytes + 64, np.uint8)[64 - offset :][: y.nbytes].view(np.float32)
        out = out.reshape(y.shape)
        assert product.run(moved, out) is out
        np.testing.assert_array_equal(out, y)


@EVERY_ISA
@pytest.mark.parametrize("distance", [0, 1, 3, 19, 25])
def test_rows_at_any_distance(isa, distance):
    """As the windows of a convolution overlap."""
    signal = random(12 * distance + 19)
    windows = np.lib.stride_tricks.as_strided(signal, (13, 19), (4 * distance, 4))
    product = make(isa)
    np.testing.assert_array_equal(product.run(windows), product.run(windows.copy()))


@EVERY_ISA
def test_threads_do_not_change_bits(isa):
    x = random(96, 300)
    one, two = (make(isa, 500, 300, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.run(x), two.run(x))


@EVERY_ISA
def test_reads_and_writes_nothing_beyond(isa):
    """Guards around x poison what is computed from them; those around out stay."""
    x = np.full((9, 21), np.nan, np.float32)
    x[1:8, 1:20] = random(7, 19)
    out = np.full((9, 37), 7, np.float32)
    product = make(isa)
    product.run(x[1:8, 1:20], out[1:8])
    np.testing.assert_array_equal(out[1:8], product.run(x[1:8, 1:20].copy()))
    assert (out[[0, 8]] == 7).all()


def test_weights_are_copied():
    weight, x = random(5, 3), random(2, 3)
    product = Product("generic", weight)
    y = product.run(x)
    weight[...] = 0
    np.testing.assert_array_equal(product.run(x), y)
    assert (product.inputs, product.outputs) == (3, 5)
    assert product.packed_bytes >= 4 * 5 * 3


def test_no_rows():
    assert make("generic").run(np.empty((0, 19), np.float32)).shape == (0, 37)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("none", random(2, 2)), ValueError, "isa='none', expected one of 'generic'"),
        (("generic", random(2)), ValueError, r"weight is \(2,\), expected \(N, K\)"),
        (("generic", random(0, 2)), ValueError, r"weight is \(0, 2\)"),
        (("generic", random(2, 2), random(3)), ValueError, r"bias is \(3,\), expected \(2,\)"),
        (("generic", "weight"), TypeError, "weight has dtype"),
    ],
)
def test_weights_that_do_not_fit(arguments, error, match):
    with pytest.raises(error, match=match):
        Product(*arguments)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        ([[1.0]], "x is list"),
        (random(19), r"x is float32 \(19,\), expected float32 \(M, 19\)"),
        (random(2, 18), "x is float32"),
        (random(2, 19).astype(np.float64), "x is float64"),
        (random(19, 2).T, "expected rows of adjacent floats"),
        (random(2, 19)[::-1], "expected rows of adjacent floats"),
        (np.zeros(2 * 77, np.uint8)[1:-1].view(np.float32).reshape(2, 19), "adjacent floats"),
    ],
)
def test_x_that_does_not_fit(x, match):
    with pytest.raises(ValueError, match=match):
        make("generic").run(x)


@pytest.mark.parametrize(
    "out", [random(2, 36), random(37, 2).T, np.zeros((2, 37)), [0], random(1, 37)]
)
def test_out_that_does_not_fit(out):
    with pytest.raises(ValueError, match=r"out is .*, expected a writeable C-contiguous float32"):
        make("generic").run(random(2, 19), out)


def test_out_that_overlaps_x():
    memory = random(2, 37)
    with pytest.raises(ValueError, match="out overlaps x"):
        make("generic").run(memory[:, :19], memory)


@EVERY_ISA
def test_over_arrays_that_stay(isa):
    product, x, out = make(isa), random(5, 19), np.empty((5, 37), np.float32)
    compute = product.over(x, out)
    for seed in range(3):
        x[...] = random(5, 19, seed=seed)
        assert compute() is None
        np.testing.assert_array_equal(out, product.run(x))
    del product, x  # which it keeps
    out.fill(0)
    compute()
    assert out.any()


@pytest.mark.parametrize(
    ("x", "out"),
    [
        (random(5, 18), np.empty((5, 37), np.float32)),
        (random(5, 19)[::-1], np.empty((5, 37), np.float32)),
        (random(5, 19)[:, ::-1], np.empty((5, 37), np.float32)),
        (random(5, 20)[:, :, None], np.empty((5, 37), np.float32)),
        (random(5, 19).astype(np.float64), np.empty((5, 37), np.float32)),
        ([[0.0] * 19], np.empty((1, 37), np.float32)),
        (random(5, 19), np.empty((4, 37), np.float32)),
        (random(5, 19), np.empty((5, 37))),
        (random(5, 19), None),
    ],
)
def test_arrays_that_do_not_fit_are_not_run_over(x, out):
    with pytest.raises(ValueError, match=r"^Product: "):
        make("generic").over(x, out)


@EVERY_ISA
@settings(max_examples=60)
@given(data=st.data())
def test_windows_are_brought_together(isa, data):
    """Any number of axes of any strides, rows before and what they consist of behind."""
    draw = data.draw
    outer = draw(st.lists(st.integers(1, 13), min_size=1, max_size=3))
    inner = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    strides = [4 * draw(st.integers(0, 7)) for _ in (*outer, *inner)]
    if draw(st.booleans()):
        strides[-1] = 4
    x = np.lib.stride_tricks.as_strided(random(1000), (*outer, *inner), strides, writeable=False)
    rows = np.ascontiguousarray(x.reshape(int(np.prod(outer)), -1))
    product = make(isa, outputs=draw(SIZES), inputs=rows.shape[1])
    out = np.empty((len(rows), product.outputs), np.float32)
    compute = product.over(x, out, len(inner))
    compute()
    expected = product.run(rows)
    np.testing.assert_array_equal(out, expected)
    compute.relu = True
    compute()
    np.testing.assert_array_equal(out, np.maximum(expected, 0))
    assert not np.signbit(out).any()


def test_relu_keeps_what_is_no_number():
    product, out = Product("generic", np.eye(3, dtype=np.float32)), np.empty((1, 3), np.float32)
    compute = product.over(np.array([[np.nan, 1, -1]], np.float32), out)
    compute.relu = True
    compute()
    assert np.isnan(out).all()  # 0 * NaN, too


@EVERY_ISA
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "gelu"])
def test_activations(isa, name):
    """Right for each element, with the same bits wherever it stands; in place, too."""
    x = np.concatenate(
        [random(2000, seed=3) * 8, [0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 90, -90]]
    )
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        right = {
            "sigmoid": 1 / (1 + np.exp(-wide)),
            "tanh": np.tanh(wide),
            "erf": erf(wide),
            "gelu": wide * ndtr(wide),
        }[name]
    whole = np.empty_like(x)
    activation_over(isa, name, x, whole)()
    # Half of erf's 1 is lost where gelu is near 0, in torch's formula, too.
    rtol, atol = (4e-7, 1e-38) if name != "gelu" else (4e-7, 6e-7)
    finite = np.isfinite(wide) if name == "gelu" else np.ones(len(x), bool)  # -inf * 0
    np.testing.assert_allclose(whole[finite], right[finite], rtol=rtol, atol=atol)
    for start in (0, 1, 3, 7, 15, 16, 1990):
        for length in (0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 18):
            part = x[start : start + length].copy()
            activation_over(isa, name, part, part)()
            assert part.tobytes() == whole[start : start + length].tobytes()
    turned, out = x[:2000].reshape(50, 40).T, np.empty((50, 40), np.float32).T
    activation_over(isa, name, turned, out)()
    assert np.array_equal(out, whole[:2000].reshape(50, 40).T)


@pytest.mark.parametrize(
    ("name", "x", "out"),
    [
        ("relu", random(3), random(3)),
        ("tanh", random(3), random(4)),
        ("tanh", random(6)[::2], random(6)[::2]),
        ("tanh", random(3, 4), random(4, 3).T),
        ("tanh", random(3), np.zeros(3)),
        ("tanh", random(3), np.broadcast_to(random(1), 3)),
        ("tanh", [0.0], random(1)),
    ],
)
def test_activations_of_what_does_not_fit(name, x, out):
    with pytest.raises(ValueError, match=r"expected|written"):
        activation_over("generic", name, x, out)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 9, 15, 16, 24, 511, 512, 513, 5000])
def test_rows(length):
    x = random(9, length, seed=length) + 3
    out = np.empty(9, np.float32)
    rows_over("sum", x, out)()
    np.testing.assert_allclose(out, x.astype(np.float64).sum(1), rtol=3e-7 * max(1, length / 64))
    for row in range(9):  # wherever it stands
        alone, one = x[row : row + 1].copy(), np.empty(1, np.float32)
        rows_over("sum", alone, one)()
        assert one[0] == out[row]
    for name, right in (("max", x.max(1)), ("min", x.min(1))):
        rows_over(name, x, out)()
        np.testing.assert_array_equal(out, right)
    x[3, length // 2] = np.nan
    x[4, -1] = -np.inf
    for name, ufunc in (("max", np.maximum), ("min", np.minimum), ("sum", np.add)):
        rows_over(name, x, out)()
        right = ufunc.reduce(x, 1)
        np.testing.assert_array_equal(np.isnan(out), np.isnan(right))
        np.testing.assert_allclose(out, right, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "x", "out"),
    [
        ("mean", random(2, 3), random(2)),
        ("sum", random(3), random(3)),
        ("sum", random(2, 3).T, random(3)),
        ("sum", random(2, 0), random(2)),
        ("max", random(2, 3).astype(np.float64), random(2)),
        ("max", random(2, 3), random(3)),
        ("max", [[1.0]], random(1)),
    ],
)
def test_rows_that_do_not_fit(name, x, out):
    with pytest.raises(ValueError, match="expected"):
        rows_over(name, x, out)
