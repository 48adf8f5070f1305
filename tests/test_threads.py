"""threads=: the same bits, no thread before it is wanted, none that spins, forks and exits well."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import reference
from test_same_bits import EVERY_ISA, EVERY_KIND, LAYERS, inputs, parts

import fastrnn
from fastrnn.layers.weights import StackConfig

SIZES = (70, 500)  # enough work for a second thread; neither is a multiple of any vector width
LINUX = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")


def make(isa, cell, options, proj_size, threads, **more):
    config = StackConfig(cell, *SIZES, num_layers=2, proj_size=proj_size, **more)
    weights = reference.random_weights(config, np.random.default_rng(5))
    return LAYERS[cell].from_state_dict(weights, isa=isa, threads=threads, **options)


@EVERY_ISA
@EVERY_KIND
@pytest.mark.parametrize(("threads", "batch"), [(2, 1), (2, 7), (3, 5), (2, 100), (64, 2)])
def test_any_number_of_threads_gives_the_same_bits(isa, cell, options, proj_size, threads, batch):
    one, many = (make(isa, cell, options, proj_size, n) for n in (1, threads))
    x = inputs(one, 7, batch)
    y, state = one(x)
    y_many, state_many = many(x)
    np.testing.assert_array_equal(y_many, y)
    for a, b in zip(parts(state_many), parts(state), strict=True):
        np.testing.assert_array_equal(a, b)
    stream = many.stream(batch)
    np.testing.assert_array_equal([stream.step(frame) for frame in x], y)


@EVERY_ISA
@EVERY_KIND
def test_ragged_rows_in_both_directions(isa, cell, options, proj_size):
    one, many = (make(isa, cell, options, proj_size, n, bidirectional=True) for n in (1, 2))
    x = inputs(one, 9, 6)
    lengths = [3, 9, 1, 7, 7, 2]
    y, state = one(x, lengths=lengths)
    y_many, state_many = many(x, lengths=lengths)
    np.testing.assert_array_equal(y_many, y)
    for a, b in zip(parts(state_many), parts(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_callers_with_several_threads_each():
    layer = make(None, "GRU", {}, 0, 2)
    x = inputs(layer, 20, 3)
    expected, _ = layer(x)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(layer(x)[0], expected):
                wrong.append(1)

    callers = [threading.Thread(target=work) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_is_a_positive_integer(threads):
    with pytest.raises(ValueError, match=r"threads=.*, expected an integer >= 1"):
        fastrnn.LSTM(3, 4, threads=threads)


def test_the_blas_engine_has_none_of_its_own():
    with pytest.raises(ValueError, match="threads=2, but the blas engine leaves threads to BLAS"):
        fastrnn.LSTM(3, 4, engine="blas", threads=2)


PROLOGUE = """
import os, time
import numpy as np
import fastrnn
from fastrnn.layers.weights import StackConfig

def threads():
    return len(os.listdir("/proc/self/task"))

rng = np.random.default_rng(0)
shapes = StackConfig("GRU", 70, 300).shapes()
weights = {k: rng.uniform(-0.05, 0.05, s).astype(np.float32) for k, s in shapes.items()}
one, two = (fastrnn.GRU.from_state_dict(weights, threads=n) for n in (1, 2))
x = rng.standard_normal((50, 2, 70)).astype(np.float32)
"""


def python(code):
    """Run `code` in a process of its own, where nothing else has made a thread."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + textwrap.dedent(code)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@LINUX
def test_threads_are_made_when_wanted_and_kept():
    assert python(
        """
        counts = [threads()]
        for layer in (one, two, two, one):
            layer(x)
            counts.append(threads() - counts[0])
        print(*counts[1:])
        """
    ) == ["0", "1", "1", "1"]


@LINUX
def test_idle_threads_sleep():
    (seconds,) = python(
        """
        two(x)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        print(time.process_time() - before)
        """
    )
    assert float(seconds) < 0.1


@LINUX
def test_a_child_makes_its_own():
    assert python(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later: that there are threads
        expected, _ = two(x)
        pid = os.fork()
        if pid == 0:
            alone = threads() == 1
            os._exit(0 if alone and np.array_equal(two(x)[0], expected) and threads() == 2 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(np.array_equal(two(x)[0], expected))
        """
    ) == ["0", "True"]


@LINUX
@pytest.mark.parametrize("batch", [1, 16])
def test_threads_that_share_one_core_cost_little(batch):
    """A helper without a core of its own is not waited for: turn by turn, in the same time."""
    (ratio,) = python(
        f"""
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        x = np.resize(x, (200, {batch}, 70))
        taken = {{one: [], two: []}}
        for _ in range(40):
            for layer, times in taken.items():
                begin = time.perf_counter()
                layer(x)
                times.append(time.perf_counter() - begin)
        print(sum(taken[two]) / sum(taken[one]))
        """
    )
    assert float(ratio) < 2  # 1.0 to 1.1; with a barrier that waits, 5 to 13


@LINUX
def test_an_exit_beside_a_run_in_a_daemon_thread():
    assert python(
        """
        import threading

        def forever():
            while True:
                two(x)

        for _ in range(2):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
        print("done")
        """
    ) == ["done"]
