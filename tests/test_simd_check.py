"""The SIMD engine's C kernels on their own, by tests/simd_check.c: under sanitizers, and as they ship.

The program runs every cell on every instruction set of this CPU, around all tile and tail sizes, on
arrays that end at forbidden pages; compares with a reference in double; and compares bits between
batch sizes, rows, cuts of time and poisoned batch-mates.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fastrnn.layers.engines import available_isas

ROOT = Path(__file__).parent.parent
SOURCES = [
    "tests/simd_check.c",
    *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("kernels/simd_*.c"))),
    "kernels/team.c",
]
HOUSE_FLAGS = ["-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
ASKED = "-DFR_WATCH_WORK=64"  # even small runs are asked whether they are to end, and some do
# Flags, and cases of each cell on each instruction set: without optimisation sanitized code is slow to run,
# with it slow to compile.
BUILDS = {
    "shipped": (["-O3"], 60),
    "sanitized": (
        ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", ASKED],
        6,
    ),
    # every case of more than one thread, however small, runs on as many; all weights count as far
    "threads": (["-O1", "-g", "-fsanitize=thread", "-DTHREAD_WORK=1", "-DFAR_BYTES=1", ASKED], 3),
    "far": (["-O3", "-DFAR_BYTES=1"], 30),
}


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def simd_check(build: str, compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the compiled program."""
    program = tmp_path_factory.mktemp(build) / "simd_check"
    flags = [*HOUSE_FLAGS, *WARNINGS, *BUILDS[build][0]]
    command = [compiler, *flags, "-o", program, *SOURCES, "kernels/cpu.c", "-lm"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


def check(program: Path, *arguments: str) -> str:
    """Runs it and returns what it printed; every instruction set of this CPU must be among those it checked."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    checked = {
        line.split(":")[0] for line in done.stdout.splitlines() if "not supported" not in line
    }
    assert checked == set(available_isas())
    return done.stdout


def test_cells(simd_check: Path, build: str) -> None:
    out = check(simd_check, "cells", str(BUILDS[build][1]))
    if ASKED in BUILDS[build][0]:
        assert ", 0 ended early" not in out


def test_activation_error(simd_check: Path) -> None:
    check(simd_check, "activation", "4099")
