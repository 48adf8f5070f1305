"""What one core of this machine can do, measured with the kernels' own vector operations.

A step cannot be faster than reading its weights from where they are (a cache, or memory), nor than
its multiply-adds in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

import numpy as np

from fastrnn._kernels import simd
from fastrnn.layers.engines import choose_isa
from fastrnn.measure.cases import FLOAT, Case, weight_share

SMALLEST, LARGEST = 8 << 10, 256 << 20  # bytes: in the first cache, beyond the last
QUICK_LARGEST = 64 << 20
BLOCK = 128  # floats: lengths that simd.read_memory takes
SAMPLE = 1e-3  # seconds
SAMPLES = 15  # multipliers, for one, take now one port and now another
WARM_UP = 0.05  # seconds: the clock rate rises


@dataclass(frozen=True)
class Limits:
    """Of one core, by CPU time."""

    gflops: float  # 1e9 single-precision flops per second, multiply-adds counting two
    bandwidth: tuple[tuple[int, float], ...]  # (bytes of the working set, 1e9 bytes per second)
    int8_gops: float | None = None  # the same of weights of int8 and int16; None: not measured

    def bandwidth_at(self, size: float) -> float:
        """GB/s at a working set of `size` bytes, between the sizes measured."""
        sizes, speeds = np.log(np.array(self.bandwidth, float).T)
        return float(np.exp(np.interp(np.log(max(size, 1)), sizes, speeds)))

    def us_per_step(self, case: Case, weight_dtype: str | None = None) -> float:
        """Microseconds that one step of `case` takes at least, on one core.

        With weights stored as `weight_dtype`; None: float32.

        One step: the weights are read once, or the multiply-adds take longer. A sequence: the
        weights with x are read once in all of it, those with h in every step.
        """
        share = weight_share(weight_dtype)
        flops_per_us = 1e3 * (self.gflops if share == 1 else self.int8_gops or self.gflops)
        item = FLOAT * share
        if case.steps == 1:
            size = case.bytes_per_step * share
            read = size / (1e3 * self.bandwidth_at(size))
            return max(read, case.flops_per_step / flops_per_us)
        total = 0.0
        for x, h in case.products:
            read_x = item * x / (1e3 * self.bandwidth_at(item * (x + h)))
            read_h = item * h / (1e3 * self.bandwidth_at(item * h))
            flops_x, flops_h = (2 * case.batch * weights / flops_per_us for weights in (x, h))
            total += max(read_x, case.steps * flops_x) + case.steps * max(read_h, flops_h)
        return total / case.steps


def as_json(limits: Limits) -> dict[str, Any]:
    """Return `limits` as a record has them."""
    return {
        "gflops": limits.gflops,
        "int8_gops": limits.int8_gops,
        "bandwidth": [list(entry) for entry in limits.bandwidth],
    }


def measure_limits(isa: str | None = None, quick: bool = False) -> Limits:
    """Measure one core with the vectors of `isa`; None: FASTRNN_ISA, or the fastest here.

    Takes some three seconds and 256 MB of memory; quick: a third of that.

    Raises
    ------
    ValueError
        For an ISA that is unknown, or that this CPU cannot run.
    """
    isa = choose_isa(isa)
    _fastest(lambda calls: simd.multiply_adds(isa, calls), WARM_UP)
    flops = simd.multiply_adds(isa, 1)
    gflops = flops / _fastest(lambda calls: simd.multiply_adds(isa, calls)) / 1e9
    ops = simd.multiply_adds(isa, 1, "int8")
    int8_gops = ops / _fastest(lambda calls: simd.multiply_adds(isa, calls, "int8")) / 1e9
    memory = _memory(QUICK_LARGEST if quick else LARGEST)
    bandwidth = []
    step = 2 if quick else 1  # of half octaves
    for half in range(0, 2 * int(np.log2(memory.nbytes // SMALLEST)) + 1, step):
        size = int(SMALLEST * 2 ** (half / 2)) // (FLOAT * BLOCK) * BLOCK
        part = memory[:size]
        seconds = min(_fastest(_reading(isa, part, streams)) for streams in (1, 4))
        bandwidth.append((part.nbytes, part.nbytes / seconds / 1e9))
    return Limits(gflops, tuple(bandwidth), int8_gops)


def _reading(isa: str, part: np.ndarray, streams: int) -> Callable[[int], None]:
    return lambda calls: simd.read_memory(isa, part, streams, calls)


def _memory(size: int) -> np.ndarray:
    """Return written floats, aligned; NumPy asks for huge pages, as the kernels do."""
    floats = np.ones(size // FLOAT + 16, np.float32)
    start = -floats.ctypes.data // FLOAT % 16
    return floats[start : start + size // FLOAT]


def _fastest(work: Callable[[int], object], sample: float = SAMPLE) -> float:
    """CPU seconds of one of the calls that `work` makes: the least of some samples.

    A limit is what the machine can do undisturbed, hence not the median.
    """
    calls, took = 1, 0.0
    while took < sample / 2:
        start = process_time()
        work(calls)
        took = process_time() - start
        if took < sample / 2:
            calls *= 2 if took > sample / 16 else 8
    best = took / calls
    for _ in range(SAMPLES - 1):
        start = process_time()
        work(calls)
        best = min(best, (process_time() - start) / calls)
    return best
