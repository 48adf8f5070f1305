"""`pytest bench` works with this repository's settings, and what it saves is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastrnn.measure.record import read_record

ROOT = Path(__file__).parent.parent
CASE = "grid: LSTM I=32 H=32 B=1 T=1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One case by fastrnn and a peer, saved both ways."""
    if not (ROOT / "bench").is_dir():
        pytest.skip("a source distribution has no bench/")
    folder = tmp_path_factory.mktemp("suites")
    options = ["--quick", "-p", "no:cacheprovider", "--benchmark-columns=median"]
    chosen = [
        f"bench/test_cases.py::test_case[{CASE}-{runner}]" for runner in ("fastrnn", "onnxruntime")
    ]
    saved = [f"--benchmark-json={folder}/saved.json", f"--record={folder}/record.json"]
    command = [sys.executable, "-m", "pytest", *chosen, *options, *saved]
    env = {**os.environ, "PYTHONSAFEPATH": "1"}  # the installed package, not the source tree
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((folder / "saved.json").read_text())
    return done.stdout, saved, read_record(folder / "record.json")


def test_benchmarks_carry_what_was_measured(run):
    _, saved, _ = run
    ours = saved["benchmarks"][0]
    assert ours["group"] == CASE
    info = ours["extra_info"]
    assert info["ratio"] == 1
    assert {"us_per_step", "us_per_stream_step", "gflops", "gb_per_s", "limit_fraction"} <= set(
        info
    )
    stats = ours["stats"]
    assert stats["rounds"] == info["rounds"]
    assert stats["median"] == pytest.approx(info["us_per_step"] / 1e6)


def test_runners_of_a_case_share_its_rounds(run):
    _, saved, record = run
    if len(saved["benchmarks"]) == 1:
        pytest.skip("onnxruntime is not installed")
    ours, theirs = saved["benchmarks"]
    assert ours["stats"]["rounds"] == theirs["stats"]["rounds"]
    assert theirs["extra_info"]["runner"] == "onnxruntime"
    assert [row["runner"] for row in record["cases"]] == ["fastrnn", "onnxruntime"]


def test_record_says_machine_and_limits(run):
    _, _, record = run
    assert record["machine"]["cpu"]
    chosen = record["limits"][record["machine"]["isa"]["chosen"]]
    assert chosen["gflops"] > 0
    assert record["instructions"]


def test_the_summary_is_told(run):
    out, _, _ = run
    assert "limit of one core" in out
    assert "grid: 1 cases" in out


@pytest.mark.parametrize("full", [True, False])
def test_a_quick_record_does_not_replace_a_full_one(full, tmp_path):
    if not (ROOT / "bench").is_dir():
        pytest.skip("a source distribution has no bench/")
    path = tmp_path / "record.json"
    path.write_text('{"format": 1}')
    options = ["--quick", "--record" if full else f"--record={path}", "--collect-only"]
    command = [sys.executable, "-m", "pytest", *options, "bench/test_latency.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4
    said = "say --record=FILE" if full else f"{path}: it has the record of a full run"
    assert said in done.stderr
    assert path.read_text() == '{"format": 1}'
