"""The tail of latency: single steps of one stream, flat out and at 100 frames per second.

Paced, a hundred thousand steps would take 17 minutes: two minutes are run, 12,000 steps, of which
the p99.99 is the slowest but one. Flat out it is 200,000 steps.
"""

from __future__ import annotations

import pytest
from replay import replayed_time

from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.latency import latency_row, step_times
from fastrnn.measure.peers import Fastrnn

RATE = 100.0  # frames per second
FLAT_OUT, PACED = 200_000, 12_000  # steps
QUICK_FLAT_OUT, QUICK_PACED = 100_000, 1_000


@pytest.mark.parametrize("rate", [None, RATE], ids=["flat out", "100 per second"])
@pytest.mark.benchmark(group="latency of one stream's step", timer=replayed_time)
def test_latency(rate: float | None, quick: bool, record, replay) -> None:
    case = Case("LSTM", 128, 128, group="latency")
    layer = Fastrnn(case, random_weights(case)).layer
    steps = (QUICK_PACED if quick else PACED) if rate else (QUICK_FLAT_OUT if quick else FLAT_OUT)
    us = step_times(layer, rate, steps)
    row = latency_row(layer, rate, us)
    record.setdefault("latency", []).append(row)
    replay(us, "flat out" if rate is None else f"{rate:.0f} per second", row)
