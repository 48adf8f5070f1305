"""Make a Python without a GIL, and test this checkout on it: `python packaging/freethreaded.py`.

    python packaging/freethreaded.py                the tests of threads, states and bits
    python packaging/freethreaded.py tests/test_pool.py -x      what pytest is given
    python packaging/freethreaded.py --speed        what a second thread is worth to a pool

The interpreter is compiled from the source package of Debian trixie, by the machine's gcc, in some
minutes; NumPy, SciPy and ONNX are wheels. All of it, and a copy of the checkout that is compiled
there, stays in --cache, and nothing else is changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from headers import apt_options
from wheels import checkout

ROOT = Path(__file__).resolve().parent.parent
SUITE = "trixie"
TESTS = ["freethreading", "pool", "stream", "threads", "same_bits", "states", "capi", "product"]
TOOLS = ["setuptools>=77", "Cython>=3.1", "pytest>=8", "hypothesis>=6.100"]
WHEELS = ["numpy>=2.3", "scipy>=1.16", "onnx>=1.20"]  # of these there are some for 3.13t

# Streams of one pool in two halves, stepped by one thread in turn, and by two at once.
SPEED = """
import statistics, sys, threading, time
import numpy as np, fastrnn
from fastrnn.layers.weights import StackConfig

print(sys.version.split("[")[0], "GIL:", sys._is_gil_enabled())
for hidden, each in ((64, 32), (128, 64), (256, 64)):
    shapes = StackConfig("LSTM", 40, hidden).shapes()
    rng = np.random.default_rng(0)
    weights = {k: rng.normal(0, 0.1, s).astype("f") for k, s in shapes.items()}
    layer = fastrnn.LSTM.from_state_dict(weights)
    pool = layer.pool(2 * each)
    ids = np.array(pool.open(2 * each))
    x = rng.normal(size=(each, 40)).astype("f")

    def steps(half, count):
        own, out = ids[half * each : (half + 1) * each].copy(), np.empty((each, hidden), "f")
        for _ in range(count):
            pool.step(own, x, out=out)

    def seconds(work):
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    def at_once(count):
        crowd = [threading.Thread(target=steps, args=(half, count)) for half in (0, 1)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()

    count = max(int(0.1 / seconds(lambda: steps(0, 1000)) * 1000), 100)
    alone, both = [], []
    for _ in range(15):
        alone.append(seconds(lambda: (steps(0, count), steps(1, count))))
        both.append(seconds(lambda: at_once(count)))
    one, two = statistics.median(alone), statistics.median(both)
    print(f"H={hidden}, {each} streams a call: one thread {one / count / 2 * 1e6:.1f} us a call, "
          f"two threads {one / two:.2f} times as many calls")
"""


def main(arguments: list[str] | None = None) -> int:
    """Make what is not there yet, install the checkout, and run what was asked for."""
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--cache", type=Path, default=ROOT / "build/freethreaded")
    parser.add_argument("--speed", action="store_true", help="measure instead")
    options, given = parser.parse_known_args(arguments)
    cache = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    python = environment(interpreter(cache), cache)
    copy = installed(python, cache)
    tests = [f"tests/test_{name}.py" for name in TESTS if (copy / f"tests/test_{name}.py").exists()]
    # a module that turns it on again is told, and fails
    run = [python, "-W", "error:The global interpreter lock:RuntimeWarning"]
    run += ["-c", SPEED] if options.speed else ["-m", "pytest", "-q", *(given or tests)]
    return subprocess.run(run, cwd=copy).returncode


def interpreter(cache: Path) -> Path:
    """Return the Python, compiled if it is not there."""
    python = cache / "python/bin/python3"
    if python.exists():
        return python
    sources = cache / "sources"
    sources.mkdir(exist_ok=True)
    options = apt_options(cache, (SUITE,), kind="deb-src")
    source = ["source", "--download-only", "--tar-only", "python3.13"]
    subprocess.run(["apt-get", "--quiet", *options, *source], cwd=sources, check=True)
    archive = next(sources.glob("python3.13_*.orig.tar.*"))
    unpacked = cache / "cpython"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    subprocess.run(["tar", "xf", archive, "-C", unpacked, "--strip-components=1"], check=True)
    configure = ["./configure", "--disable-gil", "--disable-test-modules"]
    jobs = f"-j{os.cpu_count() or 1}"
    for command in (
        [*configure, f"--prefix={cache / 'python'}"],
        ["make", "-s", jobs],
        ["make", "-s", "install"],
    ):
        done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{done.stdout}{done.stderr}{command[:2]} failed in {unpacked}")
    return python


def environment(python: Path, cache: Path) -> Path:
    """Return a virtual environment's Python, with what compiling and testing need."""
    place = cache / "environment"
    own = place / "bin/python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", place], check=True)
        only = "--only-binary=numpy,scipy,onnx,ml_dtypes,protobuf"
        pip = [own, "-m", "pip", "install", "--quiet", "--prefer-binary", only]
        subprocess.run([*pip, *TOOLS, *WHEELS], check=True)
        (place / "complete").touch()
    return own


def installed(python: Path, cache: Path) -> Path:
    """Copy what git knows, compile it there, and return the copy."""
    copy = checkout(cache / "checkout", apart=())
    pip = [python, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--editable", copy], check=True)
    return copy


if __name__ == "__main__":
    sys.exit(main())
