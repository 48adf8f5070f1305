"""Eight threads at once on one of everything: right, or refused, and the bits of one thread.

With a GIL these tests are about kernels that run without it; on a free-threaded Python (`packaging/freethreaded.py`)
about all that stands around them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import pickle
import random
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.errors import BusyError
from fastrnn.layers.weights import StackConfig
from fastrnn.serve import Batcher

THREADS = 8
LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
CELLS = pytest.mark.parametrize("cell", list(LAYERS))
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def make(cell="LSTM", sizes=(5, 33), num_layers=2, **options):
    config = StackConfig(cell, *sizes, num_layers=num_layers)
    weights = reference.random_weights(config, np.random.default_rng(0))
    return LAYERS[cell].from_state_dict(weights, **options)


def frames(layer, *lead, seed=1):
    shape = (*lead, layer.input_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(layer.dtype)


def together(work, threads=THREADS):
    """Call work(0), work(1)... at once, a thread each; their results, or what the first of them raised."""
    start, results, errors = threading.Barrier(threads), [None] * threads, []

    def one(number):
        try:
            start.wait()
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    crowd = [threading.Thread(target=one, args=[number], daemon=True) for number in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(120)
        assert not thread.is_alive(), "one waits for another for ever"
    if errors:
        raise errors[0]
    return results


def counter():
    """A layer whose outputs are how many frames of ones there were."""
    weights = {"weight_ih_l0": np.full((33, 5), 0.2), "weight_hh_l0": np.eye(33)}
    weights |= {"bias_ih_l0": np.zeros(33), "bias_hh_l0": np.zeros(33)}
    return fastrnn.RNN.from_state_dict(weights, nonlinearity="relu", dtype=np.float32)


def counted(y):
    """The one number that all of an output is."""
    assert np.unique(np.round(y)).size == 1, y
    return int(np.round(y.flat[0]))


def assert_counted(numbers):
    """Each call took effect once."""
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


@pytest.mark.skipif(
    not FREE, reason="this Python has a GIL: packaging/freethreaded.py makes one without"
)
def test_importing_leaves_the_gil_off():
    modules = "fastrnn, fastrnn.serve, fastrnn._kernels.blas, fastrnn._kernels.codes"
    program = f"import sys, {modules}; print(sys._is_gil_enabled())"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHON_GIL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_every_compiled_module_says_that_it_needs_no_gil():
    sources = sorted(Path(__file__).parent.parent.glob("kernels/*.pyx"))
    if not sources:
        pytest.skip("not a source tree")
    for source in sources:
        head = itertools.takewhile(lambda line: line[0] == "#", source.read_text().splitlines())
        assert any("freethreading_compatible=True" in line for line in head), source.name


@CELLS
def test_disjoint_streams_of_one_pool(cell):
    layer, steps, each = make(cell), 60, 6
    pool = layer.pool(THREADS * each)
    ids = np.array(pool.open(THREADS * each)).reshape(
        each, THREADS
    )  # neighbours are other threads'
    x = frames(layer, THREADS, steps, each)

    def work(number):
        own, out = np.ascontiguousarray(ids[:, number]), np.empty((each, 33), np.float32)
        return np.stack([pool.step(own, x[number, t], out=out).copy() for t in range(steps)])

    for number, y in enumerate(together(work)):
        np.testing.assert_array_equal(y, layer.stream(batch=each).run(x[number]))


def test_overlapping_streams_of_one_pool():
    layer, count, tries = counter(), 12, 150
    pool = layer.pool(count)
    ids, x = pool.open(count), np.ones((count, 5), np.float32)

    def work(number):
        rng, seen = random.Random(number), []
        for _ in range(tries):
            rows = rng.sample(range(count), rng.randint(1, 4))
            try:
                y = pool.step([ids[row] for row in rows], x[rows])
            except BusyError:
                continue
            seen += [(row, counted(one)) for row, one in zip(rows, y, strict=True)]
        return seen

    seen = list(itertools.chain(*together(work)))
    for row in range(count):
        assert_counted([number for other, number in seen if other == row])
    assert seen


def test_streams_that_come_and_go_in_one_pool():
    layer, x = make(), frames(make(), 5, 1)
    pool = layer.pool(2, grow=True)
    expected = layer.stream(batch=1).run(x)

    def work(number):
        had = []
        for _ in range(30):
            a = pool.open()
            y = [pool.step([a], frame) for frame in x[:3]]
            b = pool.load(pool.save(a))
            c = pool.clone(b)
            had += [a, b, c]
            np.testing.assert_array_equal(y, expected[:3])
            for frame, end in zip(x[3:], expected[3:], strict=True):
                np.testing.assert_array_equal(
                    pool.step([c, a, b], np.repeat(frame, 3, 0)), np.repeat(end, 3, 0)
                )
            assert a in pool
            pool.close([a, b, c])
        return had

    had = list(itertools.chain(*together(work)))
    assert len(set(had)) == len(had)
    assert len(pool) == 0
    assert pool.capacity <= 64


def test_an_evicting_thread_takes_no_stream_that_is_used():
    layer = make()
    pool, ended = layer.pool(THREADS), threading.Event()
    ids, x = pool.open(THREADS), frames(layer, 1)

    def work(number):
        if number == 0:
            while not ended.is_set():
                assert not pool.evict(30)
            return
        for _ in range(200):
            pool.step([ids[number]], x)
        if number == 1:
            ended.set()

    together(work)
    assert len(pool) == THREADS


def test_ids_that_another_thread_changes():
    """The list that a call is given is never the same twice: it is read once, or the call is refused."""
    layer = make()
    pool = layer.pool(16)
    opened = pool.open(16)
    ids, x, done = opened[:8], frames(layer, 8), threading.Event()

    def work(number):
        rng = random.Random(number)
        if number:
            while not done.is_set():
                ids[rng.randrange(4)] = rng.choice([rng.choice(opened), "x", -1, 1 << 70])
                ids.append(opened[8])
                del ids[-1:]
            return 0
        told = 0
        for _ in range(1000):
            try:
                assert pool.step(ids, x).shape == (8, 33)
            except (ValueError, TypeError, LookupError):
                told += 1
        done.set()
        return told

    assert sum(together(work)) > 0
    assert pool.step(opened, frames(layer, 16)).shape == (16, 33)


@CELLS
@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"engine": "blas"}], ids=str)
def test_one_layer(cell, options):
    layer = make(cell, (40, 130), **options)
    inputs = [frames(layer, 7, 3, seed=seed) for seed in range(THREADS)]
    lengths = [7, 2, 5]
    expected = [(layer(x)[0], layer(x, lengths=lengths)[0]) for x in inputs]

    def work(number):
        for _ in range(6):
            y = layer(inputs[number])[0], layer(inputs[number], lengths=lengths)[0]
            np.testing.assert_array_equal(y, expected[number])

    together(work)


def test_many_streams_of_one_layer():
    layer, x = make(), frames(make(), 40, 3)
    expected = layer.stream(batch=3).run(x)

    def work(number):
        for _ in range(5):
            stream, out = layer.stream(batch=3), np.empty((3, 33), np.float32)
            stream.load(layer.stream(batch=3).save())
            row = x[0].copy()
            bound = stream.bind(row, out)
            for frame, y in zip(x[:20], expected, strict=False):
                row[...] = frame
                np.testing.assert_array_equal(bound(), y)
            other = layer.stream(batch=3)
            other.state = stream.state
            np.testing.assert_array_equal(other.run(x[20:]), expected[20:])

    together(work)


@pytest.mark.parametrize("how", ["step", "out", "bound", "run", "wait"])
def test_one_stream(how):
    """Each call takes effect once, or is told that another is under way."""
    stream, x, tries = counter().stream(), np.ones(5, np.float32), 300
    out = [np.empty(33, np.float32) for _ in range(THREADS)]
    calls = {
        "step": lambda number: stream.step(x),
        "out": lambda number: stream.step(x, out[number]),
        "bound": lambda number: bound[number](),
        "run": lambda number: stream.run(x[None]),
        "wait": lambda number: stream.step(x, wait=True),
    }
    bound = [stream.bind(x, one) for one in out]

    def work(number):
        seen = []
        for _ in range(tries):
            try:
                seen.append(counted(calls[how](number)))
            except BusyError:
                assert how != "wait"
        return seen

    seen = list(itertools.chain(*together(work)))
    assert_counted(seen)
    assert len(seen) == THREADS * tries if how == "wait" else seen


def test_one_stream_asked_for_from_below():
    """What C sees of a stream is made when it is first asked for: once."""

    class Head(ctypes.Structure):
        _fields_ = (
            ("version", ctypes.c_size_t),
            ("size", ctypes.c_size_t),
            ("stream_of", ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)),
            ("stream_release", ctypes.PYFUNCTYPE(None, ctypes.c_void_p)),
        )

    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = Head.from_address(get(fastrnn._C_API, b"fastrnn._C_API"))
    stream_of, release = table.stream_of, table.stream_release  # ctypes' fields are not for threads
    for _ in range(20):
        stream = make().stream(batch=2)
        before = sys.getrefcount(stream._stepper)
        found = together(lambda number, stream=stream: stream_of(stream))
        held = sys.getrefcount(stream._stepper)
        together(lambda number, below=found[0]: release(below))
        after = sys.getrefcount(stream._stepper)
        assert len(set(found)) == 1
        assert (held, after) == (before + THREADS, before)


def test_loading_and_pickling(tmp_path):
    layer, x = make(), frames(make(), 4, 2)
    expected, fingerprint = layer(x)[0], layer.fingerprint
    path = tmp_path / "layer.safetensors"
    fastrnn.formats.write(path, layer.state_dict())

    def work(number):
        for _ in range(5):
            for other in (fastrnn.load(path), pickle.loads(pickle.dumps(layer)), make()):
                np.testing.assert_array_equal(other(x)[0], expected)
                assert other.fingerprint == fingerprint
            compact = make(weight_dtype="int8")
            assert compact.stream(batch=2).run(x).shape == expected.shape

    together(work)


def onnx_model(states: bool) -> bytes:
    """Of an LSTM between two products; its states are inputs and outputs, or it has none."""
    onnx_models = pytest.importorskip("onnx_models", reason="no onnx")
    node, value = onnx_models.helper.make_node, onnx_models.value
    rng, H = np.random.default_rng(0), 12
    weights = {
        "a": rng.standard_normal((6, 10)) * 0.4,
        "w": rng.standard_normal((1, 4 * H, 10)) * 0.3,
        "r": rng.standard_normal((1, 4 * H, H)) * 0.3,
        "b": rng.standard_normal((1, 8 * H)) * 0.3,
        "d": rng.standard_normal((H, 3)),
        "one": np.array([1]),
    }
    weights = {k: v.astype(np.int64 if k == "one" else np.float32) for k, v in weights.items()}
    lstm = ["p", "w", "r", "b", "", *(["h", "c"] if states else [])]
    nodes = [
        node("MatMul", ["x", "a"], ["m"]),
        node("Tanh", ["m"], ["p"]),
        node("LSTM", lstm, ["y4", "hn", "cn"], hidden_size=H),
        node("Squeeze", ["y4", "one"], ["y3"]),
        node("MatMul", ["y3", "d"], ["y"]),
    ]
    time = 1 if states else "time"
    inputs, outputs = [value("x", time, "batch", 6)], [value("y", time, "batch", 3)]
    if states:
        inputs += [value(name, 1, "batch", H) for name in "hc"]
        outputs += [value(name, 1, "batch", H) for name in ("hn", "cn")]
    return onnx_models.model(nodes, inputs, outputs, weights).SerializeToString()


def counting_model(states: bool) -> bytes:
    """As `counter`; its state is an input and an output, or it has none."""
    onnx_models = pytest.importorskip("onnx_models", reason="no onnx")
    node, value = onnx_models.helper.make_node, onnx_models.value
    weights = {"w": np.full((1, 9, 4), 0.25), "r": np.eye(9)[None], "one": np.array([1])}
    weights = {k: v.astype(np.int64 if k == "one" else np.float32) for k, v in weights.items()}
    given = ["x", "w", "r", "", "", *(["h"] if states else [])]
    nodes = [
        node("RNN", given, ["y4", "hn"], hidden_size=9, activations=["Relu"]),
        node("Squeeze", ["y4", "one"], ["y"]),
    ]
    time = 1 if states else "time"
    inputs, outputs = [value("x", time, "batch", 4)], [value("y", time, "batch", 9)]
    if states:
        inputs, outputs = (
            [*inputs, value("h", 1, "batch", 9)],
            [*outputs, value("hn", 1, "batch", 9)],
        )
    return onnx_models.model(nodes, inputs, outputs, weights).SerializeToString()


def test_one_model_from_its_first_call_on():
    model = fastrnn.load_model(onnx_model(states=False))
    alone = fastrnn.load_model(onnx_model(states=False))
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((1 + n % 3, 2, 6)).astype(np.float32) for n in range(THREADS)]
    expected = [alone(x) for x in inputs]

    def work(number):
        for _ in range(40):
            np.testing.assert_array_equal(model(inputs[number]), expected[number])

    together(work)


@pytest.mark.parametrize("states", [True, False], ids=["states", "along time"])
def test_one_models_pool(states):
    model = fastrnn.load_model(onnx_model(states))
    pool, steps, each = model.pool(2, grow=True), 25, 3
    shape = (THREADS, steps, 1, each, 6) if states else (THREADS, steps, each, 6)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    alone = fastrnn.load_model(onnx_model(states))

    def work(number):
        ids = pool.open(each)
        y = [pool.step(ids, frame) for frame in x[number]]
        saved = pool.save(ids)
        pool.close(ids)
        again = pool.load(saved)
        pool.close(again)
        return np.stack(y)

    for number, y in enumerate(together(work)):
        stream = alone.stream(batch=each)
        np.testing.assert_array_equal(y, [stream.step(frame) for frame in x[number]])
    assert len(pool) == 0


@pytest.mark.parametrize("states", [True, False], ids=["states", "along time"])
def test_one_models_stream(states):
    stream = fastrnn.load_model(counting_model(states)).stream()
    x = np.ones((1, 4) if states else (4,), np.float32)

    def work(number):
        seen = []
        for _ in range(100):
            with contextlib.suppress(BusyError):
                seen.append(counted(stream.step(x)))
        return seen

    seen = list(itertools.chain(*together(work)))
    assert_counted(seen)
    assert seen


def test_batchers_of_one_layer_each_in_a_loop_of_its_own():
    layer, clients = make(), 5
    x = frames(layer, THREADS, clients, 20)
    expected = layer.stream(batch=THREADS * clients).run(
        np.ascontiguousarray(x.reshape(-1, 20, 5).swapaxes(0, 1))
    )

    async def client(batcher, own):
        async with batcher.session() as session:
            first = [await session.step(frame) for frame in own[:10]]
            return np.concatenate([first, await session.run(own[10:])])

    async def serve(number):
        async with Batcher(layer, clients, 3) as batcher:
            return await asyncio.gather(*(client(batcher, own) for own in x[number]))

    found = together(lambda number: asyncio.run(serve(number)))
    np.testing.assert_array_equal(
        np.array(found).reshape(-1, 20, 33), np.ascontiguousarray(expected.swapaxes(0, 1))
    )
