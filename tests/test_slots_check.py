"""The slots of a pool in C, by tests/slots_check.c: eight threads, as they ship and under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# the most that a pool can have: reached in the test
FEW = ["-DMOST_SLOTS=511u", "-DMOST_SLABS=10"]
ROOT = Path(__file__).parent.parent
BUILDS = {
    "shipped": ["-O3"],
    "sanitized": ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "threads": ["-O1", "-g", "-fsanitize=thread"],
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_slots(build: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    program = tmp_path / "slots_check"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *BUILDS[build], *FEW]
    sources = ["tests/slots_check.c", "kernels/slots.c", "-lpthread"]
    built = subprocess.run(
        [*command, "-o", program, *sources], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("8 threads")
