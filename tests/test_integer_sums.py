"""Products with weights of int8 and int16: every instruction set gives the same sums, exactly.

Against int64, with scales of 1, so that a sum is what comes out: as a float, chain by chain.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn._kernels.product import Product
from fastrnn.layers.compact import LARGEST
from fastrnn.layers.engines import available_isas

EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
EVERY_TYPE = pytest.mark.parametrize("dtype", LARGEST)
MOST_CODE = 4095  # of a row: encode.h
CHAIN = {"int8": 4096, "int16": 128}  # the numbers that are summed before the float
DEPTHS = [1, 2, 3, 4, 5, 15, 16, 17, 63, 127, 128, 129, 300, 4095, 4096, 4097, 10_000]


def product(isa, codes, scale=None):
    return Product(isa, codes, scale=np.ones(len(codes), np.float32) if scale is None else scale)


def exact(codes, x):
    """What comes out for whole numbers x of which the largest of every row is MOST_CODE."""
    y = np.zeros((len(x), len(codes)), np.float32)
    chain = CHAIN[codes.dtype.name]
    for first in range(0, codes.shape[1], chain):
        part = slice(first, first + chain)
        sums = x[:, part].astype(np.int64) @ codes[:, part].T.astype(np.int64)
        assert np.abs(sums).max() < 2**31
        y += sums.astype(np.float32)
    return y


def numbers(rows, depth, seed=0):
    x = np.random.default_rng(seed).integers(-MOST_CODE, MOST_CODE, (rows, depth), endpoint=True)
    x[np.arange(rows), np.random.default_rng(seed).integers(depth, size=rows)] = MOST_CODE
    return x.astype(np.float32)


@EVERY_ISA
@EVERY_TYPE
@settings(max_examples=40)
@given(
    depth=st.sampled_from(DEPTHS),
    rows=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 13, 97]),
    outputs=st.sampled_from([1, 7, 16, 37, 130]),
)
def test_random_ones(isa, dtype, depth, rows, outputs):
    largest = LARGEST[dtype]
    codes = np.random.default_rng(1).integers(-largest, largest, (outputs, depth), endpoint=True)
    codes, x = codes.astype(dtype), numbers(rows, depth)
    np.testing.assert_array_equal(product(isa, codes).run(x), exact(codes, x))


@EVERY_ISA
@EVERY_TYPE
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_largest_there_are(isa, dtype, depth):
    """All weights and numbers as large as can be, of either sign and alternating."""
    largest = LARGEST[dtype]
    signs = np.array([np.ones(depth), -np.ones(depth), (-1) ** np.arange(depth)])
    codes, x = (signs * largest).astype(dtype), (signs * MOST_CODE).astype(np.float32)
    np.testing.assert_array_equal(product(isa, codes).run(x), exact(codes, x))


@EVERY_ISA
@EVERY_TYPE
def test_a_huge_row_and_rows_of_zeros_and_of_one_number(isa, dtype):
    """A row's scale is its own: in none of them do the others show."""
    codes = np.full((3, 50), LARGEST[dtype], dtype)
    codes[1] = 0
    x = numbers(5, 50)
    x[1] = 0
    x[2] = MOST_CODE
    alone = exact(codes, x)
    x[0] *= 2.0**100
    y = product(isa, codes).run(x)
    np.testing.assert_array_equal(y[1:], alone[1:])
    np.testing.assert_array_equal(y[0], alone[0] * np.float32(2.0**100))
    assert (y[:, 1] == 0).all()


@EVERY_ISA
@EVERY_TYPE
@pytest.mark.parametrize("factor", [2.0**-90, 2.0**-10, 1.0, 2.0**90])
def test_any_magnitude_of_a_row(isa, dtype, factor):
    codes, x = np.full((4, 21), 1, dtype), numbers(3, 21)
    y = product(isa, codes).run(x * np.float32(factor))
    np.testing.assert_array_equal(y, exact(codes, x) * np.float32(factor))


@EVERY_ISA
@EVERY_TYPE
@pytest.mark.parametrize("value", [1e-40, 2.0**-120])
def test_what_is_too_small_counts_as_zero(isa, dtype, value):
    codes = np.full((4, 21), LARGEST[dtype], dtype)
    y = product(isa, codes).run(np.full((2, 21), value, np.float32))
    np.testing.assert_array_equal(y, np.zeros((2, 4)))


@EVERY_ISA
@EVERY_TYPE
@pytest.mark.parametrize("depth", [1, 5, 16, 33, 5000])
def test_not_finite_numbers_give_what_floats_give(isa, dtype, depth):
    """NaN for a NaN and for infinities that meet; beside one infinity everything else is small."""
    largest = LARGEST[dtype]
    codes = np.random.default_rng(1).integers(-largest, largest, (17, depth), endpoint=True)
    codes = codes.astype(dtype)
    x = numbers(6, depth)
    x[0, -1], x[1, 0], x[2, depth // 2] = np.nan, np.inf, -np.inf
    x[3, 0] = np.inf
    x[3, -1] = np.nan
    with np.errstate(invalid="ignore"):
        expected = x[:4] @ codes.astype(np.float32).T
    y = product(isa, codes).run(x)
    np.testing.assert_array_equal(y[:4], expected)
    np.testing.assert_array_equal(y[4:], exact(codes, x[4:]))


@EVERY_ISA
@EVERY_TYPE
def test_scales_and_bias_are_each_outputs_own(isa, dtype):
    codes = np.full((3, 8), 2, dtype)
    scale, bias = np.float32([0, 0.5, 4]), np.float32([1, 2, 3])
    x = np.full((1, 8), MOST_CODE, np.float32)
    y = Product(isa, codes, bias, scale=scale).run(x)
    np.testing.assert_array_equal(y[0], bias + scale * np.float32(2 * 8 * MOST_CODE))


@EVERY_TYPE
def test_a_layer_of_a_chain_or_more(dtype):
    """Inputs beyond the length of a chain, through a layer, on every instruction set."""
    from fastrnn import LSTM

    random = np.random.default_rng(2)
    weights = {
        "weight_ih_l0": random.standard_normal((32, 5000)).astype(np.float32) / 70,
        "weight_hh_l0": random.standard_normal((32, 8)).astype(np.float32) / 3,
    }
    x = random.standard_normal((4, 3, 5000)).astype(np.float32)
    truth, _ = LSTM.from_state_dict(weights, engine="blas")(x)
    for isa in available_isas():
        y, _ = LSTM.from_state_dict(weights, isa=isa, weight_dtype=dtype)(x)
        np.testing.assert_allclose(y, truth, rtol=0, atol=0.03 if dtype == "int8" else 2e-3)


def test_weights_without_scales_and_scales_without_weights():
    with pytest.raises(ValueError, match="have a scale, others have none"):
        Product("generic", np.ones((2, 2), np.int8))
    with pytest.raises(ValueError, match="have a scale, others have none"):
        Product("generic", np.ones((2, 2), np.float32), scale=np.ones(2))
    with pytest.raises(ValueError, match=r"scale is \(3,\), expected \(2,\)"):
        Product("generic", np.ones((2, 2), np.int8), scale=np.ones(3))
