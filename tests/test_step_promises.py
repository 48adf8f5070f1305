"""What a step promises besides its result: nothing is called, nothing is left changed.

No allocation, no lock, no system call; the caller's floating-point mode put back, and no influence
of it; denormals as zeros; and a fork goes on with the right bits. `interpose.c` counts and sets.
`python tests/test_step_promises.py NAME ARGUMENTS` is a child process of a test: the function of
that name.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from itertools import product, repeat
from pathlib import Path

import numpy as np
import pytest
import reference
from conftest import ENGINES

import fastrnn
from fastrnn.layers.engines import available_isas
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
EVERY_CELL = pytest.mark.parametrize("cell", LAYERS)
EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
EVERY_ENGINE = pytest.mark.parametrize(("how", "dtype"), ENGINES)
# ISA, cell, layers, batch, weights
CASES = [
    *product(available_isas(), LAYERS, (1, 3), (1, 7), ("float32",)),
    *product(available_isas(), LAYERS, (1,), (1, 7), ("int8", "int16")),
]
STEPS = 10_000
KILLED = -signal.SIGKILL
NO_SECCOMP = 3  # exit status of `sealed` where system calls cannot be forbidden

# MXCSR: Intel SDM volume 1, 10.2.3
DEFAULT, FLUSH, UP, TO_ZERO, FLAGS = 0x1F80, 0x8040, 0x4000, 0x6000, 0x3F
TRAPS = 0x680  # masks of invalid, overflow and division by zero
MODES = {
    "default": DEFAULT,
    "flush": DEFAULT | FLUSH,
    "up": DEFAULT | UP,
    "to-zero": DEFAULT | TO_ZERO,
    "flags": DEFAULT | FLAGS,
    "trap": DEFAULT & ~TRAPS,
}


def make(cell, how=None, dtype="float32", num_layers=1, sizes=(19, 37)):
    config = StackConfig(cell, *sizes, num_layers=num_layers)
    weights = reference.random_weights(config, np.random.default_rng(5), dtype)
    return LAYERS[cell].from_state_dict(weights, **(how or {}))


def inputs(layer, steps, batch):
    shape = (steps, batch, layer.input_size)
    return np.random.default_rng(6).standard_normal(shape).astype(layer.dtype)


def halving(cell, how, dtype):
    """A layer whose state, fed zeros, halves at every step: gates of sigmoid(0), candidate 0."""
    config = StackConfig(cell, 3, 37)
    weights = {name: np.zeros(shape, dtype) for name, shape in config.shapes().items()}
    if cell == "RNN":
        weights["weight_hh_l0"] = np.eye(37, dtype=dtype) / 2
    return LAYERS[cell].from_state_dict(weights, **how)


def set_state(stream, layer, value):
    """Every h, and c where there is one, of the stream."""
    state = np.full((1, stream.batch, layer.hidden_size), value, layer.dtype)
    stream.state = (state, state) if isinstance(layer, fastrnn.LSTM) else state


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Path of the compiled interposer."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        pytest.skip("interposes on glibc")
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("interpose") / "interpose.so"
    source = Path(__file__).with_name("interpose.c")
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fno-builtin"]
    subprocess.run([*command, "-o", path, source, "-ldl", "-lpthread"], check=True)
    return path


def child(name, *arguments, preload=None):
    """Run a function of this file in another process; one thread, and Python's memory from malloc."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONMALLOC": "malloc"}
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    return subprocess.run(
        [sys.executable, __file__, name, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def nothing(x, out=None):
    return out


def many(step, x, out, times):
    """The loop that is counted; that it adds nothing itself is measured on `nothing`."""
    for _ in times:
        step(x, out=out)


def counted(library, step, x, out):
    """Calls of allocators and of locks during STEPS steps."""
    counting = ctypes.c_int.in_dll(library, "counting")
    counts = [ctypes.c_ulong.in_dll(library, name) for name in ("allocations", "locks")]
    before = [count.value for count in counts]
    times = repeat(None, STEPS)
    counting.value = 1
    many(step, x, out, times)
    counting.value = 0
    return [count.value - old for count, old in zip(counts, before, strict=True)]


def pooled(layer, x, out):
    """The step of all of a pool's streams, and its arguments, for `counted`."""
    pool = layer.pool(9)
    ids = np.array([pool.open() for _ in x])[::-1].copy()
    return (lambda x, out: pool.step(ids, x, out)), x, out


def count(path):
    """Child: counts of every case, of a call that does nothing, and of one that allocates."""
    library = ctypes.CDLL(path)
    many(nothing, None, None, range(10))
    result = {"nothing": counted(library, nothing, None, None)}
    # as a step does, a call by ctypes releases the GIL and takes it again
    result["gil"] = counted(library, lambda x, out: library.nothing(), None, None)
    for case in CASES:
        isa, cell, num_layers, batch, weights = case
        layer = make(cell, {"isa": isa, "weight_dtype": weights}, num_layers=num_layers)
        x, out = inputs(layer, 1, batch)[0], np.empty((batch, 37), np.float32)
        many(layer.stream(batch).step, x, out, range(10))  # warms the interpreter, not the stream
        result[str(case)] = counted(library, layer.stream(batch).step, x, out)
        many(*pooled(layer, x, out), range(100))  # of another pool: warms the interpreter
        result[f"pool {case}"] = counted(library, *pooled(layer, x, out))
    result["without out"] = counted(library, layer.stream(batch).step, x, None)
    print(json.dumps(result))


@pytest.fixture(scope="module")
def counts(library):
    done = child("count", library, preload=library)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("of", ["", "pool "], ids=["stream", "pool"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_a_step_allocates_nothing_and_takes_no_lock(counts, case, of):
    """From the first step on; the only locks are those by which Python hands over its GIL."""
    allocations, locks = counts[f"{of}{case}"]
    assert allocations == 0
    assert locks == counts["gil"][1]


def test_the_counting_sees_allocations_and_locks(counts):
    assert counts["nothing"] == [0, 0]
    assert counts["without out"][0] >= 2 * STEPS  # at least the result, made and freed
    assert counts["gil"][1] >= STEPS


def sealed(path, isa, *calls):
    """Child: streams of every cell step while system calls are forbidden; then calls os.calls()."""
    library = ctypes.CDLL(path)
    runs = []
    for cell in LAYERS:
        layer = make(cell, {"engine": "simd", "isa": isa}, num_layers=2)
        x, out = inputs(layer, 1, 7)[0], np.empty((7, 37), np.float32)
        many(layer.stream(7).step, x, out, range(10))  # warms the interpreter, not the stream
        runs.append((layer.stream(7).step, x, out, repeat(None, STEPS)))
    if library.forbid_system_calls():
        os._exit(NO_SECCOMP)
    for run in runs:
        many(*run)
    for call in calls:
        getattr(os, call)()
    library.exit_thread(0)


@EVERY_ISA
def test_a_step_makes_no_system_call(library, isa):
    done = child("sealed", library, isa)
    if done.returncode == NO_SECCOMP:
        pytest.skip("this system cannot forbid system calls")
    assert done.returncode == 0, done.stderr


def test_a_system_call_is_seen(library):
    done = child("sealed", library, available_isas()[0], "getppid")
    if done.returncode == NO_SECCOMP:
        pytest.skip("this system cannot forbid system calls")
    assert done.returncode == KILLED


def in_mode(library, mode, call, *arguments):
    """What call(*arguments) returns in that floating-point mode, and the mode after it."""
    library.set_mode(mode)
    try:
        return call(*arguments), library.get_mode()
    finally:
        library.set_mode(DEFAULT)


def modes(path, how, dtype):
    """Child: the mode after a step, a run and a whole sequence in every mode, and their results."""
    library = ctypes.CDLL(path)
    library.get_mode.restype = ctypes.c_uint
    results = {name: {} for name in MODES}
    for cell, (name, mode) in product(LAYERS, MODES.items()):
        layer = make(cell, json.loads(how), dtype, num_layers=2)
        x = inputs(layer, 5, 3)
        x[:, 2] = np.inf  # raises flags, and would trap
        for what, call, argument in (
            ("step", layer.stream(3).step, x[0]),
            ("run", layer.stream(3).run, x),
            ("layer", layer, x),
        ):
            value, after = in_mode(library, mode, call, argument)
            y = value[0] if what == "layer" else value
            results[name][f"{cell} {what}"] = [after, y.tobytes().hex()]
    print(json.dumps(results))


@EVERY_ENGINE
def test_the_callers_floating_point_mode(library, how, dtype):
    """Rounding, flushing, traps and sticky flags stay the caller's, and do not reach the result."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("sets MXCSR, which is x86's")
    done = child("modes", library, json.dumps(how), dtype)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for name, mode in MODES.items():
        for what, (after, y) in results[name].items():
            assert after == mode, (name, what)
            assert y == results["default"][what][1], (name, what)


@EVERY_CELL
@EVERY_ENGINE
def test_denormals_count_as_zeros(how, dtype, cell):
    """In x and in the state, and though the weights would make normal numbers of them."""
    config = StackConfig(cell, 19, 37, bias=False)
    weights = reference.random_weights(config, np.random.default_rng(7), dtype, scale=1e6)
    layer = LAYERS[cell].from_state_dict(weights, **how)
    small = np.finfo(dtype).tiny / 100
    x = np.full((4, 3, layer.input_size), small, dtype)
    stream = layer.stream(3)
    set_state(stream, layer, small)
    assert not stream.step(x[0]).any()
    set_state(stream, layer, small)
    assert not stream.run(x).any()
    assert not layer(x)[0].any()


@EVERY_CELL
@EVERY_ENGINE
def test_a_state_decays_to_zero(how, dtype, cell):
    """Past the smallest normal number it is zero at once: no step computes with denormals."""
    layer = halving(cell, how, dtype)
    stream = layer.stream(2)
    tiny = np.finfo(dtype).tiny
    set_state(stream, layer, 64 * tiny)
    x = np.zeros((2, 3), dtype)
    steps = [stream.step(x) for _ in range(10)]
    for y in steps:
        assert ((y == 0) | (y >= tiny)).all()
    assert (steps[3] > 0).all()
    assert not steps[7].any()
    assert not any(np.any(part) for part in np.atleast_1d(stream.state))


def forked(isa):
    """Child: steps, forks, steps on in parent and child; prints of each cell who has the bits."""
    for cell in LAYERS:
        layer = make(cell, {"engine": "simd", "isa": isa}, num_layers=2)
        x = inputs(layer, 40, 3)
        expected = layer.stream(3).run(x)
        stream = layer.stream(3)
        stream.run(x[:10])
        process = os.fork()
        y = np.stack([stream.step(frame) for frame in x[10:]])
        right = np.array_equal(y, expected[10:]) and np.array_equal(layer(x)[0], expected)
        if process == 0:
            os._exit(0 if right else 1)
        print(cell, right, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0)


@EVERY_ISA
def test_a_fork_goes_on(isa):
    done = child("forked", isa)
    assert done.stdout.splitlines() == [f"{cell} True True" for cell in LAYERS], done.stderr


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
