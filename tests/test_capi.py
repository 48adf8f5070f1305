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
OK, BUSY, NULL, UNALIGNED, STRIDE = range(5)


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


@pytest.mark.parametrize("module", ["cpp", "cython"])
def test_what_is_no_stream_is_refused(module, request):
    run, x = request.getfixturevalue(module).run, frames()
    with pytest.raises(TypeError, match="stream is LSTM, expected what a layer's stream"):
        run(layer(), x, np.empty((7, 3, 8), np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        run(layer().stream(batch=3), x, np.empty((6, 3, 8), np.float32))


class Table(ctypes.Structure):
    """fr_api of version 1, as ctypes calls it."""

    P, N = ctypes.c_void_p, ctypes.c_ssize_t
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


def entries(header: str) -> list[str]:
    """Members of fr_api, and names with their values, in order."""
    body = re.search(r"typedef struct \{\n(.*?)\} fr_api;", header, re.S)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    members = [" ".join(member.split()) for member in body.split(";") if member.strip()]
    return members + re.findall(r"^    (FR_\w+ = \d+)", header, re.M)


def test_the_abi_is_the_recorded_one(api):
    """Whoever appends to fr_api appends to the record; a line of it that changes breaks what others compiled."""
    assert entries(HEADER.read_text()) == RECORD.read_text().splitlines()
    assert (api.version, api.size) == (1, ctypes.sizeof(Table))
