"""A thousand streams that are stepped together: our pool, beside what people do without one.

Every stream's state is its own between two ticks. The fraction of the limit counts everything that
a tick does: the Python call, the checking of the ids, the states' way in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from pooled import STATES, WAYS, OurPool, peer_ways
from replay import replayed_time

from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.measure import ATOL, RTOL
from fastrnn.measure.models import MODELS
from fastrnn.measure.peers import inference_mode
from fastrnn.measure.timing import Contestant, Times, calling_with, interleave, paired

STREAMS = 1000
SECONDS, QUICK_SECONDS = 3.0, 0.5
CHECKED = 3  # ticks
SILERO = next(model for model in MODELS if model.case.name == "Silero VAD")
SILERO_FRAME = 32e3  # microseconds of sound in a step
CASES = [
    *(Case(cell, size, size, STREAMS) for cell in ("LSTM", "GRU") for size in (128, 256)),
    replace(SILERO.case, batch=STREAMS),
]
OURS = {"pool, all ready": 1.0, "pool, half ready": 0.5}  # the part that is ready
NEAR = 1.25  # adapters of one peer that are this near to its fastest are all measured


@pytest.fixture(scope="module")
def measured(quick: bool) -> Callable[[Case], dict[str, Times]]:
    """What every way of stepping a case's streams took, round by round."""

    @cache
    def of(case: Case) -> dict[str, Times]:
        weights = SILERO.weights() if case.name else random_weights(case)
        shape = (STREAMS, case.input_size)
        rng = np.random.default_rng(1)
        inputs = [rng.standard_normal(shape).astype(np.float32) for _ in range(CHECKED)]
        with inference_mode():
            pool = OurPool(case, weights)
            expected = [pool(x).copy() for x in inputs]
            contestants = {
                (way, 0): Contestant(calling_with(OurPool(case, weights, part), inputs))
                for way, part in OURS.items()
            }
            for way, adapters in peer_ways(case, weights).items():
                found = {}
                for i, (runner, tick) in enumerate(adapters):
                    runner.enter()
                    for x, y in zip(inputs, expected, strict=True):
                        np.testing.assert_allclose(tick(x), y, RTOL, ATOL, err_msg=way)
                    found[way, i] = Contestant(calling_with(tick, inputs), runner.enter)
                best = min((c.first_look for c in found.values()), default=0.0)
                contestants |= {k: c for k, c in found.items() if c.first_look <= NEAR * best}
            keys = {str(i): key for i, key in enumerate(contestants)}
            times = interleave(
                {i: contestants[key] for i, key in keys.items()},
                QUICK_SECONDS if quick else SECONDS,
            )
        fastest: dict[str, Times] = {}
        for i, us in times.items():
            way, _ = keys[i]
            if way not in fastest or np.median(us[:, 0]) < np.median(fastest[way][:, 0]):
                fastest[way] = us
        return fastest

    return of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    ways = [*OURS, *(f"{peer}, {way}" for peer, way in product(STATES, WAYS))]
    cases = CASES[:1] if metafunc.config.getoption("quick") else CASES
    metafunc.parametrize(
        ("case", "way"),
        [
            pytest.param(
                case,
                way,
                id=f"{case}-{way}",
                marks=pytest.mark.benchmark(
                    group=f"{STREAMS} streams: {case}", timer=replayed_time
                ),
            )
            for case in cases
            for way in ways
        ],
    )


def test_pool(
    case: Case, way: str, measured: Callable[[Case], dict[str, Times]], limits, record, replay
) -> None:
    if case.name and SILERO.path is None:
        pytest.skip(f"{SILERO.package} is not installed")
    times = measured(case)
    if way not in times:
        pytest.skip("not installed")
    us, ready = times[way], OURS.get(way, 1.0)
    tick = float(np.median(us[:, 0]))
    row = {
        "id": case.id,
        "name": case.name,
        "way": way,
        "us_per_tick": tick,
        "us_per_stream_step": tick / (ready * STREAMS),
        "limit_fraction": ready * list(limits.values())[-1].us_per_step(case) / tick,
        "ratio": paired(us, times["pool, all ready"]) / ready,
    }
    if case.name and way in OURS:
        row["streams_in_real_time"] = SILERO_FRAME / row["us_per_stream_step"]
    record.setdefault("pool", []).append(row)
    replay(us[:, 0], way, row)
