"""What stands beside the tensors of a pickle never stops them from being read, and is listed."""

from __future__ import annotations

import argparse
import collections
import pickle
import time

import numpy as np
import pytest

import fastrnn
from fastrnn import formats
from fastrnn.formats.pickles.flatten import MAX_DEPTH

WEIGHTS = {
    f"{kind}_{of}_l0": np.ones((8, 2) if kind == "weight" else 8, np.float32)
    for kind in ("weight", "bias")
    for of in ("ih", "hh")
}


class Vocabulary:
    def __init__(self, words, **more):
        self.words = words
        self.__dict__.update(more)


def nested(depth, inside):
    for _ in range(depth):
        inside = {"next": inside}
    return inside


def doubled(times, inside):
    for _ in range(times):
        inside = [inside, inside]
    return inside


SHARED = Vocabulary({f"word{i}": i for i in range(2000)})
VECTORS = Vocabulary({"a": 0}, vectors=np.ones(3))
BESIDE = {
    "a text array": np.array(["a", "b"]),
    "an array of objects": np.array([{}, None], object),
    "a structured array": np.zeros(3, [("a", "f4"), ("b", "i8")]),
    "dates": np.array(["2024-01-01"], "M8[ns]"),
    "a masked array": np.ma.masked_array([1.0, 2.0], [True, False]),
    "a random state": np.random.RandomState(1).get_state(),
    "a generator": np.random.default_rng(1).bit_generator.state,
    "numpy scalars": [np.float32(1), np.int64(2), np.str_("x"), np.datetime64("2024-01-01")],
    "1,500 shared vocabularies": [SHARED] * 1500,
    "1,500 shared vocabularies with vectors": [VECTORS] * 1500,
    "1,500 examples of one": [Vocabulary(["x"], vocabulary=SHARED) for _ in range(1500)],
    "a chain 150 deep": nested(150, Vocabulary([])),
    "a chain 150 deep with a tensor": nested(150, np.ones(2)),
    "a chain of objects": Vocabulary(Vocabulary(nested(200, [1]))),
    "2**40 paths": doubled(40, [1]),
    "2**40 paths to a tensor": doubled(40, np.ones(1)),
    "one tensor twice under one name": {"a.b": np.ones(1), "a": {"b": np.zeros(1)}},
    "a name of control characters": {"\x1b[2J": np.ones(1)},
    "an endless name": {"k" * 2000: np.ones(1), "k" * 2001: {"x": np.ones(1)}},
    "arguments": argparse.Namespace(lr=0.1, sizes=[1, 2], embedding=np.ones(2)),
    "counters": collections.Counter("abcab"),
    "a list of losses": [0.5, 0.25],
    "a key that is no text": {(1, 2): np.ones(1), None: np.ones(1), 3.5: np.ones(1)},
    "a complex number": 1j,
    "a slice and a range": [slice(1, 2), range(3)],
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("what", BESIDE)
def test_objects_beside_the_weights_do_not_stop_a_load(what, protocol, tmp_path):
    data = pickle.dumps({"beside": BESIDE[what], "rnn": WEIGHTS}, protocol)
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    started = time.perf_counter()
    layer = fastrnn.load(path, "rnn")
    assert time.perf_counter() - started < 10
    assert layer.state_dict().keys() == WEIGHTS.keys()
    found = formats.contents(path)
    assert all(name.isprintable() and len(name) <= 1000 for name in found.weights.unread)
    assert len(found.weights.unread) < 100_000


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"bias_ih_l1": np.array(["x"])}, "rnn.bias_ih_l1 is a NumPy array of objects or text"),
        ({"bias_ih_l1": np.ma.masked_array([1.0])}, "rnn.bias_ih_l1 is an object of numpy.ma"),
        ({"bias_ih_l1": [0.5, 1.0]}, "rnn.bias_ih_l1 is a list of numbers, not a tensor"),
        ({"weight_ih_l1": [[0.5], [1.0]]}, "rnn.weight_ih_l1 is a list of numbers, not a tensor"),
        ({"norm": Vocabulary([])}, r"rnn.norm is an object of .*Vocabulary"),
        (
            {"norm": nested(150, np.ones(1))},
            r"rnn.norm.next.* was left out: it is nested more than",
        ),
        ({"x": {"b.c": np.ones(1), "b": {"c": np.zeros(1)}}}, r"rnn\.x\.b\.c is the name of two "),
        ({"\n": np.ones(1)}, r"rnn\.\\n is named 'rnn.\\n', expected printable text of at most"),
        ({"k" * 2000: np.ones(1)}, r"rnn\.kkk.* is named 'rnn.kk.*, expected printable text of"),
    ],
)
def test_under_the_stacks_prefix_they_do(extra, words, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"rnn": {**WEIGHTS, **extra}}, 2))
    with pytest.raises(fastrnn.FormatError, match=f"{path}: {words}"):
        fastrnn.load(path)
    with pytest.raises(ValueError, match=f"^{words}"):
        fastrnn.LSTM.from_state_dict(fastrnn.read(path))


def test_settings_beside_the_parameters_are_no_tensors(tmp_path):
    path = tmp_path / "model.pkl"
    settings = {"hidden_size": 2, "dropout": 0.5, "cell": "LSTM", "sizes": (2, 2), "skip": None}
    path.write_bytes(pickle.dumps({"rnn": {**WEIGHTS, **settings}}, 2))
    assert fastrnn.load(path).hidden_size == 2


def test_what_is_in_the_tree_twice_has_both_names(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {"rnn": WEIGHTS}, "best": {"rnn": WEIGHTS}}, 2))
    weights = fastrnn.read(path)
    assert weights["model.rnn.bias_ih_l0"] is weights["best.rnn.bias_ih_l0"]


def test_beyond_a_limit_it_is_named_once_and_then_listed(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"beside": doubled(17, WEIGHTS), "rnn": WEIGHTS}, 2))
    found = formats.contents(path)
    first = "beside" + ".0" * 17
    assert f"{first}.bias_ih_l0" in found.weights
    # The stack itself is one of the repeats by then: it is not there, rather than there in part.
    assert found.skipped["rnn"] == f"was left out: it is {first} once more"
    with pytest.raises(
        fastrnn.FormatError, match="no recurrent stack under prefix 'rnn', expected"
    ):
        fastrnn.load(path, "rnn")
    assert fastrnn.load(path, first).hidden_size == 2


def test_depth_counts_from_the_root(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(nested(MAX_DEPTH - 1, {"w": np.ones(1)}), 2))
    assert len(fastrnn.read(path)) == 1
    path.write_bytes(pickle.dumps(nested(MAX_DEPTH, {"w": np.ones(1)}), 2))
    with pytest.raises(fastrnn.FormatError, match=f"nested more than {MAX_DEPTH} deep"):
        fastrnn.read(path)
