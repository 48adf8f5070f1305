"""What the probe measures is possible, and the limit of a case follows from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fastrnn._kernels import simd
from fastrnn.layers.engines import available_isas
from fastrnn.measure.cases import Case
from fastrnn.measure.limits import Limits, measure_limits

FLAT = Limits(gflops=100.0, bandwidth=((1024, 200.0), (1 << 20, 50.0)))
WIDTH = {"generic": 4, "avx2": 8, "avx512": 16, "avx512vnni": 16}


@pytest.fixture(scope="module")
def measured():
    return {isa: measure_limits(isa, quick=True) for isa in available_isas()}


def test_probe_counts_its_flops():
    for isa in available_isas():
        assert simd.multiply_adds(isa, 1000) == 2 * 12 * WIDTH[isa] * 1000
        assert simd.multiply_adds(isa, 1000, "int8") == 2 * 8 * 4 * WIDTH[isa] * 1000
    with pytest.raises(ValueError, match="weights='int4', expected 'float32' or 'int8'"):
        simd.multiply_adds("generic", 1, "int4")


def test_the_limit_knows_the_weights():
    case = Case("LSTM", 128, 128)
    integers = replace(FLAT, int8_gops=400.0)
    read, multiply = integers.us_per_step(case, "int8"), integers.us_per_step(case)
    assert read < multiply / 3
    many = replace(case, batch=1000)
    assert integers.us_per_step(many, "int8") == pytest.approx(integers.us_per_step(many) / 4)
    assert FLAT.us_per_step(many, "int16") == FLAT.us_per_step(many)


def test_measured_limits_are_sane(measured):
    for limits in measured.values():
        assert 0.5 < limits.gflops < 1000
        sizes, speeds = zip(*limits.bandwidth, strict=True)
        assert list(sizes) == sorted(sizes)
        assert all(0.1 < speed < 10_000 for speed in speeds)
        # the first cache is faster than memory; other machines' noise is left some room
        assert limits.bandwidth_at(16 << 10) > 1.2 * limits.bandwidth_at(sizes[-1])


def test_wider_vectors_are_not_slower(measured):
    peaks = [measured[isa].gflops for isa in available_isas()]
    assert all(wide > 0.8 * narrow for narrow, wide in pairwise(peaks))


def test_bandwidth_between_sizes():
    assert FLAT.bandwidth_at(1) == pytest.approx(200)
    assert FLAT.bandwidth_at(1 << 30) == pytest.approx(50)
    assert FLAT.bandwidth_at(1 << 15) == pytest.approx(100)  # half way, in octaves


def test_a_step_of_one_row_is_reading():
    case = Case("RNN", 512, 512)
    flops, size = 2 * 2 * 512 * 512, 4 * 2 * 512 * 512
    assert case.flops_per_step == flops
    assert case.bytes_per_step == size
    assert FLAT.us_per_step(case) == pytest.approx(size / 50e3)  # more than flops / 100e3


def test_many_rows_are_multiplying():
    case = Case("RNN", 512, 512, batch=64)
    assert FLAT.us_per_step(case) == pytest.approx(case.flops_per_step / 100e3)


def test_a_sequence_reads_its_weights_with_x_once():
    one, many = Case("LSTM", 512, 512), Case("LSTM", 512, 512, steps=1000)
    half = one.bytes_per_step / 2
    assert many.bytes_per_step == pytest.approx(half * 1.001)
    x = many.flops_per_step / 2 / 100e3  # multiplied at once
    assert FLAT.us_per_step(many) == pytest.approx(x + half / 50e3)


def test_layers_and_directions_add_up():
    one = Case("GRU", 64, 64, steps=10)
    stacked = Case("GRU", 64, 64, steps=10, num_layers=3)
    both = Case("GRU", 64, 64, steps=10, bidirectional=True)
    assert FLAT.us_per_step(stacked) == pytest.approx(3 * FLAT.us_per_step(one))
    assert FLAT.us_per_step(both) == pytest.approx(2 * FLAT.us_per_step(one))
    projected = Case("LSTM", 64, 64, proj_size=16)
    assert projected.flops_per_step == 2 * (4 * 64 * (64 + 16) + 16 * 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"isa": "neon9"}, "isa='neon9', expected one of 'generic'"),
        ({"memory": np.ones(64, np.float32)}, "memory has 64 floats, expected a multiple of 128"),
        ({"memory": np.ones(0, np.float32)}, "memory has 0 floats"),
        ({"streams": 3}, "streams=3, expected 1 or 4"),
    ],
)
def test_what_the_probe_refuses(change, said):
    floats = np.ones(256, np.float32)
    start = -floats.ctypes.data // 4 % 16
    given = {"isa": "generic", "memory": floats[start : start + 128], "streams": 1} | change
    simd.read_memory("generic", floats[start : start + 128])
    with pytest.raises(ValueError, match=said):
        simd.read_memory(**given)


def test_the_probe_wants_aligned_memory():
    floats = np.ones(256, np.float32)
    start = -floats.ctypes.data // 4 % 16 + 1
    with pytest.raises(ValueError, match="aligned to 64 bytes"):
        simd.read_memory("generic", floats[start : start + 128])


def test_an_isa_that_is_not_there():
    with pytest.raises(ValueError, match="isa='neon9'"):
        measure_limits("neon9")
