"""The compiled boundary refuses what would make the kernels read or write elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn._kernels import blas, simd
from fastrnn._kernels.core import Stack
from fastrnn._kernels.stepper import Stepper

GENERIC = simd.ENGINES["generic"]
EVERY_ENGINE = pytest.mark.parametrize("engine", [GENERIC, blas.ENGINE], ids=["simd", "blas"])


def zeros(*shape, dtype="float32"):
    return np.zeros(shape, dtype)


def gru(engine=GENERIC):
    return Stack(engine, "GRU", [(zeros(12, 3), zeros(12, 4), zeros(12), zeros(12), None)])


@EVERY_ENGINE
@pytest.mark.parametrize(
    ("cell", "weights", "error"),
    [
        ("GRU", (zeros(12, 2), zeros(12, 1), None, None, None), ValueError),
        ("GRU", (zeros(12, 3), zeros(12, 2), None, None, zeros(2, 4)), ValueError),
        ("LSTM", (zeros(16, 3), zeros(16, 2), None, None, zeros(3, 4)), ValueError),
        ("GRU", (zeros(12, 3), zeros(12, 4), zeros(11), None, None), ValueError),
        ("GRU", (zeros(12, 3), zeros(12, 4, dtype="float64"), None, None, None), ValueError),
        ("GRU", (zeros(12, 3), zeros(4, 12).T, None, None, None), ValueError),
        ("GRU", (zeros(12, 3, dtype="int32"), zeros(12, 4), None, None, None), TypeError),
    ],
)
def test_weights_that_do_not_fit(engine, cell, weights, error):
    with pytest.raises(error):
        Stack(engine, cell, [weights])


def test_float64_is_not_for_the_simd_engine():
    weights = (zeros(12, 3, dtype="float64"), zeros(12, 4, dtype="float64"), None, None, None)
    with pytest.raises(MemoryError, match="cannot pack float64 weights"):
        Stack(GENERIC, "GRU", [weights])


@EVERY_ENGINE
@pytest.mark.parametrize(
    "arguments",
    [
        {"x": zeros(5, 2, 4)},
        {"x": zeros(5, 2)},
        {"x": [1]},
        {"x": zeros(5, 2, 3, dtype="float64")},
        {"x": zeros(3, 2, 5).T},
        {"h": zeros(1, 2, 3)},
        {"h": np.broadcast_to(np.float32(0), (1, 2, 4))},
        {"y": zeros(5, 2, 5)},
        {"y": zeros(4, 2, 4)},
        {"rows": np.array([2, 2, 2, 2, 3])},
        {"rows": np.array([2, 1, 2, 1, 1])},
        {"rows": np.array([2, 1, 1, 0, -1])},
        {"rows": np.array([2, 1], dtype=np.intp)},
        {"rows": np.array([2, 2, 2, 2, 2], dtype=np.int32)},
        {"gates": zeros(1, 5, 2, 11)},
    ],
)
def test_arrays_that_do_not_fit(engine, arguments):
    fitting = {"x": zeros(5, 2, 3), "h": zeros(1, 2, 4), "y": zeros(5, 2, 4)}
    gru(engine).run(**fitting)
    with pytest.raises((ValueError, TypeError)):
        gru(engine).run(**{**fitting, **arguments})


def test_a_batch_beyond_what_blas_counts():
    with pytest.raises(ValueError, match="batch=2147483648, expected at most 2147483647"):
        Stepper(gru(), "GRU stream", 2**31)
