"""What a Python call costs, and what denormals cost.

A call: `stream.step(x, out=y)` at H=1, where there is next to nothing to compute, at H=8, beside
what `stream.bind(x, y)` returns, and at H=32; beside `np.add(a, b, out=c)` of 8 floats.
Denormals: inputs and first states of 1e-40, without biases, over normal ones: a state that decays
must not slow a quiet stream.
"""

from __future__ import annotations

from itertools import product
from timeit import Timer
from typing import Any

import numpy as np
import pytest
from replay import replayed_time

from fastrnn.measure.cases import SEQUENCE, Case, random_weights
from fastrnn.measure.peers import Fastrnn
from fastrnn.measure.timing import Contestant, Times, calling_with, interleave, paired

SECONDS, QUICK_SECONDS = 1.0, 0.3
ADD = "np.add of 8"
CALLS = [ADD, *(f"{cell} step H={size}" for cell, size in product(("LSTM", "GRU"), (1, 8, 32)))]
CALLS += [f"{cell} bind H=8" for cell in ("LSTM", "GRU")]
DECAYS = [Case(cell, 128, 128, 1, steps) for cell, steps in product(("LSTM", "GRU"), (1, SEQUENCE))]
DENORMAL = {"normal": 1.0, "denormal": 1e-40}


@pytest.fixture(scope="module")
def call_times(quick: bool) -> dict[str, Times]:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(8).astype(np.float32) for _ in range(3))
    timers = {ADD: Timer("add(a, b, out=c)", globals={"add": np.add, "a": a, "b": b, "c": c})}
    for name in CALLS[1:]:
        cell, size = name.split()[0], int(name.partition("=")[2])
        runner = Fastrnn(Case(cell, size, size), random_weights(Case(cell, size, size)))
        names = {"step": runner.stream.step, "x": np.zeros_like(runner.out), "y": runner.out}
        names["bound"] = runner.stream.bind(names["x"], names["y"])
        call = "bound()" if "bind" in name else "step(x, out=y)"
        timers[name] = Timer(call, globals=names)
    contestants = {name: Contestant(timer.timeit) for name, timer in timers.items()}
    return interleave(contestants, QUICK_SECONDS if quick else SECONDS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.benchmark(group="Python call", timer=replayed_time)
def test_call(name: str, call_times: dict[str, Times], record, replay) -> None:
    times = call_times[name]
    row = {
        "name": name,
        "us": float(np.median(times[:, 0])),
        "ratio": paired(times, call_times[ADD]),
    }
    record.setdefault("call", []).append(row)
    replay(times[:, 0], name, row)


@pytest.fixture(scope="module")
def decay_times(quick: bool) -> dict[Case, dict[str, Times]]:
    found = {}
    for case in DECAYS:
        weights = {k: v for k, v in random_weights(case).items() if "bias" not in k}
        contestants = {}
        for kind, scale in DENORMAL.items():
            runner = Fastrnn(case, weights)
            states = [np.full(s, scale, np.float32) for s in case.state_shapes.values()]
            runner.stream.state = tuple(states) if case.cell == "LSTM" else states[0]
            x = np.full(case.x_shape, scale, np.float32)
            contestants[kind] = Contestant(calling_with(runner.call, [x]))
        found[case] = interleave(contestants, QUICK_SECONDS if quick else SECONDS)
    return found


@pytest.mark.parametrize("kind", DENORMAL)
@pytest.mark.parametrize("case", DECAYS, ids=str)
@pytest.mark.benchmark(group="denormals", timer=replayed_time)
def test_denormals(case: Case, kind: str, decay_times: Any, record, replay) -> None:
    times = decay_times[case]
    us = times[kind][:, 0] / case.steps
    row = {
        "id": case.id,
        "kind": kind,
        "us_per_step": float(np.median(us)),
        "ratio": paired(times[kind], times["normal"]),
    }
    if kind == "denormal":
        record.setdefault("denormals", []).append(row)
    replay(us, f"{case.id} {kind}", row)
