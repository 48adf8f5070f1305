"""Models without states, run along time: what comes in pieces is what comes at once, bit for bit."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import model, value

import fastrnn
from fastrnn.layers.engines import available_isas

CHANNELS = 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass
class Stack:
    """A chain of nodes over x (batch, CHANNELS, frames), whose last value has a name."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    last: str = "x"

    def noise(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = (self.rng.standard_normal(shape) * 0.5).astype(np.float32)
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def add(self, op: str, *more: str, source: str | None = None, outputs: int = 1, **attributes):
        name = f"v{len(self.nodes)}"
        names = [name] + [""] * (outputs - 1)
        inputs = [self.last if source is None else source, *more]
        self.nodes.append(
            helper.make_node(op, inputs, names, name=f"{op}{len(self.nodes)}", **attributes)
        )
        self.last = name
        return name

    def write(self, path, shape=("batch", CHANNELS, "frames")) -> str:
        last = self.add("Identity")
        made = model(
            self.nodes,
            [value("x", *shape)],
            [helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)],
            self.weights,
        )
        path.write_bytes(made.SerializeToString())
        return str(path)


# Layers: each takes a stack and numbers drawn for it, and keeps the shape (batch, CHANNELS, time).


def conv(stack, draw):
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, CHANNELS]))
    weight = stack.noise(CHANNELS, CHANNELS // group, kernel)
    stack.add(
        "Conv", weight, stack.noise(CHANNELS), group=group, dilations=[dilation],
        strides=[draw(st.integers(1, 3))], pads=[draw(st.integers(0, 3)), draw(st.integers(0, 3))],
    )  # fmt: skip


def spread(stack, draw):
    stride = draw(st.integers(1, 3))
    kernel = draw(st.integers(stride, stride + 3))
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    weight = stack.noise(CHANNELS, CHANNELS, kernel)
    stack.add("ConvTranspose", weight, strides=[stride], pads=[before, after])


def pool(stack, draw):
    kernel = draw(st.integers(1, 4))
    pads = [draw(st.integers(0, kernel // 2)), draw(st.integers(0, kernel // 2))]
    more = {"kernel_shape": [kernel], "strides": [draw(st.integers(1, 3))], "pads": pads}
    if draw(st.booleans()):
        stack.add("MaxPool", **more)
    else:
        stack.add("AveragePool", count_include_pad=1, **more)


def pad(stack, draw):
    low, high = draw(st.integers(-2, 4)), draw(st.integers(-2, 4))
    pads = stack.constant(np.array([0, 0, low, 0, 0, high]))
    stack.add("Pad", pads, stack.constant(np.array(0.25, np.float32)))


def cut(stack, draw):
    begin, end = (
        draw(st.integers(0, 3)),
        draw(st.sampled_from([np.iinfo(np.int64).max, -1, -2, -3])),
    )
    step = draw(st.integers(1, 2))
    numbers = [stack.constant(np.array([n])) for n in (begin, end, 2, step)]
    stack.add("Slice", *numbers)


def joined_ends(stack, draw):
    """Constant frames in front and behind."""
    source, parts = stack.last, []
    for name in ("front", "end"):
        count = draw(st.integers(0, 3))
        if count:
            shape = stack.add("Shape", source=source)
            rows = stack.add("Gather", stack.constant(np.array([0])), source=shape)
            rest = stack.constant(np.array([CHANNELS, count]))
            stack.add("Concat", rest, source=rows, axis=0)
            parts.append(
                (name, stack.add("Expand", stack.last, source=stack.noise(1, CHANNELS, 1)))
            )
    front = [made for name, made in parts if name == "front"]
    end = [made for name, made in parts if name == "end"]
    first, *more = [*front, source, *end]
    stack.add("Concat", *more, source=first, axis=2)


def chomped(stack, draw):
    """As many frames as there were, of more: as causal convolutions are often written."""
    source, count = stack.last, draw(st.integers(1, 3))
    made = stack.add("Conv", stack.noise(CHANNELS, CHANNELS, count + 1), pads=[count, count])
    stack.add("Shape", source=source)
    length = stack.add("Gather", stack.constant(np.array([2])))
    zero, axis = stack.constant(np.array([0])), stack.constant(np.array([2]))
    stack.add("Slice", zero, length, axis, source=made)


def activation(stack, draw):
    stack.add(draw(st.sampled_from(["Relu", "Tanh", "Sigmoid", "Elu", "HardSwish", "Neg"])))


def normalisation(stack, draw):
    if draw(st.booleans()):
        names = [stack.noise(CHANNELS) for _ in range(3)]
        variance = stack.constant(stack.rng.uniform(0.5, 2, CHANNELS).astype(np.float32))
        stack.add("BatchNormalization", *names, variance)
    else:
        stack.add("Transpose", perm=[0, 2, 1])
        stack.add("LayerNormalization", stack.noise(CHANNELS), stack.noise(CHANNELS))
        stack.add("Transpose", perm=[0, 2, 1])


def recurrent(stack, draw):
    kind = draw(st.sampled_from(list(GATES)))
    gates = GATES[kind]
    weights = [stack.noise(1, gates * CHANNELS, CHANNELS) for _ in range(2)]
    stack.add("Transpose", perm=[2, 0, 1])
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    stack.add(kind, *weights, stack.noise(1, 2 * gates * CHANNELS), hidden_size=CHANNELS, **more)
    stack.add("Squeeze", stack.constant(np.array([1])))
    stack.add("Transpose", perm=[1, 2, 0])


def linear(stack, draw):
    """Over batch and time as one axis, as torch's time-distributed layers are."""
    stack.add("Transpose", perm=[0, 2, 1])
    before = stack.last
    stack.add("Reshape", stack.constant(np.array([-1, CHANNELS])))
    stack.add("Gemm", stack.noise(CHANNELS, CHANNELS), stack.noise(CHANNELS))
    flat = stack.last
    shape = stack.add("Shape", source=before)
    stack.add("Reshape", shape, source=flat)
    stack.add("Transpose", perm=[0, 2, 1])


def residual(stack, draw):
    """Beside a convolution that looks back and ahead, and so comes later."""
    source = stack.last
    kernel, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    span = (kernel - 1) * dilation
    before = draw(st.integers(0, span))
    weight = stack.noise(CHANNELS, CHANNELS, kernel)
    made = stack.add("Conv", weight, dilations=[dilation], pads=[before, span - before])
    stack.add(draw(st.sampled_from(["Add", "Mul", "Max"])), made, source=source)


LAYERS = [conv, conv, spread, pool, pad, cut, joined_ends, chomped, activation, normalisation,
          recurrent, linear, residual, residual]  # fmt: skip


def joined(stream, x, cuts, axis=-1):
    """What comes of x, cut along time, and of the end."""
    return np.concatenate(
        [*(stream.run(part) for part in np.split(x, cuts, axis)), stream.finish()], axis
    )


def drawn(draw, path):
    """A model of random layers, an input and what it gives as a whole."""
    stack = Stack(np.random.default_rng(draw(st.integers(0, 2**32))))
    for layer in draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=6)):
        layer(stack, draw)
    isa = draw(st.sampled_from(available_isas()))
    made = fastrnn.load_model(stack.write(path), isa=isa, time_axis=2)
    rows, frames = draw(st.integers(1, 5)), draw(st.integers(1, 60))
    x = stack.rng.standard_normal((rows, CHANNELS, frames)).astype(np.float32)
    try:
        whole = made(x)
    except ValueError:  # too few frames
        assume(False)
    for _ in range(2):  # over arrays that stay, from the second call on
        assert np.array_equal(made(x), whole)
    return made, x, whole


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_pieces_are_the_whole(data, tmp_path_factory):
    draw = data.draw
    made, x, whole = drawn(draw, tmp_path_factory.getbasetemp() / "stack.onnx")
    rows, _, frames = x.shape
    cuts = sorted(draw(st.lists(st.integers(0, frames), max_size=12)))
    stream = made.stream(rows)
    assert np.array_equal(joined(stream, x, cuts), whole)

    pool, order = made.pool(1, grow=True), draw(st.permutations(range(rows)))
    ids = [pool.open() for _ in range(rows)]
    came = [[] for _ in range(rows)]
    at = np.zeros(rows, int)
    while (at < frames).any():  # each at a pace of its own
        some = [row for row in order if at[row] < frames]
        some = some[: draw(st.integers(1, len(some)))]
        count = draw(st.integers(1, max(1, frames - max(at[row] for row in some))))
        part = np.stack([x[row, :, at[row] : at[row] + count].T for row in some])
        for row, y in zip(some, pool.run([ids[row] for row in some], part), strict=True):
            came[row].append(y)
        at[some] += count
        moved = some[0]
        saved = pool.save(ids[moved])
        pool.close(ids[moved])
        ids[moved] = pool.load(saved)
    for row, y in zip(range(rows), pool.finish(ids), strict=True):
        assert np.array_equal(np.concatenate([*came[row], y]).T, whole[row])


def has_steps(made, x):
    """Whether one frame in is one frame out at once."""
    try:
        made.stream(len(x)).step(x[..., 0])
    except ValueError:
        return False
    return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_pieces_of_one_length_are_the_whole(data, tmp_path_factory):
    """From the third on they are computed over arrays that stay; whatever else is done between."""
    draw = data.draw
    made, x, whole = drawn(draw, tmp_path_factory.getbasetemp() / "stack.onnx")
    rows, _, frames = x.shape
    stream, came, at = made.stream(rows), [], 0
    prompt = has_steps(made, x)
    while at < frames:
        size = draw(st.integers(1, 4))
        for _ in range(draw(st.integers(1, 8))):
            part = x[..., at : at + size]
            if draw(st.booleans()):
                part = part.astype(np.float64)
            if prompt and size == 1 and part.size and draw(st.booleans()):
                came.append(stream.step(part[..., 0])[..., None])
            else:
                came.append(stream.run(part))
            at += size
            between = draw(st.sampled_from(["nothing", "nothing", "fault", "state", "other"]))
            if between == "fault":
                with pytest.raises((ValueError, TypeError)):
                    stream.run(x[:, :-1, :size])
            elif between == "state":
                stream.state = stream.state
            elif between == "other":
                other = made.stream(rows, initial_state=stream.state)
                stream.run(x[..., :size])  # which no longer matters
                stream = other
    assert np.array_equal(np.concatenate([*came, stream.finish()], -1), whole)


def load(tmp_path, *layers, shape=("batch", CHANNELS, "frames"), **more) -> fastrnn.Model:
    stack = Stack(np.random.default_rng(0))
    for layer in layers:
        layer(stack)
    return fastrnn.load_model(stack.write(tmp_path / "model.onnx", shape), **more)


def looking_ahead(stack):
    weight = stack.noise(CHANNELS, CHANNELS, 5)
    stack.add("Conv", weight, pads=[2, 2])


def looking_back(stack):
    weight = stack.noise(CHANNELS, CHANNELS, 3)
    stack.add("Conv", weight, pads=[2, 0])


def gru(stack):
    stack.add("Transpose", perm=[2, 0, 1])
    stack.add("GRU", stack.noise(1, 9, 3), stack.noise(1, 9, 3), hidden_size=3)
    stack.add("Squeeze", stack.constant(np.array([1])))
    stack.add("Transpose", perm=[1, 2, 0])


def noise(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_delay_and_frames(tmp_path):
    stream = load(tmp_path, looking_ahead).stream()
    assert stream.delay == 2
    counts = [stream.run(noise(3, n)).shape[1] for n in (1, 0, 1, 1, 4)]
    assert counts == [0, 0, 0, 1, 4]
    assert stream.finish().shape == (3, 2)
    with pytest.raises(RuntimeError, match="finished"):
        stream.run(noise(3, 1))
    with pytest.raises(RuntimeError, match="finished"):
        stream.finish()
    stream.reset()
    assert stream.run(noise(3, 3)).shape == (3, 1)


def test_one_frame_at_a_time(tmp_path):
    made = load(tmp_path, looking_back, gru)
    x = noise(4, 3, 10)
    whole = made(x)
    stream, lone = made.stream(4), made.stream()
    assert stream.delay == 0
    pool = made.pool(4)
    ids = [pool.open() for _ in range(4)]
    rng = np.random.default_rng(2)
    for t in range(10):
        assert np.array_equal(stream.step(x[..., t]), whole[..., t])
        assert np.array_equal(lone.step(x[1, :, t]), whole[1, :, t])
        order = rng.permutation(4)
        out = np.empty((4, 3), np.float32)
        assert pool.step([ids[i] for i in order], x[order, :, t], out=out) is out
        assert np.array_equal(out, whole[order, :, t])
    assert stream.finish().shape == (4, 3, 0)


def test_what_is_printed(tmp_path):
    assert "along time: axis 2 of x; frames late: v1 2" in repr(load(tmp_path, looking_ahead))
    assert "no streams: " in repr(load(tmp_path, backwards))


def test_what_cannot_be_put_out_changes_nothing(tmp_path):
    def with_state(stack):
        stack.add(
            "GRU", stack.noise(1, 9, 3), stack.noise(1, 9, 3), "", "", "h", outputs=2, hidden_size=3
        )

    stack = Stack(np.random.default_rng(0))
    with_state(stack)
    node = stack.nodes[-1]
    node.output[:] = ["y", "h_out"]
    made = model(
        [node],
        [value("x", 1, "batch", 3), value("h", 1, "batch", 3)],
        [value("y", 1, 1, "batch", 3), value("h_out", 1, "batch", 3)],
        stack.weights,
    )
    stream = fastrnn.load_model(made.SerializeToString()).stream(2)
    x = noise(1, 2, 3)
    for _ in range(3):
        stream.step(x)
    before = stream.state
    for out, error in ((np.empty(3, np.float32), ValueError), (np.empty((1, 1, 2, 3)), TypeError)):
        with pytest.raises(error, match="out is"):
            stream.step(x, out=out)
        assert np.array_equal(stream.state, before)


def test_frames_that_come_late_are_no_step(tmp_path):
    made = load(tmp_path, looking_ahead)
    with pytest.raises(ValueError, match=r"not one frame out at once \(delay 2\)"):
        made.stream().step(noise(3))
    pool = made.pool(1)
    with pytest.raises(ValueError, match="run and finish"):
        pool.step([pool.open()], noise(1, 3))


def test_state_and_reset(tmp_path):
    made = load(tmp_path, looking_ahead, gru)
    x = noise(2, 3, 20)
    stream, other = made.stream(2), made.stream(2)
    stream.run(x[..., :7])
    other.state = stream.state
    third = made.stream(2, initial_state=stream.state)
    rest = stream.run(x[..., 7:])
    for again in (other, third):
        assert np.array_equal(again.run(x[..., 7:]), rest)
    third.reset()
    assert np.array_equal(third.run(x[..., 7:]), rest)
    with pytest.raises(ValueError, match="a pool's can"):
        stream.reset([0])
    for wrong in ({}, {"phase": np.array(10**6)}, {**stream.state, "phase": np.array(0)}, [1]):
        with pytest.raises(ValueError, match="state"):
            stream.state = wrong
    assert np.array_equal(stream.finish(), other.finish())


def test_rows_begin_anew_where_nothing_waits(tmp_path):
    made = load(tmp_path, gru)
    x = noise(2, 3, 8)
    stream = made.stream(2)
    stream.run(x)
    stream.reset([1])
    y = stream.run(x)
    assert np.array_equal(y[1], made(x)[1])
    assert not np.array_equal(y[0], made(x)[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((noise(4, 2),), ValueError, r"x is \(4, 2\), expected \(3, frames\)"),
        ((noise(1, 3, 2),), ValueError, r"expected \(3, frames\)"),
        ((), TypeError, "'x' is missing"),
        ((noise(3, 2) * 1j,), TypeError, "complex"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path, arguments, error, message):
    made = load(tmp_path, looking_ahead, gru)
    stream, pool = made.stream(), made.pool(1)
    id = pool.open()
    x = noise(3, 9)
    first = [stream.run(x[:, :4]), pool.run([id], x.T[None, :4])[0].T]
    with pytest.raises(error, match=message):
        stream.run(*arguments)
    with pytest.raises((ValueError, TypeError)):
        pool.run([id], *(array.T[None] for array in arguments))
    whole = made(x[None])[0]
    for y, rest in zip(first, (stream, None), strict=True):
        if rest is None:
            ends = [pool.run([id], x.T[None, 4:])[0].T, pool.finish([id])[0].T]
        else:
            ends = [stream.run(x[:, 4:]), stream.finish()]
        assert np.array_equal(np.concatenate([y, *ends], 1), whole)


def test_a_pool_of_streams_at_different_frames(tmp_path):
    made = load(tmp_path, looking_ahead, gru)
    pool = made.pool(3)
    a, b, c = (pool.open() for _ in range(3))
    x = noise(3, 12, 3)
    whole = made(x.swapaxes(1, 2)).swapaxes(1, 2)
    assert pool.run([a], x[:1, :5])[0].shape == (3, 3)
    ya, yb = pool.run([a, b], x[:2, 5:7])
    assert (ya.shape, yb.shape) == ((2, 3), (0, 3))
    with pytest.raises(ValueError, match="twice"):
        pool.run([a, a], x[:2])
    with pytest.raises(LookupError):
        pool.run([99], x[:1])
    (rest,) = pool.finish([a])
    assert rest.shape == (2, 3)
    with pytest.raises(RuntimeError, match="finished"):
        pool.run([c, a], x[:2])
    y = np.concatenate([pool.run([c], x[2:])[0], pool.finish([c])[0]])
    assert np.array_equal(y, whole[2])
    pool.reset([a])
    assert np.array_equal(pool.run([a], x[:1])[0], whole[0, :10])
    assert pool.run([], x[:0]) == []
    with pytest.raises(ValueError, match="one frame for each at once"):
        pool.input_shape  # noqa: B018


def test_pools_begin_where_a_stream_was(tmp_path):
    made = load(tmp_path, looking_back, gru)
    x = noise(3, 9)
    stream = made.stream()
    stream.run(x[:, :4])
    pool = made.pool(2, initial_state=stream.state)
    id = pool.open()
    assert (pool.input_shape, pool.output_shape, pool.dtype) == ((3,), (3,), np.float32)
    for _ in range(2):
        assert np.array_equal(pool.run([id], x.T[None, 4:])[0].T, made(x[None])[0, :, 4:])
        pool.reset([id])


def test_a_damaged_state_is_refused(tmp_path):
    pool = load(tmp_path, looking_ahead, gru).pool(2)
    id = pool.open()
    pool.run([id], noise(1, 5, 3))
    data = pool.save(id)
    with pytest.raises(fastrnn.StateError, match="damaged"):
        pool.load(data[:-1])
    other = load(tmp_path, looking_back, gru).pool(2)
    with pytest.raises(fastrnn.StateError, match="another model"):
        other.load(data)
    assert len(pool) == 1


def test_a_stream_is_saved_as_a_pools(tmp_path):
    model = load(tmp_path, looking_ahead, gru)
    x = noise(2, 3, 9)
    stream, pool = model.stream(batch=2), model.pool(3)
    stream.run(x[:, :, :5])
    states = stream.save()
    expected = stream.run(x[:, :, 5:])
    ids = pool.load(states)
    assert pool.save(ids) == states
    y = pool.run(ids, x[:, :, 5:].transpose(0, 2, 1))  # time in front
    assert np.array_equal(np.stack(y).transpose(0, 2, 1), expected)
    stream.load(states[::-1])
    assert np.array_equal(stream.run(x[::-1, :, 5:]), expected[::-1])
    single = model.stream()
    single.load(states[1])
    assert single.save() == states[1]
    assert np.array_equal(single.run(x[1, :, 5:]), expected[1])
    for bad, error in ((states[:1], ValueError), (states[0], TypeError)):
        with pytest.raises(error):
            stream.load(bad)
    with pytest.raises(fastrnn.StateError, match="damaged"):
        single.load(states[1][:-1])


def test_two_threads_on_one_stream(tmp_path):
    made = load(tmp_path, looking_back, gru)
    stream, start = made.stream(), threading.Barrier(3)
    count = [0]
    lock = threading.Lock()

    def work():
        start.wait(30)
        for _ in range(100):
            try:
                stream.step(np.zeros(3, np.float32))
            except fastrnn.BusyError:
                continue
            with lock:
                count[0] += 1
        stream.step(np.zeros(3, np.float32), wait=True)
        with lock:
            count[0] += 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    again = made.stream()
    again.run(np.zeros((3, count[0]), np.float32))
    assert all(np.array_equal(stream.state[key], array) for key, array in again.state.items())


def test_a_batch_of_one_in_the_file(tmp_path):
    made = load(tmp_path, looking_ahead, gru, shape=(1, CHANNELS, "frames"))
    x = noise(3, 3, 11)
    y = joined(made.stream(3), x, [4, 5])
    assert np.array_equal(y, np.concatenate([made(row[None]) for row in x]))


@pytest.mark.parametrize("shape", [("n", 3, "m"), (None, 3, None), ("T", 3, "N")])
def test_time_is_found_by_what_it_drives(tmp_path, shape):
    made = load(tmp_path, gru, shape=shape)
    x = noise(2, 3, 9)
    assert np.array_equal(joined(made.stream(2), x, [3]), made(x))


def test_time_that_cannot_be_told_is_asked_for(tmp_path):
    relu = [lambda stack: stack.add("Relu")]
    with pytest.raises(ValueError, match=r"cannot be told \(open are: n, m\): say time_axis"):
        load(tmp_path, *relu, shape=("n", 3, "m")).stream()
    made = load(tmp_path, *relu, shape=("n", 3, "m"), time_axis=-1)
    assert made.stream().step(noise(3)).shape == (3,)
    assert load(tmp_path, *relu, shape=("n", 3, "time")).stream().step(noise(3)).shape == (3,)
    with pytest.raises(ValueError, match="3 axes"):
        load(tmp_path, *relu, time_axis=3).stream()
    with pytest.raises(ValueError, match="expected some of x"):
        load(tmp_path, *relu, time_axis={"z": 1}).stream()


def backwards(stack):
    stack.add("Transpose", perm=[2, 0, 1])
    stack.add("LSTM", stack.noise(1, 12, 3), stack.noise(1, 12, 3), direction="reverse")


def last_state(stack):
    stack.add("Transpose", perm=[2, 0, 1])
    stack.nodes.append(
        helper.make_node(
            "GRU", [stack.last, stack.noise(1, 9, 3), stack.noise(1, 9, 3)], ["", "h"], name="GRU"
        )
    )
    stack.last = "h"


def flipped(stack):
    stack.add("Slice", *(stack.constant(np.array([n])) for n in (-1, -(2**31), 2, -1)))


def first_frames(stack):
    stack.add("Slice", *(stack.constant(np.array([n])) for n in (0, 5, 2)))


def last_frames(stack):
    stack.add("Slice", *(stack.constant(np.array([n])) for n in (-5, 2**31, 2)))


def length_as_number(stack):
    source = stack.last
    stack.add("Shape")
    stack.add("Gather", stack.constant(np.array(2)))
    count = stack.add("Cast", to=onnx.TensorProto.FLOAT)
    stack.add("Div", count, source=source)


def attention(stack):
    source = stack.last
    key = stack.add("Transpose", perm=[0, 2, 1])
    stack.add("MatMul", source, source=key)
    stack.add("Softmax", axis=-1)


def positions(stack):
    source = stack.last
    stack.add("Shape")
    count = stack.add("Gather", stack.constant(np.array(2)))
    zero, one = stack.constant(np.array(0)), stack.constant(np.array(1))
    stack.add("Range", count, one, source=zero)
    made = stack.add("Cast", to=onnx.TensorProto.FLOAT)
    stack.add("Add", made, source=source)


def reduced(op):
    def add(stack):
        stack.add(op, axes=[2])

    return add


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (backwards, r"node 'LSTM1' \(LSTM\).*direction='reverse' begins at the last frame"),
        (last_state, r"node 'GRU' \(GRU\).*the state after the last frame"),
        (flipped, r"\(Slice\).*turns time round"),
        (first_frames, r"\(Slice\).*a number of first frames"),
        (last_frames, r"\(Slice\).*counted from the end"),
        (length_as_number, r"reads the number of frames as a number"),
        (attention, r"\(MatMul\)"),
        (positions, r"\(Range\).*for each frame out of the number of frames"),
        (reduced("ReduceMean"), r"\(ReduceMean\).*over time needs all frames"),
        (lambda stack: stack.add("Softmax", axis=2), r"\(Softmax\).*over time needs all frames"),
        (lambda stack: stack.add("GlobalAveragePool"), r"\(GlobalAveragePool\)"),
        (lambda stack: stack.add("InstanceNormalization", stack.noise(3), stack.noise(3)),
         r"\(InstanceNormalization\).*over time needs all frames"),
        (lambda stack: stack.add("MatMul", stack.noise(32, 32)), r"\(MatMul\)|was not found"),
        (lambda stack: stack.add("Pad", stack.constant(np.array([0, 0, 2, 0, 0, 2])), mode="reflect"),
         r"\(Pad\).*mode='reflect'"),
        (lambda stack: stack.add("Concat", stack.last, axis=2), r"\(Concat\).*frames behind frames"),
    ],
)  # fmt: skip
def test_what_does_not_run_along_time_says_why(tmp_path, layer, message):
    made = load(tmp_path, layer, time_axis=2)
    with pytest.raises(ValueError, match=message):
        made.stream()
    with pytest.raises(ValueError, match=message):
        made.pool(1)


def test_values_without_frames_are_kept_for_few_batches(tmp_path):
    def zeros_by_batch(stack):
        batch = stack.add("Gather", stack.constant(np.array([0])), source=stack.add("Shape"))
        rest = stack.constant(np.array([CHANNELS, 1]))
        shape = stack.add("Concat", rest, source=batch, axis=0)
        still = stack.add("ConstantOfShape", source=shape)
        stack.add("Add", still, source="x")

    unrolled = load(tmp_path, zeros_by_batch, time_axis=2)._unrolled
    (first,) = unrolled.still(1).values()
    gone = weakref.ref(first)
    assert next(iter(unrolled.still(1).values())) is first
    del first
    for rows in range(2, 100):
        unrolled.still(rows)
    assert gone() is None
