"""Whole models from ONNX files beside ONNX Runtime on the same file, one thread each.

The published Silero VAD, and models of the tests: convolutions before LSTMs and GRUs, in one call
of 100 frames and frame by frame, which ONNX Runtime does only where the file has states. A pool's
peer is ONNX Runtime with all streams as one batch, their states kept in order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay import replayed_time

import fastrnn
from fastrnn.measure.sessions import NAME as ORT
from fastrnn.measure.sessions import Session, open_session
from fastrnn.measure.timing import interleave, paired
from fastrnn.measure.whole_models import OURS, Row, measure_calls, measure_frames

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # the models of the tests

SECONDS, QUICK_SECONDS = 2.0, 0.3
FRAMES = 100
SILERO = (
    "silero_vad.onnx",
    "silero_vad_16k_op15.onnx",
    "silero_vad_op18_ifless.onnx",
    "silero_vad_openvino_16k.onnx",
)  # fmt: skip
ZOO = ("ConvLSTM", "CausalGRU", "SymmetricConvs", "StridedLSTM", "MaskDenoiser",
       "ConvTransposeDecoder", "Waveform", "FeatureMean", "SpeechTagger", "CRNN")  # fmt: skip
NO_STREAM = ("SpeechTagger", "CRNN")


@dataclass(frozen=True)
class Case:
    """A model, how it is called, and rows."""

    model: str
    mode: str  # "whole", "step" or "pool"
    batch: int

    @property
    def title(self) -> str:
        return f"{self.model} {self.mode} B={self.batch}"


def cases(quick: bool) -> list[Case]:
    found = [Case("Silero VAD", "step", 1)]
    found += [Case("Silero VAD", "pool", batch) for batch in ((64,) if quick else (64, 1000))]
    for name in ZOO[:2] if quick else ZOO:
        found += [Case(name, "whole", batch) for batch in (1, 32)]
        found += [Case(name, "frame", batch) for batch in (1, 32) if name not in NO_STREAM]
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "whole_runner" not in metafunc.fixturenames:
        return
    metafunc.parametrize(
        ("case", "whole_runner"),
        [
            pytest.param(
                case,
                runner,
                id=f"{case.title}-{runner}",
                marks=pytest.mark.benchmark(
                    group=f"whole models: {case.title}", timer=replayed_time
                ),
            )
            for case in cases(metafunc.config.getoption("quick"))
            for runner in ((OURS,) if case.mode == "frame" else (OURS, ORT))
        ],
    )


@pytest.fixture(scope="module")
def measured(quick: bool, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Any]:
    """The rows of a case, the fastest of each runner."""
    seconds = QUICK_SECONDS if quick else SECONDS

    @cache
    def exported(name: str) -> tuple[str, Any]:
        from model_zoo import ZOO as MODELS

        (entry,) = (model for model in MODELS if model.name == name)
        path = tmp_path_factory.mktemp("zoo") / f"{name}.onnx"
        fastrnn.export(
            entry.build(), entry.inputs(), path,
            batch_axis=entry.batch_axis, time_axis=entry.time_axis,
        )  # fmt: skip
        return str(path), entry

    @cache
    def of(case: Case) -> dict[str, Row]:
        if case.model == "Silero VAD":
            return silero(case, seconds)
        pytest.importorskip("torch")
        path, entry = exported(case.model)
        model = fastrnn.load_model(path)
        frames = FRAMES if case.mode == "whole" else 1
        inputs = dict(
            zip(model.inputs, (x.numpy() for x in entry.inputs(case.batch, frames)), strict=True)
        )
        if case.mode == "frame":
            return fastest(measure_frames(model, inputs, case.batch, seconds))
        session, missing = open_session(path, {})
        if missing:
            pytest.skip(missing)
        return fastest(measure_calls(model, session, inputs, seconds))

    return of


def fastest(rows: list[Row]) -> dict[str, Row]:
    """By runner; of ONNX Runtime's two ways of calling the faster one."""
    found = {row.runner: row for row in rows if row.runner == OURS}
    others = [row for row in rows if row.runner != OURS]
    return found | ({ORT: min(others, key=lambda row: row.us)} if others else {})


