"""The tail of latency: how long each single step of one stream takes, as its caller sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

from fastrnn.recurrent import RecurrentLayer

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99, "max": 100.0}
INPUTS = 16
WARM_UP = 100  # steps
BINS = 60
REPORTS = 100  # of progress


def measure_latency(
    layer: RecurrentLayer,
    rate_hz: float | None,
    steps: int,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Any]:
    """Time every step of one stream, wall time, by one clock reading before and one after.

    Parameters
    ----------
    layer : LSTM, GRU or RNN, not bidirectional
    rate_hz : float or None
        Frames per second: the caller sleeps until the next one is due, so that caches and clock
        rate are as in a service that waits. None: one step after the other.
    steps : int
    progress : callable, optional
        Gets the part that is done, 0 to 1, now and then.

    Returns
    -------
    dict
        "cell", "input_size", "hidden_size", "num_layers", "rate_hz", "steps", "us" (p50, p99,
        p99.9, p99.99, max) and "histogram" (edges_us: one more than counts).
    """
    rng = np.random.default_rng(0)
    stream = layer.stream()
    frames = [rng.standard_normal(layer.input_size).astype(layer.dtype) for _ in range(INPUTS)]
    out = np.empty(layer.proj_size or layer.hidden_size, layer.dtype)
    for i in range(WARM_UP):
        stream.step(frames[i % INPUTS], out)
    taken = np.empty(steps, np.int64)
    every = max(1, steps // REPORTS)
    start = perf_counter_ns()
    for i in range(steps):
        x = frames[i % INPUTS]
        if rate_hz:
            wait = start + int(1e9 * i / rate_hz) - perf_counter_ns()
            if wait > 0:
                time.sleep(1e-9 * wait)
        before = perf_counter_ns()
        stream.step(x, out)
        taken[i] = perf_counter_ns() - before
        if progress and (i + 1) % every == 0:
            progress((i + 1) / steps)
    us = taken / 1e3
    low, high = max(us.min(), 1e-2), max(us.max(), us.min() * 1.01, 2e-2)
    counts, edges = np.histogram(us, np.geomspace(low, high * (1 + 1e-9), BINS + 1))
    return {
        "cell": type(layer).__name__,
        "input_size": layer.input_size,
        "hidden_size": layer.hidden_size,
        "num_layers": layer.num_layers,
        "rate_hz": rate_hz,
        "steps": steps,
        "us": {name: float(np.percentile(us, q)) for name, q in PERCENTILES.items()},
        "histogram": {"edges_us": edges.tolist(), "counts": counts.tolist()},
    }
