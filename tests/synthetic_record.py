"""A made-up benchmark record for tests: no figure in it was measured anywhere."""

from __future__ import annotations

from itertools import product
from typing import Any

CPU = "SYNTHETIC CPU, made up for tests"
PEAK, NEAR, FAR = 100.0, 200.0, 20.0  # GFLOP/s, GB/s

# What each runner adds to a call (us) and how many times our time it takes besides.
RUNNERS = {
    "torch": (100.0, 1.3),
    "torch cell": (60.0, 1.4),
    "torch int8": (150.0, 0.5),
    "onnxruntime": (16.0, 1.1),
    "openvino": (40.0, 1.5),
}
NAMES = {"torch": "torch", "torch cell": "torch", "torch int8": "torch"}


def bandwidth(nbytes: float) -> float:
    return NEAR if nbytes < 1e6 else FAR


def case_rows(
    cell: str,
    hidden_size: int,
    batch: int,
    steps: int,
    *,
    input_size: int | None = None,
    group: str = "grid",
    name: str | None = None,
    runners: tuple[str, ...] = tuple(RUNNERS),
    slower: float = 1.0,
    layers: tuple[tuple[str, str | None, int], ...] = (("simd", "avx512", 1),),
) -> list[dict[str, Any]]:
    """The rows of one case."""
    width = input_size or hidden_size
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    weights = 4.0 * gates * hidden_size * (width + hidden_size)
    flops = weights / 2 * batch
    limit = max(weights / bandwidth(weights), flops / PEAK) / 1e3
    ours = slower * (0.5 + 1.25 * limit)
    sizes = {
        "id": f"{cell} I={width} H={hidden_size} B={batch} T={steps}",
        "group": group, "name": name, "cell": cell, "input_size": width,
        "hidden_size": hidden_size, "num_layers": 1, "proj_size": 0, "bidirectional": False,
        "batch": batch, "steps": steps,
    }  # fmt: skip
    times = [
        ("fastrnn", f"{engine} {isa} threads={threads}", (engine, isa, threads), ours * (1 + i))
        for i, (engine, isa, threads) in enumerate(layers)
    ]
    times += [
        (
            runner,
            f"{runner}, its best way",
            (None, None, 1),
            RUNNERS[runner][0] / steps + RUNNERS[runner][1] * ours,
        )
        for runner in runners
    ]
    return [
        {
            **sizes, "runner": runner, "how": how, "engine": engine, "isa": isa,
            "threads": threads, "us_per_step": us, "us_per_step_25": 0.97 * us,
            "us_per_step_75": 1.05 * us, "us_per_step_wall": 1.01 * us,
            "us_per_stream_step": us / batch, "rounds": 101, "gflops": flops / us / 1e3,
            "gb_per_s": weights / us / 1e3, "limit_us": limit, "limit_fraction": limit / us,
            "ratio": us / ours,
        }
        for runner, how, (engine, isa, threads), us in times
    ]  # fmt: skip


def synthetic_record(
    version: str = "0.0.1", date: str = "2001-02-03T04:05:06Z", slower: float = 1.0
) -> dict[str, Any]:
    """A record with every section; `slower` multiplies our times."""
    cases = [
        row
        for cell, size in product(("LSTM", "GRU"), (32, 128, 512))
        for steps, batches in ((1, (1, 16, 64)), (100, (1, 4)))
        for batch in batches
        for row in case_rows(
            cell,
            size,
            batch,
            steps,
            slower=slower,
            runners=tuple(r for r in RUNNERS if r != "torch cell" or steps == 1),
        )
    ]
    cases += case_rows(
        "LSTM", 96, 1, 1, input_size=40, group="models", name="Made-up VAD", slower=slower
    )
    cases += case_rows(
        "LSTM", 256, 1, 150, group="deepbench", name="DeepBench device", slower=slower
    )
    edges = [2.0 * 1.1**i for i in range(61)]
    counts = [max(0, 5000 - 400 * abs(i - 6)) if i < 20 else int(i % 9 == 0) for i in range(60)]
    us = {"p50": 3.4, "p99": 7.1, "p99.9": 12.0, "p99.99": 101.0, "max": 577.0}
    return {
        "format": 1,
        "fastrnn": version,
        "commit": "0000000",
        "date": date,
        "machine": {
            "version": version, "python": "3.0.0", "numpy": "0.0.0", "scipy": "0.0.0",
            "platform": "Nowhere", "cpu": CPU, "cores": 2,
            "engines": {"float32": ["simd", "blas"], "float64": ["blas"]},
            "isa": {"chosen": "avx512", "available": ["generic", "avx2", "avx512"]},
            "blas": {"name": "none", "version": "0", "threads": 1},
        },
        "versions": {"torch": "0.0.1", "onnxruntime": "0.0.2", "openvino": "0.0.3"},
        "limits": {
            isa: {
                "gflops": PEAK / (1 + i),
                "bandwidth": [[2**k, bandwidth(2**k) / (1 + i)] for k in range(13, 29)],
            }
            for i, isa in enumerate(("avx512", "avx2"))
        },
        "cases": cases,
        "latency": [
            {"cell": "LSTM", "input_size": 128, "hidden_size": 128, "num_layers": 1,
             "rate_hz": rate, "steps": sum(counts), "us": {k: f * v for k, v in us.items()},
             "histogram": {"edges_us": [f * edge for edge in edges], "counts": counts}}
            for rate, f in ((100.0, 1.5), (None, 1.0))
        ],
        "pool": [
            {"id": "LSTM I=96 H=80 B=1000 T=1", "name": name, "way": way,
             "us_per_tick": 1000 * us, "us_per_stream_step": us, "limit_fraction": 2.0 / us,
             "ratio": us / 2.5, **more}
            for name, more in ((None, {}), ("Made-up VAD", {"streams_in_real_time": 12345.0}))
            for way, us in (("pool, all ready", 2.5), ("torch, batched", 4.5))
        ],
        "instructions": [{"id": "LSTM I=128 H=128 B=1 T=1", "isa": "avx2", "per_step": 12345}],
        "costs": {
            "fastrnn": {"import_ms": 40.0, "import_rss_mb": 20.0, "installed_mb": 3.0},
            "torch": {"import_ms": 1000.0, "import_rss_mb": 150.0, "installed_mb": 700.0},
        },
        "threads": [{"id": "LSTM I=512 H=512 B=1 T=1", "threads": 2, "ratio": 1.8}],
    }  # fmt: skip
