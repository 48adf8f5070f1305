"""The tail of latency: how long each single step of one stream takes, as its caller sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.layers.recurrent import RecurrentLayer

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99, "max": 100.0}
INPUTS = 16
WARM_UP = 100  # steps
BINS = 60
LEAST, SLACK = 0.01, 1e-6  # microseconds; of the outer edges
REPORTS = 100  # of progress


def step_times(
    layer: RecurrentLayer[Any],
    rate_hz: float | None,
    steps: int,
    progress: Callable[[float], object] | None = None,
) -> npt.NDArray[np.float64]:
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
    array (steps,)
        Microseconds, in order.
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
    return taken / 1e3


def latency_row(
    layer: RecurrentLayer[Any], rate_hz: float | None, us: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Return what `step_times` found as a row of a record.

    Returns
    -------
    dict
        "cell", "input_size", "hidden_size", "num_layers", "rate_hz", "steps", "us" (p50, p99,
        p99.9, p99.99, max) and "histogram" (edges_us, which are one more than counts, and evenly
        spaced in their logarithm).
    """
    low, high = max(us.min(), LEAST), max(us.max(), 2 * LEAST)
    edges = np.geomspace(low * (1 - SLACK), high * (1 + SLACK), BINS + 1)
    counts, _ = np.histogram(np.maximum(us, low), edges)
    return {
        "cell": type(layer).__name__,
        "input_size": layer.input_size,
        "hidden_size": layer.hidden_size,
        "num_layers": layer.num_layers,
        "rate_hz": rate_hz,
        "steps": len(us),
        "us": {name: float(np.percentile(us, q)) for name, q in PERCENTILES.items()},
        "histogram": {"edges_us": edges.tolist(), "counts": counts.tolist()},
    }


def measure_latency(
    layer: RecurrentLayer[Any],
    rate_hz: float | None,
    steps: int,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Any]:
    """Do as `step_times`, and return the row of a record: see `latency_row`."""
    return latency_row(layer, rate_hz, step_times(layer, rate_hz, steps, progress))
