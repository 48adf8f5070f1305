"""Models whose files have states: streams and pools, beside calls of the file and ONNX Runtime."""

from __future__ import annotations

import threading
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastrnn

SILERO = Path(str(find_spec("silero_vad").origin)).parent / "data"
FILES = sorted(path.name for path in SILERO.glob("*.onnx"))
TOLERANCE = 2e-5
FRAME, CONTEXT = 512, 64


def silero(file: str, **more) -> fastrnn.Model:
    has_rate = file in (
        "silero_vad.onnx",
        "silero_vad_16k_op15.onnx",
        "silero_vad_op18_ifless.onnx",
    )
    return fastrnn.load_model(SILERO / file, fixed={"sr": 16000} if has_rate else None, **more)


def frames(seconds: int) -> np.ndarray:
    """Speech over and over, in noise and of changing loudness, as frames with their context."""
    with wave.open(str(Path(__file__).parent / "data" / "speech.wav")) as file:
        speech = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    samples = np.resize(speech, seconds * 16000).astype(np.float32)
    rng = np.random.default_rng(0)
    gain = np.interp(
        np.arange(len(samples)), np.linspace(0, len(samples), 30), rng.uniform(0, 1, 30)
    )
    samples = (samples * gain + rng.standard_normal(len(samples)) * 0.003).astype(np.float32)
    padded = np.pad(samples, (CONTEXT, -len(samples) % FRAME))
    starts = range(0, len(samples), FRAME)
    return np.stack([padded[start : start + CONTEXT + FRAME] for start in starts])


@pytest.mark.parametrize("file", FILES)
def test_silero_over_a_minute(file):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(SILERO / file), options)
    names = [value.name for value in session.get_inputs()]
    states = {
        value.name: np.zeros([n if isinstance(n, int) else 1 for n in value.shape], np.float32)
        for value in session.get_inputs()
        if value.name not in ("input", "sr")
    }
    rate = {"sr": np.array(16000, np.int64)} if "sr" in names else {}
    model = silero(file)
    stream = model.stream(batch=1)
    wanted, got = [], []
    for frame in frames(60)[:, None]:
        output, *news = session.run(None, {"input": frame, **states, **rate})
        states = dict(zip(states, news, strict=True))
        wanted.append(output.ravel())
        got.append(
            stream.step(
                frame if model.inputs["input"].shape[0] != "sequence_length" else frame[None]
            ).ravel()
        )
    wanted, got = np.array(wanted), np.array(got)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE)
    assert np.array_equal(got > 0.5, wanted > 0.5)
    assert 0.1 < (wanted > 0.5).mean() < 0.9


@pytest.mark.parametrize("file", FILES)
def test_a_pool_gives_what_each_stream_gives_alone(file):
    model = silero(file)
    rng = np.random.default_rng(1)
    steps, count = 6, 64
    heard = frames(30)[: steps * count].reshape(steps, count, -1)
    if model.inputs["input"].shape[0] == "sequence_length":
        heard = heard[:, :, None]
    alone = [model.stream() for _ in range(count)]
    wanted = np.array([[s.step(x) for s, x in zip(alone, row, strict=True)] for row in heard])
    pool = model.pool(capacity=5, grow=True)
    ids = [pool.open() for _ in range(count)]
    for step in range(steps):
        order = rng.permutation(count)
        some = order[: rng.integers(1, count)]
        for part in (some, order[len(some) :]):
            got = pool.step([ids[i] for i in part], heard[step][part])
            assert np.array_equal(got, wanted[step][part])
        moved = int(rng.integers(count))
        saved = pool.save(ids[moved])
        pool.close(ids[moved])
        ids[moved] = pool.load(saved)


def accumulator(shape=("batch", 3), names=("x", "total", "y", "total_next")) -> bytes:
    """Adds its input to a state, which is its output, too."""
    x, before, y, after = names
    graph = helper.make_graph(
        [
            helper.make_node("Add", [x, before], [after]),
            helper.make_node("Mul", [after, "two"], [y]),
        ],
        "accumulator",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in (x, before)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in (y, after)],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "accumulator.onnx"
    path.write_bytes(accumulator())
    return fastrnn.load_model(path)


def write(tmp_path, **more) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(accumulator(**more))
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [("state", "stateN"), ("h", "hn"), ("h0", "hn"), ("h_in", "h_out"), ("prev_h", "next_h"),
     ("cell", "cell_out"), ("inState", "outState"), ("hidden_0", "hidden_1")],
)  # fmt: skip
def test_states_are_found_by_name(tmp_path, before, after):
    model = fastrnn.load_model(write(tmp_path, names=("frame", before, "y", after)))
    assert model.states == {before: after}


