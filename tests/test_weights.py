"""What names and shapes say about a stack, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.layers.weights import (
    StackConfig,
    freeze,
    infer_config,
    resolve_prefix,
    stack_parameters,
    stack_prefixes,
)


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


@given(config=configs(), prefix=st.sampled_from(["", "lstm", "a.0.b", "lstm."]))
def test_a_config_is_inferred_from_its_own_shapes(config, prefix):
    dot = f"{prefix.rstrip('.')}." if prefix else ""
    weights = {f"{dot}{name}": np.zeros(shape) for name, shape in config.shapes().items()}
    weights["head.weight"] = weights["weights"] = np.zeros(3)
    assert infer_config(weights, prefix) == config
    assert stack_prefixes(weights) == [prefix.rstrip(".")]
    assert list(stack_parameters(weights, prefix)) == list(config.shapes())


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


def test_cell_names_are_layer_0():
    weights = {"a.cell.weight_ih": np.zeros((8, 3)), "a.cell.weight_hh": np.zeros((8, 2))}
    assert infer_config(weights, "a.cell") == StackConfig("LSTM", 3, 2, bias=False)


def broken(rng, change):
    weights = reference.random_weights(StackConfig("LSTM", 3, 4, num_layers=2), rng)
    weights = {f"enc.{name}": value for name, value in weights.items()}
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("enc.weight_ih_l0"), "^enc.weight_ih_l0 is missing"),
        (lambda w: w.pop("enc.bias_hh_l1"), r"enc.bias_hh_l1 is missing: expected shape \(16,\)"),
        (lambda w: w.update({"enc.weight_hh_l0": np.zeros((15, 4))}),
         r"enc.weight_hh_l0 has shape \(15, 4\), expected 16 rows \(LSTM\) or 12 rows \(GRU\) or 4"),
        (lambda w: w.update({"enc.weight_ih_l1": np.zeros((16, 5))}),
         r"enc.weight_ih_l1 has shape \(16, 5\), expected \(16, 4\) for LSTM\(3, 4, num_layers=2\)"),
        (lambda w: w.update({"enc.weight_ih_l3": np.zeros((16, 4))}), "enc.weight_ih_l2 is missing"),
        (lambda w: w.update({"enc.weight_ih_l99999999": np.zeros((16, 4))}), "is missing"),
        (lambda w: w.update({"enc.weight_ih_l01": np.zeros((16, 4))}), "weight_ih_l01 is one too many"),
        (lambda w: w.update({"enc.weight_ih_l1_reverse": np.zeros((16, 4))}), "_reverse is missing"),
        (lambda w: w.update({"enc.weight_hr_l0": np.zeros((2, 5))}), "expected 20 rows"),
        (lambda w: w.update({"enc.weight_hr_l0": np.zeros((4, 4))}), "expected fewer rows than col"),
        (lambda w: w.update({"enc.weight_hh_l0": np.zeros(16)}), "expected 2 dimensions, none 0"),
        (lambda w: w.update({"enc.weight_ih_l0": np.zeros((16, 0))}), "none 0"),
        (lambda w: w.update({"enc.bias_ih_l0": np.zeros((16, 1))}), "expected 1 dimensions"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(rng, change, message):
    with pytest.raises(ValueError, match=message):
        infer_config(broken(rng, change), "enc")


def test_a_wrong_prefix_says_which_there_are(rng):
    with pytest.raises(ValueError, match=r"dec.weight_ih_l0 is missing; recurrent .* under 'enc'"):
        infer_config(broken(rng, lambda w: None), "dec")


@pytest.mark.parametrize(
    ("prefix", "full"),
    [("", ""), ("a", "a"), ("lstm", "enc.lstm"), ("enc.lstm.", "enc.lstm"), ("gru", "dec.gru")],
)
def test_the_end_of_a_name_is_enough(prefix, full):
    names = {"", "a"} if prefix in ("", "a") else {"enc.lstm", "dec.gru", "xlstm"}
    weights = {f"{name}.weight_ih_l0".lstrip("."): 0 for name in names}
    assert resolve_prefix(weights, prefix) == full


def test_a_prefix_that_means_several_or_none_says_which_there_are():
    weights = {f"{name}.rnn.weight_ih_l0": 0 for name in ("enc", "dec")}
    for prefix in ("", "rnn"):
        with pytest.raises(
            ValueError, match=r"2 recurrent stacks, .* by its prefix: 'enc.rnn', 'dec.rnn'"
        ):
            resolve_prefix(weights, prefix)
    with pytest.raises(
        ValueError, match=r"under prefix 'nn', expected one of 'enc.rnn', 'dec.rnn'"
    ):
        resolve_prefix(weights, "nn")
    with pytest.raises(ValueError, match="under prefix 'rnn': there is one, and it has no prefix"):
        resolve_prefix({"weight_ih_l0": 0}, "rnn")
    with pytest.raises(ValueError, match=r"no recurrent stack .* among 1 tensors: w \(2,\)"):
        resolve_prefix({"w": np.zeros(2)}, "")
    with pytest.raises(TypeError, match=r"weights is str, expected a mapping .*fastrnn.load"):
        resolve_prefix("model.pt", "")
    with pytest.raises(TypeError, match="prefix is int, expected a str"):
        resolve_prefix(weights, 3)


def test_a_value_that_is_no_array_is_named(torch):
    parameter = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match=r"LSTM: w is Parameter, expected an array: .*grad"):
        freeze({"w": parameter}, "float32", "LSTM: ")


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
