"""Examples in the metadata of a model's file."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest

from fastrnn.errors import FormatError
from fastrnn.models.example import KEY, Example, difference, largest, read


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (4, 1, 2)])
def test_written_and_read(rng, dtype, shape):
    array = (10 * rng.standard_normal(shape)).astype(dtype)
    turned = array.astype(np.dtype(dtype).newbyteorder(">"), order="F")
    given = Example({"x": turned}, {"y": array, "é z": array})
    found = read({KEY: given.as_text(), "other": "text"})
    assert list(found.inputs) == ["x"]
    assert list(found.outputs) == ["y", "é z"]
    for value in (found.inputs["x"], *found.outputs.values()):
        assert value.dtype == dtype
        assert value.shape == shape
        assert np.array_equal(value, array)
    assert found.nbytes == 3 * array.nbytes


def test_none():
    assert read({}) is None
    assert read({"other": "text"}) is None


def packed(dtype="float32", shape=(2,), data=bytes(8)):
    return [dtype, shape, data if isinstance(data, str) else base64.b64encode(data).decode()]


@pytest.mark.parametrize(
    "entry",
    [
        None, 3, "text", [], ["float32"], packed("object"), packed("complex64"), packed(["float32"]),
        packed(shape=(3,)), packed(shape=(-2,)), packed(shape=(2.0,)), packed(shape=(True, 2)),
        packed(shape=2), packed(shape=None), packed(shape=(1 << 62, 1 << 62)),
        packed(shape=(0, 1 << 63), data=b""), packed(shape=(1,) * 33, data=bytes(4)),
        packed(data="%%%%"), packed(data="AAA"), packed(shape=("2",)), {"dtype": "float32"},
        ["float32", [2], None],
    ],
)  # fmt: skip
def test_damaged_entries(entry):
    whole = {"inputs": {"x": packed()}, "outputs": {"y": packed()}}
    assert read({KEY: json.dumps(whole)}).nbytes == 16
    for part, name in (("inputs", "x"), ("outputs", "y")):
        text = json.dumps({**whole, part: {name: entry}})
        with pytest.raises(FormatError, match=rf"the metadata {KEY} is damaged"):
            read({KEY: text})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", "{}", '{"inputs": {}}', '{"inputs": [], "outputs": {}}',
     "[" * 100_000, '{"inputs": {"x": ["float32", [' + "9" * 5000 + '], ""]}, "outputs": {}}'],
)  # fmt: skip
def test_damaged_text(text):
    with pytest.raises(FormatError, match="is damaged") as raised:
        read({KEY: text})
    assert len(str(raised.value)) < 300


def array(*values, dtype=np.float32):
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("got", "expected", "off"),
    [
        (array(1, 2), array(1, 2), 0),
        (array(1, 4), array(2, 4), 0.25),  # of the largest
        (array(-0.5e-3, 1e-3), array(0, 1e-3), 0.5),  # small outputs have a small scale
        (array(1e-9, 1), array(0, 1), 1e-9),  # what cancelled out has its terms' error
        (array(0, 0), array(0, 0), 0),
        (array(1e-30), array(0), math.inf),
        (array(), array(), 0),
        (array(np.nan, np.inf, -np.inf, 1), array(np.nan, np.inf, -np.inf, 2), 0.5),
        (array(1, np.nan), array(1, 2), math.inf),
        (array(1, 2), array(1, np.nan), math.inf),
        (array(np.inf), array(-np.inf), math.inf),
        (array(1, 2), array(1, 2, dtype=np.float64), math.inf),
        (array(1, 2), array(1), math.inf),
        (array(3, dtype=np.int64), array(3, dtype=np.int64), 0),
        (array(3, dtype=np.int64), array(4, dtype=np.int64), math.inf),
        (array(True, dtype=bool), array(False, dtype=bool), math.inf),
        (array(3e38), array(-3e38), 2),
    ],
)
def test_difference(got, expected, off):
    assert difference(got, expected) == pytest.approx(off)


def test_largest():
    expected = {"a": array(1), "b": array(2), "c": array(3)}
    assert largest({**expected, "b": array(1)}, expected) == (0.5, "b")
    assert largest({"a": array(1)}, expected)[0] == math.inf
