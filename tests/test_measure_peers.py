"""Every peer's outputs are ours, and rows say what they should, for one small case each."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn.measure.cases import Case, deepbench, grid, random_weights
from fastrnn.measure.limits import Limits
from fastrnn.measure.measure import check, measure_case
from fastrnn.measure.models import MODELS
from fastrnn.measure.peers import PEERS, Fastrnn, inference_mode

LIMITS = Limits(gflops=100.0, bandwidth=((1024, 200.0), (1 << 20, 50.0)))
CASES = [
    Case("LSTM", 12, 20),
    Case("GRU", 12, 20, steps=4),
    Case("GRU", 12, 20, batch=3),
    Case("RNN", 12, 20, batch=2, steps=3),
    Case("LSTM", 12, 20, steps=4, num_layers=2),
    Case("GRU", 12, 20, num_layers=2),
    Case("GRU", 12, 20, steps=4, num_layers=2, bidirectional=True),
    Case("LSTM", 12, 20, steps=4, proj_size=8),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", PEERS)
def test_outputs_are_ours(name, case, rng):
    peer = PEERS[name]
    if peer.missing:
        pytest.skip(f"not installed: {', '.join(peer.missing)}")
    if not peer.can(case):
        assert peer.make(case, random_weights(case)) == []
        return
    weights = random_weights(case)
    inputs = [rng.standard_normal(case.x_shape).astype(np.float32) for _ in range(3)]
    ours = Fastrnn(case, weights)
    expected = [ours.to_numpy(ours.call(x)) for x in inputs]  # three calls: state is carried
    with inference_mode():
        runners = peer.make(case, weights)
        assert runners
        for runner in runners:
            check(runner, inputs, expected, peer.rms)


def test_wrong_outputs_are_found(rng):
    case = Case("LSTM", 12, 20)
    x = rng.standard_normal(case.x_shape).astype(np.float32)
    runner = Fastrnn(case, random_weights(case))
    with pytest.raises(AssertionError, match="LSTM I=12 H=20 B=1 T=1: simd"):
        check(runner, [x], [np.full(case.y_shape, 0.5, np.float32)])
    with pytest.raises(AssertionError, match=r"off by .* \(RMS\) > 0.05"):
        check(runner, [x], [np.full(case.y_shape, 0.5, np.float32)], rms=0.05)


@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=str)
def test_rows(case):
    rows = measure_case(
        case,
        layer_options=[{}, {"engine": "blas"}, {"threads": 2}],
        peers=list(PEERS),
        seconds=0.01,
        limits={"generic": LIMITS},
        rounds=(2, 2),
    )
    there = [name for name, peer in PEERS.items() if not peer.missing and peer.can(case)]
    assert [row["runner"] for row in rows] == ["fastrnn"] * 3 + there
    assert [row["engine"] for row in rows[:3]] == ["simd", "blas", "simd"]
    assert [row["threads"] for row in rows[:3]] == [1, 1, 2]
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert (row["id"], row["batch"], row["steps"]) == (case.id, case.batch, case.steps)
        assert 0 < row["us_per_step_25"] <= row["us_per_step"] <= row["us_per_step_75"]
        assert row["us_per_stream_step"] == row["us_per_step"] / case.batch
        assert row["gflops"] == pytest.approx(case.flops_per_step / row["us_per_step"] / 1e3)
        assert row["limit_us"] == pytest.approx(LIMITS.us_per_step(case))
        assert row["limit_fraction"] == pytest.approx(row["limit_us"] / row["us_per_step"])
        assert row["rounds"] == 2


def test_a_time_per_step_is_the_call_s_over_its_steps():
    rows = [
        measure_case(Case("GRU", 64, 64, steps=steps), seconds=0.05, limits=LIMITS)[0]
        for steps in (10, 200)
    ]
    assert rows[0]["us_per_step"] == pytest.approx(rows[1]["us_per_step"], rel=1)


def test_case_names():
    assert Case("LSTM", 128, 128).id == "LSTM I=128 H=128 B=1 T=1"
    assert CASES[6].id == "GRU I=12 H=20 L=2 bidirectional B=1 T=4"
    assert CASES[7].id == "LSTM I=12 H=20 P=8 B=1 T=4"
    for cases in (grid(), grid(quick=True), deepbench(), deepbench(quick=True)):
        assert len({case.id for case in cases}) == len(cases)


def test_deepbench_has_all_published_shapes():
    shapes = {(case.cell, case.hidden_size, case.batch) for case in deepbench()}
    lstm = {("LSTM", size, batch) for size in (256, 512, 1024, 1536, 2048) for batch in (1, 2, 4)}
    gru = {
        ("GRU", size, batch) for size in (512, 1024, 1536, 2048, 2560, 2816) for batch in (1, 2, 4)
    }
    assert shapes == lstm | gru | {("RNN", 32, 1), ("RNN", 64, 1)}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.case.name)
def test_models_are_their_cases(model):
    if model.path is None:
        pytest.skip(f"{model.package} is not installed")
    found = {name: value.shape for name, value in model.weights().items()}
    assert found == model.case.config.shapes()
