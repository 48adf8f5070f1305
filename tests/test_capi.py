"""fastrnn.h: the examples of docs/c-api.md, built and compared with Python bit for bit; its ABI; its errors."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest

import fastrnn

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "c-api.md"
HEADER = Path(fastrnn.get_include()) / "fastrnn.h"
RECORD = HERE / "data" / "fr_api_1.txt"
OK, BUSY, NULL, UNALIGNED, STRIDE, CLOSED, TWICE, FULL, NO_MEMORY = range(9)
CAPACITY, OPEN = 7, 8


def layer(cell="LSTM", dtype="float32", **options):
    cells = {"LSTM": (fastrnn.LSTM, 4), "GRU": (fastrnn.GRU, 3)}
    make, gates = cells[cell]
    rng = np.random.default_rng(1)
    shapes = {f"weight_ih_l{k}": (gates * 8, 5 if k == 0 else 8) for k in range(2)}
    shapes |= {f"weight_hh_l{k}": (gates * 8, 8) for k in range(2)}
    shapes |= {f"bias_{of}_l{k}": (gates * 8,) for of in ("ih", "hh") for k in range(2)}
    weights = {k: rng.standard_normal(shape).astype(dtype) for k, shape in shapes.items()}
    return make.from_state_dict(weights, dtype=dtype, **options)


def build(folder: Path, title: str):
    """Build a block of the page as an extension, warnings being errors, and import it."""
    if not PAGE.exists():
        pytest.skip("a source distribution has no site")
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    source = folder / title
    source.write_text(re.search(rf'title="{title}"\n(.*?)^```', PAGE.read_text(), re.S | re.M)[1])
    strict = ["-Wall", "-Wextra", "-Werror"]
    if title.endswith(".pyx"):
        pytest.importorskip("Cython")
        package = Path(fastrnn.__file__).parent.parent
        command = [sys.executable, "-m", "cython", "-3", "-I", str(package), str(source)]
        subprocess.run(command, check=True, cwd=folder)
        source = source.with_suffix(".c")
        strict = []  # Cython's own
    target = folder / f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = [f"-I{fastrnn.get_include()}", f"-I{sysconfig.get_paths()['include']}"]
    compiler = "gcc" if source.suffix == ".c" else "g++"
    command = [
        compiler,
        "-O1",
        "-shared",
        "-fPIC",
        *strict,
        *include,
        str(source),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location(source.stem, target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    return build(tmp_path_factory.mktemp("cpp"), "fast.cpp")


@pytest.fixture(scope="module")
def cython(tmp_path_factory):
    return build(tmp_path_factory.mktemp("cython"), "faster.pyx")


def frames(dtype="float32"):
    return np.random.default_rng(2).standard_normal((7, 3, 5)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_cpp_gives_the_bits_of_python(cpp, cell, dtype):
    net, x = layer(cell, dtype), frames(dtype)
    one, other, y = net.stream(batch=3), net.stream(batch=3), np.empty((7, 3, 8), dtype)
    cpp.run(one, x, y)
    np.testing.assert_array_equal(y, np.stack([other.step(row) for row in x]))
    np.testing.assert_array_equal(one.state, other.state)


def test_cython_gives_the_bits_of_python_from_rows_that_lie_apart(cython):
    net, x = layer(), frames()
    apart = np.full((7, 6, 5), np.nan, np.float32)[:, ::-2]
    apart[...] = x
    one, other, y = net.stream(batch=3), net.stream(batch=3), np.empty((7, 3, 8), np.float32)
    cython.run(one, apart, y)
    np.testing.assert_array_equal(y, np.stack([other.step(row) for row in x]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_cpp_makes_a_pool_that_gives_the_bits_of_python(cpp, cell, dtype):
    net, x, y = layer(cell, dtype), frames(dtype), np.empty((7, 3, 8), dtype)
    cpp.serve(net, 3, x, y)
    pool = net.pool(3)
    ids = pool.open(3)
    np.testing.assert_array_equal(y, [pool.step(ids, rows) for rows in x])
    with pytest.raises(ValueError, match="do not fit"):
        cpp.serve(net, 3, x, y[1:])
    with pytest.raises(AttributeError, match="pool"):
        cpp.serve(7, 3, x, y)


def test_cython_steps_a_pool_from_rows_that_lie_apart(cython):
    pool, other, x = layer().pool(4), layer().pool(4), frames()
    ids, others = np.array(pool.open(4)), other.open(4)
    apart = np.full((7, 6, 5), np.nan, np.float32)[:, ::-2]
    apart[...] = x
    y = np.empty((7, 3, 8), np.float32)
    cython.serve(pool, ids[[3, 0, 2]].copy(), apart, y)
    expected = [other.step([others[i] for i in (3, 0, 2)], rows) for rows in x]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pool.get_state(ids), other.get_state(others))
    with pytest.raises(RuntimeError, match=f"fr_result {TWICE}"):
        cython.serve(pool, ids[[3, 0, 3]].copy(), apart, y)


@pytest.mark.parametrize("module", ["cpp", "cython"])
def test_what_is_no_stream_is_refused(module, request):
    run, x = request.getfixturevalue(module).run, frames()
    with pytest.raises(TypeError, match="stream is LSTM, expected what a layer's stream"):
        run(layer(), x, np.empty((7, 3, 8), np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        run(layer().stream(batch=3), x, np.empty((6, 3, 8), np.float32))


def test_what_is_no_pool_is_refused(cython):
    x, y = frames(), np.empty((7, 3, 8), np.float32)
    with pytest.raises(TypeError, match="pool is Stream, expected what a layer's pool"):
        cython.serve(layer().stream(), np.arange(3), x, y)


class Table(ctypes.Structure):
    """fr_api of version 1, as ctypes calls it."""

    P, N, S, I = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_size_t, ctypes.c_int64  # noqa: E741
    _fields_ = (
        ("version", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("stream_of", ctypes.PYFUNCTYPE(P, ctypes.py_object)),
        ("stream_release", ctypes.PYFUNCTYPE(None, P)),
        ("stream_size", ctypes.CFUNCTYPE(ctypes.c_size_t, P, ctypes.c_int)),
        ("stream_step", ctypes.CFUNCTYPE(ctypes.c_int, P, P, N, P, N)),
        ("stream_get_state", ctypes.CFUNCTYPE(ctypes.c_int, P, P, P)),
        ("stream_set_state", ctypes.CFUNCTYPE(ctypes.c_int, P, P, P)),
        ("stream_reset", ctypes.CFUNCTYPE(ctypes.c_int, P)),
        ("pool_of", ctypes.PYFUNCTYPE(P, ctypes.py_object)),
        ("pool_release", ctypes.PYFUNCTYPE(None, P)),
        ("pool_size", ctypes.CFUNCTYPE(S, P, ctypes.c_int)),
        ("pool_open", ctypes.CFUNCTYPE(ctypes.c_int, P, P)),
        ("pool_close", ctypes.CFUNCTYPE(ctypes.c_int, P, I)),
        ("pool_step", ctypes.CFUNCTYPE(ctypes.c_int, P, S, P, P, N, P, N)),
        ("pool_get_state", ctypes.CFUNCTYPE(ctypes.c_int, P, S, P, P, P)),
        ("pool_set_state", ctypes.CFUNCTYPE(ctypes.c_int, P, S, P, P, P)),
        ("pool_reset", ctypes.CFUNCTYPE(ctypes.c_int, P, S, P)),
    )


@pytest.fixture
def api():
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return Table.from_address(get(fastrnn._C_API, b"fastrnn._C_API"))


@pytest.mark.parametrize("initial", [None, (np.full((2, 8), 0.5), np.full((2, 8), -2.0))])
def test_state_goes_in_and_out_and_back_to_the_beginning(api, initial):
    stream = layer().stream(batch=3, initial_state=initial)
    below = api.stream_of(stream)
    assert [api.stream_size(below, k) for k in range(7)] == [4, 3, 5, 8, 8, 2, 1]
    first = stream.state
    h, c = (np.random.default_rng(3).random((2, 3, 8), np.float32) for _ in range(2))
    assert api.stream_set_state(below, h.ctypes.data, c.ctypes.data) == OK
    np.testing.assert_array_equal(stream.state, (h, c))
    stream.step(frames()[0])
    assert api.stream_get_state(below, h.ctypes.data, c.ctypes.data) == OK
    np.testing.assert_array_equal(stream.state, (h, c))
    assert api.stream_reset(below) == OK
    np.testing.assert_array_equal(stream.state, first)
    api.stream_release(below)


def test_a_released_stream_is_let_go_and_a_held_one_outlives_python(api):
    stream = layer().stream(batch=3)
    stepper = stream._stepper
    before = sys.getrefcount(stepper)
    below = api.stream_of(stream)
    assert sys.getrefcount(stepper) == before + 1
    api.stream_release(below)
    assert sys.getrefcount(stepper) == before
    below = api.stream_of(stream)
    del stream, stepper
    x, y = frames()[0], np.empty((3, 8), np.float32)
    assert api.stream_step(below, x.ctypes.data, 20, y.ctypes.data, 32) == OK
    np.testing.assert_array_equal(y, layer().stream(batch=3).step(x))
    api.stream_release(below)


def test_errors_are_codes_and_change_nothing(api):
    stream = layer().stream(batch=3)
    below = api.stream_of(stream)
    x, y = frames()[0], np.full((3, 8), 7, np.float32)
    X, Y = x.ctypes.data, y.ctypes.data
    for code, *arguments in (
        (NULL, None, 20, Y, 32),
        (NULL, X, 20, None, 32),
        (UNALIGNED, X + 1, 20, Y, 32),
        (UNALIGNED, X, 20, Y + 2, 32),
        (UNALIGNED, X, 18, Y, 32),
        (STRIDE, X, 20, Y, 28),
        (STRIDE, X, 20, Y, 0),
        (STRIDE, X, 20, Y, -28),
    ):
        assert api.stream_step(below, *arguments) == code
    assert api.stream_set_state(below, X, None) == NULL
    assert api.stream_get_state(below, None, Y) == NULL
    assert (y == 7).all()
    assert not np.any(stream.state)
    api.stream_release(below)


def test_a_stream_that_is_in_use_is_busy(api):
    stream = layer().stream(batch=3)
    below = api.stream_of(stream)
    x, y = frames()[0], np.empty((3, 8), np.float32)
    run = threading.Thread(
        target=stream.run, args=[np.zeros((300_000, 3, 5), np.float32)], kwargs={"wait": True}
    )
    run.start()
    codes = set()
    while run.is_alive() and BUSY not in codes:
        codes.add(api.stream_step(below, x.ctypes.data, 20, y.ctypes.data, 32))
    run.join()
    assert BUSY in codes
    assert codes <= {OK, BUSY}
    assert api.stream_reset(below) == OK
    api.stream_release(below)


@pytest.fixture
def pool(api):
    """A pool of Python's, what C sees of it, and a function that opens a stream from there."""
    made = layer().pool(4)
    below = api.pool_of(made)

    def open_one():
        id = ctypes.c_int64(-1)
        return api.pool_open(below, ctypes.addressof(id)), id.value

    yield made, below, open_one
    api.pool_release(below)