def silero(case: Case, seconds: float) -> dict[str, Row]:
    """Ours from the file that most people load; of ONNX Runtime, its fastest file."""
    folder = Path(pytest.importorskip("silero_vad").__file__).parent / "data"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.batch, 576)).astype(np.float32) / 8
    model = fastrnn.load_model(folder / SILERO[0], fixed={"sr": 16000})
    if case.mode == "pool":
        pool = model.pool(case.batch)
        ids = [pool.open() for _ in range(case.batch)]
        runners: dict[str, Callable[[], Any]] = {OURS: lambda: pool.step(ids, x)}
    else:
        stream = model.stream(case.batch)
        runners = {OURS: lambda: stream.step(x)}
    for name in SILERO:
        if case.batch > 1 and "openvino" in name:
            continue  # a batch of 1 is written into it
        session, missing = open_session(str(folder / name), {"sr": 16000})
        if session is None:
            pytest.skip(missing)
        runners[name] = carried(session, x)
    for _ in range(3):
        made = {name: np.array(run()) for name, run in runners.items()}
        for name, y in made.items():
            np.testing.assert_allclose(y, made[OURS], rtol=0, atol=5e-4, err_msg=name)
    times = interleave(runners, seconds)
    rows = []
    for name, own in times.items():
        us, wall = np.median(own, axis=0).tolist()
        off = float(np.abs(made[name] - made[OURS]).max())
        rows.append(Row(name, us, wall, paired(own, times[OURS]), off))
    return fastest(rows)


def carried(session: Session, x: np.ndarray) -> Callable[[], np.ndarray]:
    """A step of ONNX Runtime whose state is carried."""
    state = {"state": np.zeros((2, len(x), 128), np.float32)}

    def step() -> np.ndarray:
        made: Mapping[str, Any] = session({"input": x, **state})
        y, state["state"] = list(made.values())[:2]
        return y

    return step


def test_whole_models(case: Case, whole_runner: str, measured, record, replay) -> None:
    rows = measured(case)
    row = rows[whole_runner]
    info = {"case": case.title, "model": case.model, "mode": case.mode, "batch": case.batch}
    info |= {"us_per_stream": row.us / case.batch, **asdict(row)}
    info["runner"], info["how"] = whole_runner, row.runner
    record.setdefault("whole_models", []).append(info)
    replay([row.us], whole_runner, info)


@pytest.mark.benchmark(group="whole models: a step beside its layer's", timer=replayed_time)
@pytest.mark.parametrize("ours", ["model", "layer"])
def test_a_step_beside_its_layers(ours: str, beside, record, replay) -> None:
    """LSTM(128, 128) and a Linear, one row: what the graph around a layer costs."""
    us = beside[ours]
    info = {"case": "LSTM(128) and Linear B=1", "runner": ours, "us": us}
    record.setdefault("beside_its_layer", []).append(info)
    replay([us], ours, info)


@pytest.fixture(scope="module")
def beside(quick: bool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    torch = pytest.importorskip("torch")

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(128, 128, batch_first=True)
            self.head = torch.nn.Linear(128, 16)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0])

    module = Tagger().eval()
    path = tmp_path_factory.mktemp("beside") / "tagger.onnx"
    fastrnn.export(module, (torch.randn(1, 20, 128),), path, batch_axis=0, time_axis=1)
    whole = fastrnn.load_model(path)
    (layer,) = whole.layers.values()
    x = np.random.default_rng(0).standard_normal((1, 128)).astype(np.float32)
    streams = {"model": whole.stream(1), "layer": layer.stream(1)}
    for stream in streams.values():
        for _ in range(4):
            stream.step(x)
    calls = {name: (lambda stream=stream: stream.step(x)) for name, stream in streams.items()}
    times = interleave(calls, QUICK_SECONDS if quick else SECONDS)
    return {name: float(np.median(own, axis=0)[0]) for name, own in times.items()}
