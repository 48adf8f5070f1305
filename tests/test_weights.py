"""What names and shapes say about a stack, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.layers.weights import StackConfig, common_dtype, freeze, infer_config


@st.composite
def configs(draw):
    cell = draw(st.sampled_from(["LSTM", "GRU", "RNN"]))
    hidden = draw(st.integers(1, 12))
    proj = draw(st.integers(0, hidden - 1)) if cell == "LSTM" else 0
    return StackConfig(
        cell,
        draw(st.integers(1, 12)),
        hidden,
        draw(st.integers(1, 11)),
        draw(st.booleans()),
        draw(st.booleans()),
        proj,
    )


@given(config=configs())
def test_a_config_is_inferred_from_its_own_shapes(config):
    weights = {name: np.zeros(shape) for name, shape in config.shapes().items()}
    assert infer_config(weights) == config


@given(config=configs())
def test_names_and_shapes_are_torchs(torch, config):
    options = {"proj_size": config.proj_size} if config.cell == "LSTM" else {}
    module = getattr(torch.nn, config.cell)(
        config.input_size, config.hidden_size, config.num_layers, config.bias,
        bidirectional=config.bidirectional, **options,
    ) if config.cell != "RNN" else torch.nn.RNN(
        config.input_size, config.hidden_size, config.num_layers, bias=config.bias,
        bidirectional=config.bidirectional,
    )  # fmt: skip
    theirs = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert config.shapes() == theirs
    assert list(config.shapes()) == list(theirs)
    assert config.parameters == sum(p.numel() for p in module.parameters())


def broken(rng, change):
    weights = reference.random_weights(StackConfig("LSTM", 3, 4, num_layers=2), rng)
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("weight_ih_l0"), "^enc.weight_ih_l0 is missing"),
        (lambda w: w.pop("bias_hh_l1"), r"enc.bias_hh_l1 is missing: expected shape \(16,\)"),
        (lambda w: w.update({"weight_hh_l0": np.zeros((15, 4))}),
         r"enc.weight_hh_l0 has shape \(15, 4\), expected 16 rows \(LSTM\) or 12 rows \(GRU\) or 4"),
        (lambda w: w.update({"weight_ih_l1": np.zeros((16, 5))}),
         r"enc.weight_ih_l1 has shape \(16, 5\), expected \(16, 4\) for LSTM\(3, 4, num_layers=2\)"),
        (lambda w: w.update({"weight_ih_l3": np.zeros((16, 4))}), "enc.weight_ih_l2 is missing"),
        (lambda w: w.update({"weight_ih_l99999999": np.zeros((16, 4))}), "is missing"),
        (lambda w: w.update({"weight_ih_l01": np.zeros((16, 4))}), "weight_ih_l01 is one too many"),
        (lambda w: w.update({"weight_ih_l1_reverse": np.zeros((16, 4))}), "_reverse is missing"),
        (lambda w: w.update({"weight_hr_l0": np.zeros((2, 5))}), "expected 20 rows"),
        (lambda w: w.update({"weight_hr_l0": np.zeros((4, 4))}), "expected fewer rows than col"),
        (lambda w: w.update({"weight_hh_l0": np.zeros(16)}), "expected 2 dimensions, none 0"),
        (lambda w: w.update({"weight_ih_l0": np.zeros((16, 0))}), "none 0"),
        (lambda w: w.update({"bias_ih_l0": np.zeros((16, 1))}), "expected 1 dimensions"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(rng, change, message):
    with pytest.raises(ValueError, match=message):
        infer_config(broken(rng, change), "enc.")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "has dtype object"),
        ("text", "expected floating point"),
        ([[1.0], [1.0, 2.0]], "is list, expected an array"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "is a masked array, expected a plain one"),
    ],
)
def test_a_value_that_is_no_plain_array_is_named(value, words):
    with pytest.raises(TypeError, match=f"LSTM: w .*{words}"):
        freeze({"w": value}, "float32", "LSTM: ")


def test_torch_tensors_are_taken_whatever_they_are_part_of(torch):
    values = {
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "bfloat16": torch.ones(3, dtype=torch.bfloat16),
        "both": torch.ones(3, dtype=torch.bfloat16, requires_grad=True),
    }
    for frozen in freeze(values, "float32", "").values():
        np.testing.assert_array_equal(frozen, np.ones(3, np.float32))


def test_lists_are_float32_and_arrays_are_what_they_are():
    one, list_of_one = np.ones(1), [1.0]
    assert common_dtype({"a": one, "b": one}) == np.float64
    assert common_dtype({"a": one, "b": one.astype(np.float32)}) == np.float32
    assert common_dtype({"a": list_of_one}) == np.float32
    assert freeze({"whole numbers": [1, 0]}, "float32", "")["whole numbers"].tolist() == [1, 0]


def test_frozen_is_a_private_copy():
    value = np.ones((2, 2), np.float16)
    frozen = freeze({"w": value}, "float32", "")["w"]
    value[...] = 5
    assert frozen.dtype == np.float32
    assert (frozen == 1).all()
    assert not frozen.flags.writeable


def test_str_is_the_constructor():
    config = StackConfig("LSTM", 3, 4, 2, bias=False, bidirectional=True, proj_size=2)
    assert str(config) == ("LSTM(3, 4, num_layers=2, bias=False, bidirectional=True, proj_size=2)")


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_projection_that_is_missing_in_the_first_layer_is_named(bidirectional):
    config = StackConfig("LSTM", 1, 2, num_layers=2, proj_size=1, bidirectional=bidirectional)
    found = {name: np.ones(shape) for name, shape in config.shapes().items()}
    del found["weight_hr_l0"]
    with pytest.raises(ValueError, match=r"^a\.weight_hr_l0 is missing, as a\.weight_hr_l\w+ is"):
        infer_config(found, "a.")
