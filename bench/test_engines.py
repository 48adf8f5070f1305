"""Every engine and instruction set of this CPU, side by side; and one thread beside two.

Threads are compared in wall time: it takes two cores that nobody else uses.
"""

from __future__ import annotations

from itertools import product

import pytest
from turns import Contest, Turns

from fastrnn.layers.engines import available_isas
from fastrnn.measure.cases import SEQUENCE, Case

ENGINES = (
    *((f"simd {isa}", (("isa", isa),)) for isa in reversed(available_isas())),
    ("blas", (("engine", "blas"),)),
)
THREADS = (("threads=1", ()), ("threads=2", (("threads", 2),)))


def contests(config: pytest.Config) -> list[Contest]:
    engines = product(("LSTM", "GRU"), (128, 512), (1, 16), (1,))
    threads = [
        *product(("LSTM", "GRU"), (256, 512, 1024), (1, 16), (1,)),
        *product(("LSTM", "GRU"), (512, 1024), (1, 32), (SEQUENCE,)),
    ]
    if config.getoption("quick"):
        engines, threads = [("LSTM", 128, 1, 1)], [("LSTM", 512, 1, 1)]
    return [
        Contest(Case(cell, size, size, batch, steps, group=group), layers)
        for group, layers, sizes in (("engines", ENGINES, engines), ("threads", THREADS, threads))
        for cell, size, batch, steps in sizes
    ]


def test_engine(contest: Contest, runner: str, turns: Turns, limits, record, replay) -> None:
    sample = turns.of(contest, runner, limits)
    threads, group = sample.row["threads"], contest.case.group
    if group == "engines":
        record.setdefault("cases", []).append(sample.row)
    elif threads > 1:
        record.setdefault("threads", []).append(
            {"id": contest.case.id, "threads": threads, "ratio": 1 / sample.row["ratio"]}
        )
    column = 1 if group == "threads" else 0
    replay(sample.us_per_step[:, column], runner, sample.row)