def test_states_that_are_not_found_are_asked_for(tmp_path):
    path = write(tmp_path, names=("frame", "memory", "y", "what_remains"))
    with pytest.raises(ValueError, match=r"states= may be .*'memory': 'what_remains'"):
        fastrnn.load_model(path).stream()
    model = fastrnn.load_model(path, states={"memory": "what_remains"})
    assert np.array_equal(model.stream().step(np.ones(3, np.float32)), [2, 2, 2])


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"z": "y"}, r"states has 'z', expected an input: x, total"),
        ({"total": "z"}, r"states has 'z', expected an output: y, total_next"),
        ({"x": "y", "total": "y"}, "an output twice"),
        ({"x": "y", "total": "total_next"}, "every input"),
    ],
)
def test_wrong_states_are_refused(tmp_path, states, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.load_model(write(tmp_path), states=states)


def test_a_state_of_open_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"state 'total'.*expected a number"):
        fastrnn.load_model(write(tmp_path, shape=("batch", "width"))).stream()


def test_stream(model):
    stream = model.stream(batch=2)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(stream.step(x), 2 * x)
    assert np.array_equal(stream.step(x=x), 4 * x)
    assert np.array_equal(stream.state, 2 * x)
    out = np.empty_like(x)
    assert stream.step(x, out=out) is out
    assert np.array_equal(out, 6 * x)
    stream.reset([1])
    assert np.array_equal(stream.state, 3 * x * [[1], [0]])
    stream.state = x
    assert np.array_equal(stream.step(x), 4 * x)
    other = model.stream(batch=2, initial_state=x)
    assert np.array_equal(other.step(x), 4 * x)
    other.reset()
    assert np.array_equal(other.state, x)


def test_states_that_become_each_other(tmp_path):
    """The last two frames, as a convolution keeps its context: one state is the next of the other."""
    shape = ("batch", 2)
    names = ("x", "old", "new"), ("y", "old_out", "new_out")
    made = helper.make_graph(
        [
            helper.make_node("Sub", ["x", "old"], ["y"]),
            helper.make_node("Identity", ["new"], ["old_out"]),
            helper.make_node("Identity", ["x"], ["new_out"]),
        ],
        "delay",
        *(
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in side]
            for side in names
        ),
    )
    path = tmp_path / "delay.onnx"
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(made, opset_imports=opset).SerializeToString())
    model = fastrnn.load_model(path)
    assert model.states == {"old": "old_out", "new": "new_out"}
    x = np.random.default_rng(0).standard_normal((9, 3, 2)).astype(np.float32)
    before = np.concatenate([np.zeros((2, 3, 2), np.float32), x])
    stream, pool = model.stream(3), model.pool(3)
    ids = [pool.open() for _ in range(3)]
    for t in range(9):
        assert np.array_equal(stream.step(x[t]), x[t] - before[t])
        assert np.array_equal(pool.step(ids, x[t]), x[t] - before[t])
    again = model.pool(3)
    ids = [again.open() for _ in range(3)]
    y = again.run(ids, x.swapaxes(0, 1))
    assert np.array_equal(y, (x - before[:9]).swapaxes(0, 1))
    assert again.run(ids, np.empty((3, 0, 2), np.float32)).shape == (3, 0, 2)


def test_results_and_states_are_copies(model):
    stream = model.stream()
    x = np.ones(3, np.float32)
    first, state = stream.step(x), stream.state
    stream.step(x)
    assert np.array_equal(first, [2, 2, 2])
    assert np.array_equal(state, [1, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "named", "error", "message"),
    [
        ((), {}, TypeError, "'x' is missing"),
        ((np.ones(3),), {"x": np.ones(3)}, TypeError, "'x' is given twice"),
        ((), {"z": np.ones(3)}, TypeError, "'z' expected x"),
        ((np.ones(3), np.ones(3)), {}, TypeError, "2 inputs given, expected 1"),
        ((np.ones(4),), {}, ValueError, r"x is \(4,\), expected \(3\)"),
        ((np.ones((1, 3)),), {}, ValueError, r"x is \(1, 3\), expected \(3\)"),
        ((np.ones(3, complex),), {}, TypeError, "complex128, expected float32"),
        ((["a"],), {}, TypeError, "expected float32"),
        ((np.ones(3),), {"out": np.empty(4, np.float32)}, ValueError, r"out is"),
        ((np.ones(3),), {"out": np.empty(3)}, TypeError, "out is"),
        ((np.ones(3),), {"out": [1, 2, 3]}, TypeError, "out is list"),
    ],
)
def test_what_does_not_fit_changes_nothing(model, arguments, named, error, message):
    stream, pool = model.stream(), model.pool(2)
    id = pool.open()
    stream.step(np.ones(3))
    pool.step([id], np.ones((1, 3)))
    with pytest.raises(error, match=message):
        stream.step(*arguments, **named)
    assert np.array_equal(stream.state, np.ones(3))
    with pytest.raises((ValueError, TypeError)):
        pool.step([id], *[np.asarray(x)[None] for x in arguments], **named)
    assert np.array_equal(pool.get_state([id]), np.ones((1, 3)))


