"""Time per step beside other runtimes: the grid, DeepBench's set, published models."""

from __future__ import annotations

import pytest
from turns import Contest, Turns, asked_contests, with_peers

from fastrnn.measure.cases import deepbench, grid
from fastrnn.measure.models import MODELS


def contests(config: pytest.Config) -> list[Contest]:
    if asked := asked_contests(config):
        return asked
    quick = config.getoption("quick")
    sets = [*grid(quick), *deepbench(quick)]
    return [*map(with_peers, sets), *(with_peers(model.case, model=model) for model in MODELS)]


def test_case(contest: Contest, runner: str, turns: Turns, limits, record, replay) -> None:
    if contest.model and contest.model.path is None:
        pytest.skip(f"{contest.model.package} is not installed")
    sample = turns.of(contest, runner, limits)
    record.setdefault("cases", []).append(sample.row)
    replay(sample.us_per_step[:, 0], runner, sample.row)
