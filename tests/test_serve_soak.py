"""The long runs of bench/ in short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def bench(name, *arguments):
    """Run a script of bench/ and return what it found."""
    script = ROOT / "bench" / name
    if not script.exists():
        pytest.skip("bench/ is not here")
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_soak_of_the_batcher():
    found = bench("soak.py", "--seconds", "4", "--streams", "100", "--size", "16")
    assert found["sent"] > 1000
    assert found["left"] > 0
    assert found["cancelled_under_way"] > 0
    assert found["lost"] == found["left_differing"] == found["watched_frames_differing"] == 0


def test_soak_of_the_server():
    found = bench(
        "soak_server.py", "--seconds", "6", "--streams", "16", "--size", "16", "--save-every", "20",
        "--workers", "2", "--tls", "--tokens",
    )  # fmt: skip
    assert found["sent"] > 1000
    assert found["lives"] >= 16
    assert found["moved"] > 0
    assert found["late_messages"] > 0
    assert found["workers_killed"] == found["worker_restarts"] == 1
    assert found["cut_off"] > 0
    assert found["stderr"].count("certificate and tokens read anew") == 2
    for name in ("lost", "lives_differing", "repeated_differing", "ended_unexplained"):
        assert found[name] == 0
    assert found["streams_left_open"] == found["files_growth"] == 0


def test_load_on_the_server():
    arguments = ("--seconds", "4", "--connections", "20", "--size", "16", "--drain-seconds", "1")
    found = bench("load.py", *arguments)
    assert found["answered"] > 500
    assert found["checked"] > 50
    assert found["processes_killed"] >= 2
    assert found["states_taken_up"] == 2
    assert found["lost"] == found["differing"] == found["states_differing"] == 0
