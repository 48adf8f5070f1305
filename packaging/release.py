"""Make a release: `python packaging/release.py`: all that is uploaded, in dist/, and its proof.

The source distribution, the wheels, twice, which must be the same bytes; then NEON's kernels and
the aarch64 wheel of CPython 3.11 under qemu-user, and this Python's x86-64 wheel, installed where
there is no compiler, under the whole test suite. `--quick` leaves out the second build and the
suite.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "packaging"


def main(arguments: list[str] | None = None) -> int:
    """Run the steps in order; the first that fails ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tags", nargs="*", help="wheels to build (all)")
    parser.add_argument("--headers", type=Path, help="as of wheels.py")
    parser.add_argument("--quick", action="store_true", help="one build, no test suite")
    options = parser.parse_args(arguments)
    out = ROOT / "dist"
    if list(out.glob("*")):
        parser.error(f"{out} is not empty")
    run("-m", "build", "--sdist", "--outdir", out, ROOT)
    headers = ["--headers", options.headers] if options.headers else []
    # what cannot be built here is named there, and ends this after the rest was proved
    built = call(HERE / "wheels.py", *options.tags, *headers, "--out", out)
    wheels = sorted(out.glob("*.whl"))
    if not options.quick:
        with tempfile.TemporaryDirectory() as again:
            fresh = ["--out", again, "--cache", Path(again) / "cache"]
            call(HERE / "wheels.py", *options.tags, *headers, *fresh)
            for wheel in wheels:
                if wheel.read_bytes() != (Path(again) / wheel.name).read_bytes():
                    raise SystemExit(f"{wheel.name}: two builds, and not the same bytes")
    run(HERE / "emulated.py", "kernels")
    for wheel in wheels:
        if "cp311-manylinux" in wheel.name and "aarch64" in wheel.name:
            run(HERE / "emulated.py", "wheel", wheel)
        here = f"cp{sys.version_info[0]}{sys.version_info[1]}-manylinux"
        if here in wheel.name and "x86_64" in wheel.name:
            installed(wheel, whole=not options.quick)
    return built


def call(*arguments: object) -> int:
    """Run this Python; return its exit status."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT).returncode


def run(*arguments: object) -> None:
    """Run this Python, which must succeed."""
    if status := call(*arguments):
        raise SystemExit(status)


def installed(wheel: Path, whole: bool) -> None:
    """Install a wheel in a fresh environment, run the demo without a compiler, and the tests."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "environment"
        venv.create(place, with_pip=True)
        python = place / "bin/python"
        bare = {"PATH": str(place / "bin"), "HOME": folder}
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, wheel], check=True)
        subprocess.run([python, "-m", "fastrnn", "demo"], check=True, env=bare, cwd=folder)
        if whole:
            subprocess.run([*pip, f"{wheel}[test]"], check=True)
            tests = [python, "-m", "pytest", "--import-mode=append", ROOT / "tests"]
            # what the tests start does not find the checkout before the wheel either
            variables = {**os.environ, "PYTHONSAFEPATH": "1"}
            subprocess.run(tests, check=True, cwd=folder, env=variables)


if __name__ == "__main__":
    sys.exit(main())
