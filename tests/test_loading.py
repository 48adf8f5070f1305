"""`load`: from files to layers, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.formats import write
from fastrnn.layers.weights import StackConfig

CONFIG = StackConfig("LSTM", 5, 6, num_layers=2)


def stack(rng, prefix="", config=CONFIG, dtype="float32"):
    weights = reference.random_weights(config, rng, dtype)
    return {f"{prefix}{name}": value for name, value in weights.items()}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "lstm.", "module.encoder.lstm."])
def test_the_only_stack_is_found(rng, tmp_path, suffix, prefix):
    weights = stack(rng, prefix)
    path = tmp_path / f"model{suffix}"
    beside = {"head.weight": np.ones((3, 6), np.float32)} if prefix else {}
    write(path, {**weights, **beside})
    layer = fastrnn.load(path, batch_first=True, engine="blas")
    assert isinstance(layer, fastrnn.LSTM)
    assert layer.batch_first
    assert layer.engine == "blas"
    x = rng.standard_normal((2, 3, 5))
    direct = fastrnn.LSTM.from_state_dict(weights, prefix, batch_first=True, engine="blas")
    np.testing.assert_array_equal(layer(x)[0], direct(x)[0])


def test_torch_save_and_load(torch, rng, tmp_path):
    module = torch.nn.ModuleDict({"rnn": torch.nn.GRU(3, 4, 2), "head": torch.nn.Linear(4, 2)})
    path = tmp_path / "checkpoint.pt"
    optimizer = torch.optim.Adam(module.parameters())
    module["rnn"](torch.zeros(2, 3))[0].sum().backward()
    optimizer.step()
    checkpoint = {"model_state": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, path)
    x = rng.standard_normal((7, 2, 3)).astype(np.float32)
    for prefix in ("", "rnn", "model_state.rnn"):
        layer = fastrnn.load(path, prefix)
        with torch.no_grad():
            expected, _ = module["rnn"](torch.from_numpy(x))
        np.testing.assert_allclose(layer(x)[0], expected.numpy(), atol=1e-6)


def test_several_stacks_ask_for_one(rng, tmp_path):
    path = tmp_path / "two.npz"
    gru = stack(rng, "dec.rnn.", StackConfig("GRU", 2, 3))
    write(path, {**stack(rng, "enc.rnn."), **gru})
    with pytest.raises(
        fastrnn.FormatError,
        match=r"two\.npz: 2 recurrent stacks, .*by its prefix: 'enc.rnn', 'dec.rnn'",
    ):
        fastrnn.load(path)
    with pytest.raises(fastrnn.FormatError, match="2 recurrent stacks"):
        fastrnn.load(path, "rnn")
    assert isinstance(fastrnn.load(path, "dec.rnn"), fastrnn.GRU)
    assert isinstance(fastrnn.load(path, "enc.rnn."), fastrnn.LSTM)
    with pytest.raises(
        fastrnn.FormatError, match=r"under prefix 'x', expected one of 'enc.rnn', 'd"
    ):
        fastrnn.load(path, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(weight_hh_l0=w["weight_hh_l0"] * np.nan), "weight_hh_l0 holds NaN"),
        (lambda w: w.update(bias_ih_l1=w["bias_ih_l1"] + np.inf), "bias_ih_l1 holds infinite"),
        (lambda w: w.update(bias_ih_l0=np.zeros(23, "f4")), r"bias_ih_l0 has shape \(23,\)"),
        (lambda w: w.update(weight_ih_l0=np.zeros((24, 5), "i4")), "weight_ih_l0 has dtype int32"),
        (lambda w: w.pop("weight_ih_l1"), "weight_ih_l1 is missing"),
    ],
)
def test_a_stack_that_is_not_whole_is_refused_by_name(rng, tmp_path, change, message):
    weights = stack(rng)
    change(weights)
    path = tmp_path / "broken.npz"
    write(path, weights)
    with pytest.raises(fastrnn.FormatError, match=rf"broken\.npz: .*{message}"):
        fastrnn.load(path)


def test_a_file_without_a_stack_says_what_it_has(tmp_path):
    path = tmp_path / "conv.npz"
    write(path, {"conv.weight": np.zeros((2, 3), np.float32)})
    with pytest.raises(fastrnn.FormatError, match=r"no recurrent stack .* conv\.weight \(2, 3\)"):
        fastrnn.load(path)


@pytest.mark.parametrize("value", [{}, None, 3])
def test_a_path_is_a_path(value):
    with pytest.raises(
        TypeError, match=r"load: path is \w+, expected a str or path; weights in mem"
    ):
        fastrnn.load(value)


def test_what_could_not_be_read_is_told():
    path = Path(__file__).parent / "data" / "formats" / "quantized.pt"
    with pytest.raises(fastrnn.FormatError, match=r"quantized\.pt: no rec.*; sparse is sparse: "):
        fastrnn.load(path)


def test_a_mistaken_option_is_not_the_files_fault(rng, tmp_path):
    path = tmp_path / "model.npz"
    write(path, stack(rng))
    with pytest.raises(ValueError, match="engine='gpu'") as caught:
        fastrnn.load(path, engine="gpu")
    assert not isinstance(caught.value, fastrnn.FormatError)
    with pytest.raises(TypeError, match="reset_after"):
        fastrnn.load(path, reset_after=False)
    with pytest.raises(FileNotFoundError):
        fastrnn.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("stored", "computed"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_dtype_follows_the_file(rng, tmp_path, stored, computed):
    path = tmp_path / "model.npz"
    write(path, stack(rng, dtype=stored))
    assert fastrnn.load(path).dtype == computed
    assert fastrnn.load(path, dtype="float32").dtype == np.float32
