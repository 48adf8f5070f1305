"""Weights dumped as JSON."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn import formats
from fastrnn.layers.weights import StackConfig


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("around", [lambda w: w, lambda w: {"a": 1, "b": [{"state_dict": w}]}])
def test_nested_lists_are_float32_tensors(rng, around):
    weights = reference.random_weights(StackConfig("GRU", 3, 4, 2, bidirectional=True), rng)
    data = as_json(around({f"rnn.{n}": w.tolist() for n, w in weights.items()}))
    layer = fastrnn.load(data, "rnn")
    assert layer.dtype == np.float32
    direct = fastrnn.GRU.from_state_dict(weights)
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer(x)[0], direct(x)[0])


def test_names_are_the_ways_to_the_lists():
    value = {"a": [[1, 2.5], [3, 4]], "b": [{"c": [1]}, {"c": [[2]]}], "d": 3, "e": "x", "f": []}
    found = formats.contents(as_json(value))
    assert found.format == "json"
    assert {n: w.tolist() for n, w in found.weights.items()} == {
        "a": [[1, 2.5], [3, 4]],
        "b.0.c": [1],
        "b.1.c": [[2]],
    }
    assert all(array.dtype == np.float32 for array in found.weights.values())
    assert found.skipped == {}


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([[1, 2], [3]], "rows of different lengths"),
        ([[1, 2], 3], "rows of different lengths"),
        ([1, "a"], "something else than numbers"),
        ([1, True], "something else than numbers"),
        ([1, None], "something else than numbers"),
        ([1, [2]], "something else than numbers"),
        ([1 << 24, (1 << 24) + 1], "ints that float32 has not"),
    ],
)
def test_lists_that_are_no_tensors_are_skipped_with_a_reason(numbers, words):
    found = formats.contents(as_json({"x": numbers, "y": [1]}))
    assert list(found.weights) == ["y"]
    assert words in found.skipped["x"]


def test_numbers_beyond_float32_are_refused_by_a_layer(rng):
    weights = reference.random_weights(StackConfig("RNN", 2, 2), rng)
    value = {n: w.tolist() for n, w in weights.items()}
    for number, words in ((1e300, "infinite"), (float("nan"), "NaN")):
        value["bias_ih_l0"] = [number, 0]
        with pytest.raises(fastrnn.FormatError, match=f"bias_ih_l0 holds {words}"):
            fastrnn.load(as_json(value))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": [1,', "is not JSON"),
        (b'{"a": [1], "a": [2]}', "has the name 'a' twice"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep|is not JSON"),
        (b'{"a": ' + b"[" * 50 + b"1" + b"]" * 50 + b"}", "nested more than 32 deep"),
        (b'{"\\u0007": [1]}', "a tensor is named"),
        (b'{"a": 1}', "no readable tensor .json."),
        (b"[[1, 2]]", "is plain text"),
    ],
)
def test_what_is_no_json_of_weights(data, words):
    with pytest.raises(fastrnn.FormatError, match=words):
        fastrnn.read(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": [' + b"[]," * 5_000_000 + b"[]]}",
        b'{"a": [' + b"{}," * 5_000_000 + b"{}]}",
        b'{"a": [' + b"1," * 5_000_000 + b"1]}",
        b'{"' + b"k" * 900 + b'": {' + b",".join(b'"%d":[1]' % i for i in range(200_000)) + b"}}",
    ],
    ids=["lists", "dicts", "ints", "a long key above many"],
)
def test_what_takes_much_more_than_the_file_is_refused(data):
    started = time.process_time()
    with pytest.raises(fastrnn.FormatError, match="more memory than the file's size justifies"):
        fastrnn.read(data)
    assert time.process_time() - started < 10


def test_a_mark_before_the_text_is_none_of_it():
    np.testing.assert_array_equal(fastrnn.read(b'\xef\xbb\xbf{"w": [1, 2.5]}')["w"], [1, 2.5])
