"""The recurrent stacks in a state dict: each whole and alone under its prefix, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.formats import Weights
from fastrnn.formats.source import Budget
from fastrnn.layers.statedict import StateDict, find_stack
from fastrnn.layers.weights import StackConfig

LSTM = StackConfig("LSTM", 3, 4, num_layers=2)


def stack(rng, prefix="", config=LSTM):
    dot = f"{prefix}." if prefix else ""
    return {f"{dot}{n}": value for n, value in reference.random_weights(config, rng).items()}


def cell(rng, prefix):
    weights = stack(rng, prefix, StackConfig("GRU", 3, 4))
    return {name.removesuffix("_l0"): value for name, value in weights.items()}


def resolved(names, prefix):
    both = ("weight_ih_l0", "weight_hh_l0")
    state = StateDict({f"{name}.{own}".lstrip("."): 0 for name in names for own in both})
    return state.resolve(prefix)


@pytest.mark.parametrize("prefix", ["lstm", "a.0.b", "module"])
def test_a_stack_is_found_beside_other_modules(rng, prefix):
    weights = {**stack(rng, prefix), "head.weight": np.zeros(3), "weights": np.zeros(3)}
    found = find_stack(weights)
    assert (found.prefix, found.config, found.folded) == (prefix, LSTM, {})
    assert list(found.parameters) == list(LSTM.shapes())
    assert list(found.tensors) == [f"{prefix}.{name}" for name in LSTM.shapes()]


def test_cell_names_are_layer_0(rng):
    found = find_stack(cell(rng, "a.cells.1"))
    assert found.config == StackConfig("GRU", 3, 4)
    assert list(found.parameters) == list(found.config.shapes())


@pytest.mark.parametrize(
    ("names", "prefix", "full"),
    [
        (["", "a"], "", ""),
        (["", "a"], "a", "a"),
        (["enc.lstm", "dec.gru", "xlstm"], "lstm", "enc.lstm"),
        (["enc.lstm", "dec.gru", "xlstm"], "enc.lstm.", "enc.lstm"),
        (["enc.lstm", "dec.gru", "xlstm"], "gru", "dec.gru"),
        (["memory_a.rnn", "memory_b.rnn"], "memory_a", "memory_a.rnn"),
        (["net.memory_a.rnn.module", "net.memory_b.rnn"], "memory_a", "net.memory_a.rnn.module"),
        (["a.b", "c.a"], "a", "c.a"),
    ],
)
def test_a_part_of_a_name_is_enough(names, prefix, full):
    assert resolved(names, prefix) == full


def test_a_prefix_that_means_several_or_none_says_which_there_are():
    two = ["enc.rnn", "dec.rnn"]
    for prefix in ("", "rnn"):
        with pytest.raises(
            ValueError, match=r"2 recurrent stacks, .* by its prefix: 'enc.rnn', 'dec.rnn'"
        ):
            resolved(two, prefix)
    with pytest.raises(ValueError, match=r"2 recurrent stacks, .*: 'a.0', 'a.1'"):
        resolved(["a.0", "a.1", "b"], "a")
    with pytest.raises(
        ValueError, match=r"under prefix 'nn', expected one of 'enc.rnn', 'dec.rnn'"
    ):
        resolved(two, "nn")
    with pytest.raises(ValueError, match="under prefix 'rnn': there is one, and it has no prefix"):
        resolved([""], "rnn")
    with pytest.raises(ValueError, match=r"no recurrent stack .* among 1 tensors: w \(2,\)"):
        find_stack({"w": np.zeros(2)})
    with pytest.raises(TypeError, match=r"weights is str, expected a mapping .*fastrnn.load"):
        find_stack("model.pt")
    with pytest.raises(TypeError, match="prefix is int, expected a str"):
        resolved(two, 3)


def test_many_stacks_are_told_in_few_words():
    with pytest.raises(ValueError, match=r"1000 recurrent stacks.*'a7', \.\.\.$"):
        resolved([f"a{i}" for i in range(1000)], "")


# Names beside those of a stack under "rnn", and whether the stack is still torch's.
BESIDE = {
    "rnn.weight_ih_l0_foo": False,
    "rnn.weight_ch_l0": False,
    "rnn.ln_ih.weight": False,
    "rnn.h0": False,
    "rnn.lora_A.weight_ih_l0": False,
    "rnn.cells.0.weight_ih": False,
    "rnn.weight_hh_l0_mask.x": False,
    "rnn.parametrizations.weight_ih_l0.0.lora_A": False,
    "rnn.weight_hh_l00": False,
    "rnn.": False,
    "rnn.weight_ih": False,
    "lora_A": False,
    "lora_B.rnn": False,
    "weight_hh_l0_g": False,
    "bias_ih_l0": False,
    "rnn2.weight": True,
    "rn": True,
    "norm.weight": True,
    "h0": True,
    "rnn_h0": True,
    "fc.lora_A": True,
    "rnn-x.weight_ih_l0_mask": True,
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_name_under_a_stacks_prefix_is_explained_or_refused(rng, name):
    weights = {**stack(rng, "rnn"), name: np.zeros((16, 3))}
    state = StateDict(weights)
    if BESIDE[name]:
        assert state.stack("rnn").config == LSTM
    else:
        with pytest.raises(ValueError, match=rf"^{name}[ ,:]|and {name} "):
            state.stack("rnn")


def test_without_a_prefix_everything_is_under_it(rng):
    with pytest.raises(ValueError, match=r"^head.weight is no parameter of torch's LSTM"):
        find_stack({**stack(rng), "head.weight": np.zeros(3)})


@pytest.mark.parametrize(
    ("prefix", "beside", "whole"),
    [
        ("lstm.base_layer", "lstm.lora_A.default.weight", False),
        ("lstm.base_layer", "lstm.scale", False),
        ("base_layer", "scale", False),
        ("lstm._orig_mod", "lstm.norm", False),
        ("lstm._orig_mod", "other.norm", True),
        ("module", "n_averaged", True),
        ("lstm.module", "lstm.norm.weight", True),
        ("lstm.module", "lstm.lora_A", False),
        ("lstm.module", "lstm.weight_hh_l0_raw", True),
        ("lstm.module", "lstm.weight_hh_l0_mask", False),
        ("lstm.inner.module", "lstm.weight_hh_l0_raw", True),
        ("module", "weight_hh_l0_raw", True),
    ],
)
def test_what_wraps_a_stack_is_in_its_scope(rng, prefix, beside, whole):
    weights = {**stack(rng, prefix), beside: np.zeros((16, 4), np.float32)}
    state = StateDict(weights)
    assert state.prefixes == [prefix]
    if whole:
        assert state.stack(prefix).config == LSTM
    else:
        with pytest.raises(ValueError, match=f"^{beside} "):
            state.stack(prefix)


def test_a_weight_that_several_stacks_may_share_is_nobodys(rng):
    weights = {**stack(rng, "a.x"), **stack(rng, "a.y"), "a.weight_hh_l0_raw": np.zeros((16, 4))}
    for prefix in ("a.x", "a.y"):
        with pytest.raises(ValueError, match=r"^a\.weight_hh_l0_raw "):
            find_stack(weights, prefix)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("rnn.weight_ih_l1", "rnn.weight_ih_l1 is in float9"),
        ("rnn.norm", "rnn.norm is in float9"),
        ("rnn", "rnn is in float9"),
        ("net", None),
        ("rnn2.weight_ih_l0", None),
    ],
)
def test_what_could_not_be_read_counts(rng, extra, message):
    weights = Weights(Budget(0))
    weights.update(stack(rng, "rnn"))
    weights.pop(extra, None)
    weights.unread[extra] = "is in float9"
    if message is None:
        assert find_stack(weights, "rnn").config == LSTM
    else:
        with pytest.raises(ValueError, match=f"^{message}"):
            find_stack(weights, "rnn")
        with pytest.raises(ValueError, match=message):
            fastrnn.LSTM.from_state_dict(weights, "rnn")


def test_a_stack_that_its_file_does_not_justify_is_refused_by_name(rng):
    weights = Weights(Budget(1000))
    weight = np.zeros((512, 128), np.float32)
    for layer in range(500):
        weights[f"rnn.weight_ih_l{layer}"] = weights[f"rnn.weight_hh_l{layer}"] = weight
    with pytest.raises(
        fastrnn.FormatError,
        match=r"^rnn: LSTM\(128, 128, num_layers=500.*would take more memory than the file's",
    ):
        find_stack(weights)
    assert find_stack(dict(weights)).config.num_layers == 500
