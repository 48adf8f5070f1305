"""Teams of threads in C, by tests/team_check.c: as they ship and under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILDS = {
    "shipped": ["-O3"],
    "sanitized": ["-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "threads": ["-O1", "-g", "-fsanitize=thread"],
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_team(build: str, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    program = tmp_path / "team_check"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", *BUILDS[build]]
    sources = ["tests/team_check.c", "kernels/team.c", "-lpthread"]
    built = subprocess.run(
        [*command, "-o", program, *sources], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    forks = [] if build == "threads" else ["fork"]  # ThreadSanitizer knows no threads of a child
    done = subprocess.run([program, *forks], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("3 callers")