@pytest.mark.parametrize("x_stride", [20, 24, 0, -20])
@pytest.mark.parametrize("y_stride", [32, 48, -32])
def test_a_pools_rows_lie_anywhere(api, pool, x_stride, y_stride):
    made, below, open_one = pool
    ids = np.array([open_one()[1] for _ in range(4)])[[2, 0, 3]]
    other = layer().pool(3)
    others = other.open(3)
    x, y = np.random.default_rng(2).random(40, np.float32), np.zeros(60, np.float32)
    X, Y = x.ctypes.data + 15 * 4, y.ctypes.data + 24 * 4
    rows = np.stack([x[15 + i * x_stride // 4 :][:5] for i in range(3)])
    for _ in range(3):
        assert api.pool_step(below, 3, ids.ctypes.data, X, x_stride, Y, y_stride) == OK
        expected = other.step(others, rows)
    got = np.stack([y[24 + i * y_stride // 4 :][:8] for i in range(3)])
    np.testing.assert_array_equal(got, expected)
    assert np.count_nonzero(y) == np.count_nonzero(expected)
    np.testing.assert_array_equal(made.get_state(ids), other.get_state(others))


def test_y_of_a_pool_may_be_x(api):
    net = fastrnn.GRU.from_state_dict(
        {"weight_ih_l0": np.eye(24, 8), "weight_hh_l0": np.eye(24, 8)}, dtype=np.float32
    )
    made, other = net.pool(3), net.pool(3)
    below, ids, others = api.pool_of(made), np.array(made.open(3)), other.open(3)
    rng = np.random.default_rng(2)
    for start in (0, 4):  # all of it, or half a row further on
        both = rng.random(40, np.float32)
        expected = other.step(others, both[start:][:24].reshape(3, 8).copy())
        x, y = both.ctypes.data + 4 * start, both.ctypes.data
        assert api.pool_step(below, 3, ids.ctypes.data, x, 32, y, 32) == OK
        np.testing.assert_array_equal(both[:24].reshape(3, 8), expected)
    api.pool_release(below)


def test_a_pools_streams_come_and_go_on_both_sides(api, pool):
    made, below, open_one = pool
    (code, id), other = open_one(), made.open()
    assert code == OK
    assert [api.pool_size(below, k) for k in range(9)] == [4, 0, 5, 8, 8, 2, 1, 4, 2]
    assert id in made
    assert api.pool_close(below, other) == OK
    assert other not in made
    assert api.pool_close(below, other) == CLOSED
    assert [open_one()[0] for _ in range(4)] == [OK, OK, OK, FULL]
    assert api.pool_size(below, OPEN) == len(made) == 4
    grown = layer().pool(1, grow=True)
    again, one = api.pool_of(grown), ctypes.c_int64()
    for _ in range(5):
        assert api.pool_open(again, ctypes.addressof(one)) == OK
    assert api.pool_size(again, CAPACITY) == grown.capacity == 8
    api.pool_release(again)


def test_a_pools_states_go_in_and_out(api, pool):
    made, below, _ = pool
    ids = np.array(made.open(3))[::-1].copy()
    h, c = (np.random.default_rng(3).random((2, 3, 8), np.float32) for _ in range(2))
    H, C, IDS = h.ctypes.data, c.ctypes.data, ids.ctypes.data
    assert api.pool_set_state(below, 3, IDS, H, C) == OK
    np.testing.assert_array_equal(made.get_state(ids), (h, c))
    made.step(ids, frames()[0])
    assert api.pool_get_state(below, 3, IDS, H, C) == OK
    np.testing.assert_array_equal(made.get_state(ids), (h, c))
    assert api.pool_reset(below, 2, IDS) == OK
    assert not np.any(made.get_state(ids[:2]))
    np.testing.assert_array_equal(made.get_state(ids[2:]), (h[:, 2:], c[:, 2:]))


def test_errors_of_pools_are_codes_and_change_nothing(api, pool):
    made, below, _ = pool
    ids = np.array([*made.open(2), made.open()])
    made.close(int(ids[2]))
    x, y = frames()[0], np.full((3, 8), 7, np.float32)
    X, Y, IDS = x.ctypes.data, y.ctypes.data, ids.ctypes.data
    twice, many = ids[[0, 1, 0]].copy(), np.resize(ids[:2], 7)
    for code, *arguments in (
        (NULL, 2, None, X, 20, Y, 32),
        (NULL, 2, IDS, None, 20, Y, 32),
        (NULL, 2, IDS, X, 20, None, 32),
        (UNALIGNED, 2, IDS, X + 2, 20, Y, 32),
        (STRIDE, 2, IDS, X, 20, Y, 28),
        (CLOSED, 3, IDS, X, 20, Y, 32),
        (TWICE, 3, twice.ctypes.data, X, 20, Y, 32),
        (TWICE, 7, many.ctypes.data, X, 0, Y, 32),
        (OK, 0, None, None, 0, None, 0),
    ):
        assert api.pool_step(below, *arguments) == code
    assert api.pool_set_state(below, 2, IDS, X, None) == NULL
    assert api.pool_get_state(below, 3, IDS, Y, Y) == CLOSED
    assert api.pool_reset(below, 2, None) == NULL
    assert api.pool_open(below, None) == NULL
    assert (y == 7).all()
    assert not np.any(made.get_state(ids[:2]))


def test_a_pools_stream_that_is_in_use_is_busy(api, pool):
    made, below, _ = pool
    ids = np.array(made.open(3))
    x, y = frames()[0], np.empty((3, 8), np.float32)
    run = threading.Thread(
        target=made.run,
        args=[ids[:1], np.zeros((300_000, 1, 5), np.float32)],
        kwargs={"wait": True},
    )
    run.start()
    codes, beside = set(), 0
    while run.is_alive() and BUSY not in codes:
        codes.add(api.pool_step(below, 3, ids.ctypes.data, x.ctypes.data, 20, y.ctypes.data, 32))
        beside += api.pool_step(below, 2, ids[1:].ctypes.data, x.ctypes.data, 20, y.ctypes.data, 32)
    assert api.pool_close(below, int(ids[1])) == OK
    run.join()
    assert BUSY in codes
    assert codes <= {OK, BUSY}
    assert beside == 0


def test_a_pool_is_kept_alive_from_below_and_let_go(api):
    made = layer().pool(2)
    kept = made._pool
    before = sys.getrefcount(kept)
    below = api.pool_of(made)
    during = sys.getrefcount(kept)
    api.pool_release(below)
    after = sys.getrefcount(kept)
    assert (during, after) == (before + 1, before)


def entries(header: str) -> list[str]:
    """Members of fr_api, and names with their values, in order."""
    body = re.search(r"typedef struct \{\n(.*?)\} fr_api;", header, re.S)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    members = [" ".join(member.split()) for member in body.split(";") if member.strip()]
    return members + re.findall(r"^    (FR_\w+ = \d+)", header, re.M)


def test_the_abi_is_the_recorded_one(api):
    """Whoever appends to fr_api appends to the record; a line of it that changes breaks what others compiled."""
    found, record = entries(HEADER.read_text()), RECORD.read_text().splitlines()
    for is_name in (False, True):
        ours = [line for line in found if line.startswith("FR_") is is_name]
        recorded = [line for line in record if line.startswith("FR_") is is_name]
        assert (sorted(ours) == sorted(recorded)) if is_name else (ours == recorded)
    assert (api.version, api.size) == (1, ctypes.sizeof(Table))