@pytest.mark.parametrize(
    "state", [np.ones(4), np.ones((1, 3)), {"h": np.ones(3)}, np.ones(3, complex), None]
)
def test_a_state_that_does_not_fit_changes_nothing(model, state):
    stream = model.stream()
    stream.step(np.ones(3))
    with pytest.raises((ValueError, TypeError)):
        stream.state = state
    assert np.array_equal(stream.state, np.ones(3))


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2"])
def test_a_batch_is_an_integer(model, batch):
    with pytest.raises(ValueError, match="batch="):
        model.stream(batch)


def test_a_pool(model):
    pool = model.pool(capacity=2)
    a, b = pool.open(), pool.open()
    with pytest.raises(fastrnn.PoolFullError, match="all 2 streams"):
        pool.open()
    one = np.ones((1, 3), np.float32)
    pool.step([a], one)
    assert np.array_equal(pool.step([b, a], np.concatenate([one, one])), [[2] * 3, [4] * 3])
    out = np.empty((1, 3), np.float32)
    assert pool.step([a], one, out=out) is out
    pool.set_state([b], one * 7)
    assert np.array_equal(pool.get_state([a, b]), np.concatenate([one * 3, one * 7]))
    pool.reset([a])
    assert np.array_equal(pool.get_state([a]), one * 0)
    pool.close(a)
    assert a not in pool
    assert b in pool
    assert len(pool) == 1
    c = pool.open()
    assert c not in (a, b)
    assert np.array_equal(pool.get_state([c]), one * 0)
    assert pool.step([], np.empty((0, 3), np.float32)).shape == (0, 3)
    for ids, error in (([a], LookupError), ([b, b], ValueError), ([True], TypeError),
                       (["a"], TypeError), ([1.5], TypeError), ([1 << 70], LookupError)):  # fmt: skip
        with pytest.raises(error):
            pool.step(ids, np.ones((len(ids), 3)))
    assert np.array_equal(pool.get_state([b]), one * 7)


def test_saved_states(model, tmp_path):
    pool = model.pool(3)
    id = pool.open()
    pool.step([id], np.ones((1, 3)))
    data = pool.save(id)
    again = fastrnn.load_model(write(tmp_path)).pool(1)
    assert np.array_equal(again.get_state([again.load(data)]), np.ones((1, 3)))
    with pytest.raises(fastrnn.StateError, match="damaged"):
        pool.load(data[:-1] + bytes([data[-1] ^ 1]))
    other = fastrnn.load_model(write(tmp_path, shape=("batch", 4)))
    with pytest.raises(fastrnn.StateError, match="another model"):
        other.pool(1).load(data)
    with pytest.raises(TypeError):
        pool.load("a state")
    assert len(pool) == 1


def test_streams_meet_no_other_thread(model):
    """Steps of one stream from many threads: each takes effect once, or is told BusyError."""
    stream, pool = model.stream(), model.pool(1)
    id = pool.open()
    done = [0, 0]
    lock = threading.Lock()
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(30)
        for _ in range(200):
            for i, step in enumerate((
                lambda: stream.step(np.ones(3, np.float32)),
                lambda: pool.step([id], np.ones((1, 3), np.float32)),
            )):  # fmt: skip
                try:
                    step()
                except fastrnn.BusyError:
                    continue
                with lock:
                    done[i] += 1
        stream.step(np.ones(3, np.float32), wait=True)
        pool.step([id], np.ones((1, 3), np.float32), wait=True)
        with lock:
            done[0] += 1
            done[1] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert np.array_equal(stream.state, np.full(3, done[0]))
    assert np.array_equal(pool.get_state([id]), np.full((1, 3), done[1]))


def test_a_batch_of_one_in_the_file_is_stepped_row_by_row(tmp_path):
    model = fastrnn.load_model(write(tmp_path, shape=(1, 3)))
    assert "one by one" in repr(model)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    stream = model.stream(2)
    stream.step(x)
    assert np.array_equal(stream.step(x), 4 * x)
    assert np.array_equal(model.stream().step(x[1]), 2 * x[1])
