"""Weights of int8 and int16 beside float32 and torch's dynamic int8: the cells, and DeepBench.

A row's ratio is its time over that of float32 in the same rounds.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from turns import Contest, Options, Turns

from fastrnn.measure.cases import Case, deepbench
from fastrnn.measure.peers import PEERS

LAYERS: tuple[tuple[str, Options], ...] = (
    ("float32", ()),
    *((name, (("weight_dtype", name),)) for name in ("int16", "int8")),
)


def contests(config: pytest.Config) -> list[Contest]:
    quick = config.getoption("quick")
    sizes = (128,) if quick else (128, 256, 512, 1024, 2048)
    batches = (1, 16) if quick else (1, 4, 16, 64)
    steps = [
        Case(cell, size, size, batch, group="compact")
        for cell, size, batch in product(("LSTM", "GRU"), sizes, batches)
    ]
    sequences = [replace(case, group="compact deepbench") for case in deepbench(quick)]
    return [
        Contest(case, LAYERS, ("torch int8",) if PEERS["torch int8"].can(case) else ())
        for case in (*steps, *sequences)
    ]


def test_compact(contest: Contest, runner: str, turns: Turns, limits, record, replay) -> None:
    sample = turns.of(contest, runner, limits)
    record.setdefault("compact", []).append(sample.row)
    replay(sample.us_per_step[:, 0], runner, sample.row)
