"""Pools: a stream among others is what it is alone, ids are nobody else's, mistakes change nothing."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import threading

import numpy as np
import pytest
import reference
from conftest import ENGINES
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import fastrnn
from fastrnn._kernels.pool import Pool
from fastrnn.layers.engines import available_isas
from fastrnn.layers.weights import StackConfig

LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}
KINDS = {
    "LSTM": ("LSTM", {}, {}),
    "LSTM-projected": ("LSTM", {"proj_size": 3}, {}),
    "GRU": ("GRU", {}, {}),
    "GRU-reset-before": ("GRU", {}, {"reset_after": False}),
    "RNN": ("RNN", {}, {}),
}
EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
BLAS = {"rtol": 1e-5, "atol": 1e-6}


def make(kind="LSTM", how=None, dtype="float32", sizes=(5, 17), num_layers=2, **options):
    cell, config, cell_options = KINDS[kind]
    config = StackConfig(cell, *sizes, num_layers=num_layers, **config)
    weights = reference.random_weights(config, np.random.default_rng(0), dtype)
    return LAYERS[cell].from_state_dict(weights, **(how or {}), **cell_options, **options)


def frames(layer, *lead, seed=1):
    shape = (*lead, layer.input_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(layer.dtype)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def assert_same(layer, ours, theirs):
    """The same bits; from the BLAS engine, whose bits depend on the batch, nearly the same."""
    if layer.engine == "simd":
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, **BLAS)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(("how", "dtype"), ENGINES)
def test_streams_begin_with_the_initial_state_and_reset_goes_back_to_it(kind, how, dtype):
    layer = make(kind, how, dtype)
    rng = np.random.default_rng(3)
    widths = (layer.pool(1).output_size, 17) if kind.startswith("LSTM") else (17,)
    initial = tuple(rng.standard_normal((2, width)).astype(dtype) for width in widths)
    initial = initial if len(widths) == 2 else initial[0]
    x = frames(layer, 6, 5)
    expected, state = layer(x, initial)
    pool = layer.pool(2, grow=True, initial_state=initial)
    for _ in range(2):  # in slots that others had before, too
        ids = [pool.open() for _ in range(5)]
        for ours, theirs in zip(parts(pool.get_state(ids)), parts(initial), strict=True):
            np.testing.assert_array_equal(ours, np.repeat(theirs[:, None], 5, 1))
        assert_same(layer, pool.run(ids, x), expected)
        pool.reset(ids[1:4])
        pool.set_state(ids[:1], initial)
        assert_same(layer, pool.run(ids[:4], x[:, :4]), expected[:, :4])
        saved = pool.save(ids[0])
        left = parts(pool.get_state([ids[0]]))
        assert_same(layer, left[0][:, 0], parts(state)[0][:, 0])
        for id in ids:
            pool.close(id)
    # A saved state says where a stream is, not where it began.
    for other in (layer.pool(1), pool):
        id = other.load(saved)
        for ours, theirs in zip(parts(other.get_state([id])), left, strict=True):
            np.testing.assert_array_equal(ours, theirs)


class Model(RuleBasedStateMachine):
    """A pool beside one stream of its own for each id: whatever is done to both, they agree."""

    layer: fastrnn.LSTM | fastrnn.GRU | fastrnn.RNN
    ids = Bundle("ids")
    saved = Bundle("saved")

    def __init__(self):
        super().__init__()
        self.pool = self.layer.pool(2, grow=True)
        self.alone: dict[int, fastrnn.Stream] = {}
        self.gone: set[int] = set()
        self.rng = np.random.default_rng(7)

    def some(self, data, most=40):
        """Some of the open ids, in any order."""
        ids = sorted(self.alone)
        return data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=most)) if ids else []

    def inputs(self, *lead):
        shape = (*lead, self.layer.input_size)
        return self.rng.standard_normal(shape).astype(self.layer.dtype)

    def adopt(self, id):
        assert id not in self.alone
        assert id not in self.gone
        self.alone[id] = self.layer.stream()

    @rule(target=ids, count=st.integers(1, 30))
    def open(self, count):
        new = [self.pool.open() for _ in range(count)]
        for id in new:
            self.adopt(id)
        return multiple(*new)

    @rule(id=consumes(ids))
    def close(self, id):
        self.pool.close(id)
        del self.alone[id]
        self.gone.add(id)

    @rule(data=st.data(), as_array=st.booleans(), into=st.booleans())
    def step(self, data, as_array, into):
        ids = self.some(data)
        x = self.inputs(len(ids))
        out = np.full((len(ids), self.pool.output_size), 9, self.layer.dtype) if into else None
        y = self.pool.step(np.array(ids, np.int64) if as_array else ids, x, out)
        assert out is None or y is out
        for id, frame, ours in zip(ids, x, y, strict=True):
            assert_same(self.layer, ours, self.alone[id].step(frame))

    @rule(data=st.data(), ragged=st.booleans())
    def run_steps(self, data, ragged):
        ids = self.some(data)
        steps = data.draw(st.integers(0, 7))
        x = self.inputs(steps, len(ids))
        lengths = [data.draw(st.integers(0, steps)) if ragged else steps for _ in ids]
        y = self.pool.run(ids, x, lengths if ragged else None)
        for i, (id, length) in enumerate(zip(ids, lengths, strict=True)):
            assert_same(self.layer, y[:length, i], self.alone[id].run(x[:length, i]))
            assert not y[length:, i].any()

    @rule(data=st.data())
    def reset(self, data):
        ids = self.some(data)
        self.pool.reset(ids)
        for id in ids:
            self.alone[id].reset()

    @rule(data=st.data())
    def set_state(self, data):
        """States go round: each of some streams gets that of the one before."""
        ids = self.some(data)
        state = self.pool.get_state(ids)
        rolled = [np.roll(part, 1, axis=1) for part in parts(state)]
        self.pool.set_state(ids, tuple(rolled) if len(rolled) == 2 else rolled[0])
        for i, id in enumerate(ids):
            own = tuple(part[:, i] for part in rolled)
            self.alone[id].state = own if len(own) == 2 else own[0]

    @rule(target=saved, id=ids)
    def save(self, id):
        return self.pool.save(id), self.alone[id].state

    @rule(target=ids, saved=saved)
    def load(self, saved):
        data, state = saved
        id = self.pool.load(data)
        self.adopt(id)
        self.alone[id].state = state
        return id

    @rule(id=ids, data=st.data())
    def mistakes(self, id, data):
        """Each is refused; the invariant then sees that nothing was changed."""
        x = self.inputs(3)
        gone = data.draw(st.sampled_from(sorted(self.gone))) if self.gone else 10**12
        for ids, error in (
            ([id, gone, id], (LookupError, ValueError)),
            ([id, id, id], ValueError),
            ([id], ValueError),
            ([id, -1, id], LookupError),
            ([id, None, id], TypeError),
        ):
            with pytest.raises(error):
                self.pool.step(ids, x)
        with pytest.raises(LookupError, match=f"no stream {gone}: it was closed"):
            self.pool.close(gone)

    @invariant()
    def agree(self):
        ids = sorted(self.alone)
        assert len(self.pool) == len(ids)
        assert all(id in self.pool for id in ids)
        assert not any(id in self.pool for id in self.gone)
        if ids:
            ours = parts(self.pool.get_state(ids))
            for i, id in enumerate(ids):
                for a, b in zip(ours, parts(self.alone[id].state), strict=True):
                    assert_same(self.layer, a[:, i], b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("how", "dtype"), ENGINES)
def test_a_pool_is_its_streams_alone(how, dtype, kind):
    model = type("Model", (Model,), {"layer": make(kind, how, dtype)})
    run_state_machine_as_test(model, settings=settings(max_examples=12, stateful_step_count=25))


@EVERY_ISA
@pytest.mark.parametrize("kind", KINDS)
def test_many_streams_in_any_order_with_threads(isa, kind, rng):
    """More than a group of rows, and hidden units split over threads: the same bits."""
    layer = make(kind, {"isa": isa, "threads": 2}, sizes=(19, 200), num_layers=1)
    pool, stream = layer.pool(211), layer.stream(211)
    ids = np.array([pool.open() for _ in range(211)])
    for t in range(3):
        x, order = frames(layer, 211, seed=t), rng.permutation(211)
        np.testing.assert_array_equal(pool.step(ids[order], x[order]), stream.step(x)[order])


@EVERY_ISA
def test_strange_neighbours(isa):
    layer = make(how={"isa": isa})
    pool, alone = layer.pool(3), layer.stream()
    ids = [pool.open() for _ in range(3)]
    for bad in (np.nan, np.inf, 1e30, 1e-40):
        x = frames(layer, 3)
        x[[0, 2]] = bad
        np.testing.assert_array_equal(pool.step(ids, x)[1], alone.step(x[1]))


def test_batch_first(rng):
    layer = make(batch_first=True)
    pool, plain = layer.pool(4), make().pool(4)
    ids, plain_ids = ([p.open() for _ in range(4)] for p in (pool, plain))
    x = frames(layer, 4, 6)
    for lengths in (None, [3, 0, 6, 1]):
        y = pool.run(ids, x, lengths)
        np.testing.assert_array_equal(
            y.swapaxes(0, 1), plain.run(plain_ids, x.swapaxes(0, 1), lengths)
        )


def test_full_and_growing():
    layer = make()
    pool = layer.pool(2)
    assert pool
    assert len(pool) == 0
    a, b = pool.open(), pool.open()
    with pytest.raises(fastrnn.PoolFullError, match="LSTM pool: full, all 2 streams are open"):
        pool.open()
    with pytest.raises(fastrnn.PoolFullError):
        pool.load(pool.save(a))
    assert len(pool) == pool.capacity == 2
    pool.close(a)
    c = pool.open()
    assert c not in (a, b)
    growing = layer.pool(2, grow=True)
    alone = layer.stream()
    first = growing.open()
    x = frames(layer, 9)
    for frame in x[:4]:
        np.testing.assert_array_equal(growing.step([first], frame[None])[0], alone.step(frame))
    assert len({growing.open() for _ in range(30)} | {first}) == 31
    assert growing.capacity == 32
    for frame in x[4:]:
        np.testing.assert_array_equal(growing.step([first], frame[None])[0], alone.step(frame))
    assert repr(growing) == "<LSTM pool, 31 of 32 streams open>"


def test_out_may_be_x_and_may_overlap_it():
    layer = make(sizes=(17, 17))
    pool, stream = layer.pool(200), layer.stream(200)
    ids = [pool.open() for _ in range(200)]
    x = frames(layer, 200)
    expected = stream.step(x)
    own = x.copy()
    assert pool.step(ids, own, out=own) is own
    np.testing.assert_array_equal(own, expected)
    expected = stream.step(x)
    memory = np.empty((201, 17), np.float32)
    memory[:200] = x
    np.testing.assert_array_equal(pool.step(ids, memory[:200], out=memory[1:]), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, x: p.step(0, x), TypeError, "ids is int, expected a sequence"),
        (lambda p, x: p.step([0.5], x[:1]), TypeError, "id is float, expected what open"),
        (lambda p, x: p.step([True], x[:1]), TypeError, "id is bool"),
        (lambda p, x: p.step([[0, 1]], x[:1]), TypeError, "id is list"),
        (lambda p, x: p.step(np.zeros((1, 1), int), x[:1]), TypeError, r"int64 \(1, 1\)"),
        (lambda p, x: p.step(np.zeros(1), x[:1]), TypeError, r"float64 \(1,\)"),
        (lambda p, x: p.step([0, 1], x[:1]), ValueError, "x has 1 rows, expected one for each of 2"),
        (lambda p, x: p.step([0], x[0]), ValueError, r"x has 1 dimensions, expected 2: \(1, 5\)"),
        (lambda p, x: p.step([0], x[:1, :4]), ValueError, "x has 4 features, expected input_size=5"),
        (lambda p, x: p.step([0], [["a"] * 5]), TypeError, "x has dtype"),
        (lambda p, x: p.step([0], x[:1], x[:1]), ValueError, r"out is float32 \(1, 5\)"),
        (lambda p, x: p.step([0, 1, 0], x), ValueError, "ids has stream 0 twice"),
        (lambda p, x: p.step([2**70], x[:1]), LookupError, f"no stream {2**70}"),
        (lambda p, x: p.run([0], x), ValueError, r"x has 2 dimensions, expected \(T, n, I\)"),
        (lambda p, x: p.run([0, 1], x[:, None]), ValueError, "x has 1 rows"),
        (lambda p, x: p.run([0], x[:, None], [4]), ValueError, "lengths.0. is 4, expected 0 to 3"),
        (lambda p, x: p.run([0], x[:, None], [1, 1]), ValueError, "expected one for each row"),
        (lambda p, x: p.run([0, 1], x[:, None], [1]), ValueError, "2 ids for the 1 rows of x"),
        (lambda p, x: p.run(0, x[:, None], [1]), TypeError, "ids is int"),
        (lambda p, x: p.run({0: 0}, x[:, None], [1]), TypeError, "ids is dict"),
        (lambda p, x: p.run({0}, x[:, None], [1]), TypeError, "ids is set"),
        (lambda p, x: p.set_state([0], x), ValueError, "expected a pair"),
        (lambda p, x: p.set_state([0], (x, x)), ValueError, r"state h is \(3, 5\), expected \(2, 1, 17\)"),
        (lambda p, x: p.reset([7]), LookupError, "no stream 7"),
        (lambda p, x: p.close("a"), TypeError, "id is str"),
        (lambda p, x: p.load("a"), TypeError, "state is str"),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_change_nothing(call, error, message):
    layer = make()
    pool, alone = layer.pool(2), layer.stream(2)
    ids = [pool.open(), pool.open()]
    x = frames(layer, 3)
    np.testing.assert_array_equal(pool.step(ids, x[:2]), alone.step(x[:2]))
    with pytest.raises(error, match=f"LSTM pool: .*{message}"):
        call(pool, x)
    np.testing.assert_array_equal(pool.step(ids, x[1:]), alone.step(x[1:]))


class Acting:
    """An id, or an array, that does something when it is read."""

    def __init__(self, value, action):
        self.value = value
        self.action = action

    def __index__(self):
        self.action()
        return self.value

    def __array__(self, dtype=None, copy=None):
        self.action()
        return self.value


def test_arrays_that_change_while_the_call_reads_others():
    """Memory is read and written only where it was seen to be."""
    layer = make()
    pool, alone = layer.pool(2), layer.stream(2)
    ids = [pool.open(), pool.open()]
    x, out = frames(layer, 2), np.zeros((2, 17), np.float32)
    h, c = np.zeros((2, 2, 17), np.float32), np.zeros((2, 2, 17), np.float32)
    with pytest.raises(ValueError, match=r"LSTM pool: out is float32 \(1, 1\)"):
        pool.step([Acting(ids[0], lambda: out.resize((1, 1), refcheck=False)), ids[1]], x, out)
    with pytest.raises(ValueError, match=r"LSTM pool: state h is \(1, 1\)"):
        pool.set_state(ids, (h, Acting(c, lambda: h.resize((1, 1), refcheck=False))))
    np.testing.assert_array_equal(pool.step(ids, x), alone.step(x))


CHANGES = [list.clear, lambda ids: ids.append(0), lambda ids: ids.__setitem__(1, "a")]


@pytest.mark.parametrize("change", CHANGES)
def test_ids_that_change_while_x_is_read(change):
    layer = make()
    pool, alone = layer.pool(2), layer.stream(2)
    ids = [pool.open(), pool.open()]
    own, x = ids.copy(), frames(layer, 2)
    with pytest.raises(ValueError, match="LSTM pool: ids changed during the call"):
        pool.step(own, Acting(x, lambda: change(own)))
    np.testing.assert_array_equal(pool.step(ids, x), alone.step(x))


def test_far_more_ids_than_streams():
    """One of them is there twice, or is none: no room is made for all of them."""
    pool = make().pool(3)
    ids = [pool.open() for _ in range(3)]
    x = np.zeros((10**6, 5), np.float32)
    with pytest.raises(ValueError, match="ids has stream 0 twice"):
        pool.step(np.tile(ids, 10**6)[: 10**6], x)
    with pytest.raises(LookupError, match="no stream 7"):
        pool.step([*ids, 7] * 250_000, x)


def test_methods_are_for_pools():
    for method in ("open", "close", "step", "run", "get_state", "set_state", "reset", "as_ids"):
        with pytest.raises(TypeError, match="doesn't apply to a 'object' object"):
            getattr(Pool, method)(object(), 0, 0)


@pytest.mark.parametrize("capacity", [0, -1, 2**31, 1.5, True, None, "9"])
def test_a_capacity_that_is_none(capacity):
    with pytest.raises(ValueError, match="LSTM pool: capacity="):
        make().pool(capacity)


def test_what_cannot_be_a_pool():
    config = StackConfig("GRU", 3, 4, bidirectional=True)
    weights = reference.random_weights(config, np.random.default_rng(0))
    with pytest.raises(ValueError, match="GRU pool: a bidirectional layer cannot stream"):
        fastrnn.GRU.from_state_dict(weights).pool(1)
    with pytest.raises(RuntimeError, match="no weights yet"):
        fastrnn.GRU(3, 4).pool(1)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="LSTM pool: cannot be copied"):
            duplicate(make().pool(1))


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
def test_threads_with_streams_of_their_own(how, dtype):
    """Eight threads in one pool, opening and closing as they go: each sees its own streams only."""
    layer = make("GRU", how, dtype, sizes=(8, 33))
    pool = layer.pool(4, grow=True)
    failures = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            mine = {}
            for _ in range(60):
                while len(mine) < 5:
                    mine[pool.open()] = layer.stream()
                ids = rng.permutation(list(mine))[: rng.integers(1, 6)]
                x = rng.standard_normal((len(ids), 8)).astype(dtype)
                for y, id, frame in zip(pool.step(ids, x), ids, x, strict=True):
                    assert_same(layer, y, mine[id].step(frame))
                gone = int(ids[0])
                pool.close(gone)
                del mine[gone]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(pool) == 8 * 4


def test_threads_that_meet_on_a_stream_are_told():
    """One of two calls wins, the other raises: every step is made once, and none is half made."""
    layer = make(sizes=(64, 256), num_layers=1)
    pool = layer.pool(40)
    ids = [pool.open() for _ in range(40)]
    x = frames(layer, 40)
    done = [0] * 40
    refused = []
    stop = threading.Event()

    def work(first):
        own = ids[first : first + 30]  # the two share 20
        while not stop.is_set():
            try:
                pool.step(own, x[first : first + 30])
            except RuntimeError as error:
                refused.append(str(error))
                if len(refused) >= 20:
                    stop.set()
            else:
                for i in own:
                    done[i] += 1

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(refused) >= 20
    assert all("is in use by another thread" in message for message in refused)
    # a row's input never changes: its state tells how often it was stepped
    for i in (0, 15, 25, 39):
        alone = layer.stream()
        for _ in range(done[i]):
            alone.step(x[i])
        for ours, theirs in zip(pool.get_state([i]), alone.state, strict=True):
            np.testing.assert_array_equal(ours[:, 0], theirs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_in_the_middle():
    """Parent and child each go on with states of their own."""
    layer = make(sizes=(8, 300), num_layers=1)
    pool, alone = layer.pool(64), layer.stream(64)
    ids = [pool.open() for _ in range(64)]
    x = frames(layer, 6, 64)
    for t in range(3):
        np.testing.assert_array_equal(pool.step(ids, x[t]), alone.step(x[t]))
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        good = all(np.array_equal(pool.step(ids, x[t]), alone.step(x[t])) for t in range(3, 6))
        pool.close(ids[0])
        os._exit(0 if good and len(pool) == 63 else 1)
    for t in range(3, 6):
        np.testing.assert_array_equal(pool.step(ids, x[t]), alone.step(x[t]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(pool) == 64
