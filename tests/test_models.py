"""Whole models: the published files, beside ONNX Runtime."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnx_models import model, unknown, value

import fastrnn

SILERO = Path(str(find_spec("silero_vad").origin)).parent / "data"
FILES = sorted(path.name for path in SILERO.glob("*.onnx"))
TOLERANCE = 2e-5


def inputs(session: onnxruntime.InferenceSession, batch: int) -> dict[str, np.ndarray]:
    """Noise for each input of a silero file but `sr`; states as if something had been heard."""
    rng = np.random.default_rng(batch)
    given = {}
    for entry in session.get_inputs():
        shape = [n if isinstance(n, int) and n else batch for n in entry.shape]
        if entry.name == "input":
            shape = [batch, 576]
        if entry.name != "sr":
            given[entry.name] = (rng.standard_normal(shape) * 0.3).astype(np.float32)
    return given


def test_all_of_silero_is_here():
    assert len(FILES) == 6


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("file", FILES)
def test_silero_whole(file, batch):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(SILERO / file), options)
    if batch > 1 and session.get_inputs()[0].shape == [1, 576]:
        pytest.skip("the file has a batch of 1 written into it")
    rate = {"sr": 16000} if "sr" in [value.name for value in session.get_inputs()] else {}
    model = fastrnn.load_model(SILERO / file, fixed=rate)
    given = inputs(session, batch)
    assert list(model.inputs) == list(given)
    wanted = session.run(None, {**given, **{k: np.array(v) for k, v in rate.items()}})
    first, again = model(**given), model(*given.values())
    for name, want in zip(model.outputs, wanted, strict=True):
        assert first[name].shape == want.shape
        np.testing.assert_allclose(first[name], want, rtol=0, atol=TOLERANCE)
        assert np.array_equal(first[name], again[name])


def small_model(tmp_path, scale: float = 2.0, name: str = "weights"):
    nodes = [
        helper.make_node("MatMul", ["x", name], ["h"]),
        helper.make_node("Tanh", ["h"], ["y"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Identity", [name], ["constant"]),
    ]
    weights = {name: np.float32([[1, 2], [3, scale]])}
    made = model(
        nodes, [value("x", "batch", 2)], [unknown(n) for n in ("y", "same", "constant")], weights
    )
    path = tmp_path / "small.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_a_model_from_bytes_and_from_an_open_file(tmp_path):
    path = small_model(tmp_path)
    x = np.float32([[1, -1]])
    want = fastrnn.load_model(path)(x)["y"]
    with open(path, "rb") as file:
        for source in (path.read_bytes(), file, str(path)):
            assert np.array_equal(fastrnn.load_model(source)(x)["y"], want)


def test_outputs_are_the_callers_own(tmp_path):
    loaded = fastrnn.load_model(small_model(tmp_path))
    x = np.float32([[1, -1]])
    first = loaded(x)
    for _ in range(3):
        made = loaded(x)
        for name, array in made.items():
            assert np.array_equal(array, first[name])
            assert not np.may_share_memory(array, x)
            array[...] = 9
    assert x.tolist() == [[1, -1]]


def test_threads_share_a_model(tmp_path):
    loaded = fastrnn.load_model(small_model(tmp_path))
    inputs = [np.float32([[n, -n]] * (1 + n % 3)) for n in range(64)]
    wanted = [loaded(x)["y"] for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            for got, want in zip(threads.map(loaded, inputs), wanted, strict=True):
                assert np.array_equal(got["y"], want)


def test_the_fingerprint_is_that_of_what_is_computed(tmp_path):
    one = fastrnn.load_model(small_model(tmp_path)).fingerprint
    assert fastrnn.load_model(small_model(tmp_path), engine="blas").fingerprint == one
    assert fastrnn.load_model(small_model(tmp_path, scale=2.5)).fingerprint != one
    fixed = fastrnn.load_model(small_model(tmp_path), fixed={"x": [[1, 2]]})
    assert fixed.fingerprint != one


@pytest.mark.parametrize(
    ("args", "named", "kind", "words"),
    [
        ([], {}, TypeError, "input 'x' is missing, expected x"),
        ([1, 2], {}, TypeError, "2 inputs given, expected 1: x"),
        ([], {"z": 1}, TypeError, "input 'z' expected x"),
        ([np.zeros((1, 2), np.float32)], {"x": 1}, TypeError, "input 'x' is given twice"),
        ([np.zeros((1, 3), np.float32)], {}, ValueError, r"x is \(1, 3\), expected \(batch, 2\)"),
        ([np.zeros(2, np.float32)], {}, ValueError, r"x is \(2,\), expected \(batch, 2\)"),
        ([np.zeros((1, 2), complex)], {}, TypeError, "x has dtype complex128, expected float32"),
        ([[["a", "b"]]], {}, TypeError, "x has dtype <U1, expected float32"),
    ],
)
def test_what_is_given_is_checked(args, named, kind, words, tmp_path):
    loaded = fastrnn.load_model(small_model(tmp_path))
    for _ in range(2):
        with pytest.raises(kind, match=f"Model: .*{words}"):
            loaded(*args, **named)
        loaded(np.zeros((1, 2)))


def test_what_is_asked_for_is_checked(tmp_path):
    path = small_model(tmp_path)
    with pytest.raises(ValueError, match="fixed has 'z', expected one of x"):
        fastrnn.load_model(path, fixed={"z": 1})
    with pytest.raises(ValueError, match="engine='gpu'"):
        fastrnn.load_model(path, engine="gpu")
    with pytest.raises(TypeError, match="load_model: path is int"):
        fastrnn.load_model(3)
    with pytest.raises(FileNotFoundError):
        fastrnn.load_model(tmp_path / "none.onnx")


def test_a_model_is_loaded_and_not_pickled():
    model = fastrnn.load_model(SILERO / "silero_vad.onnx", fixed={"sr": 16000})
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="in another process call load_model"):
            attempt(model)
