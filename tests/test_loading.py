"""`load`: from files to layers, and what it says when it cannot."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.cli import main
from fastrnn.formats import write
from fastrnn.formats.source import Source
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
        TypeError, match=r"load: path is \w+, expected a path, bytes or an open .*from_state_dict"
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


@pytest.fixture(params=["zip", "legacy", "safetensors", "npz"])
def large(request, tmp_path):
    """A file of 40 MB around an LSTM of 13 kB."""
    config = StackConfig("LSTM", 20, 30)
    rng = np.random.default_rng(0)
    weights = {f"embedding.{i}": np.zeros((1000, 2500), np.float32) for i in range(4)}
    weights |= stack(rng, "lstm.", config)
    path = tmp_path / f"large.{request.param}"
    if request.param in ("zip", "legacy"):
        torch = pytest.importorskip("torch")
        tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
        torch.save(tensors, path, _use_new_zipfile_serialization=request.param == "zip")
    else:
        write(path, weights)
    return path


def test_load_builds_only_the_arrays_of_its_stack(large, tmp_path):
    fastrnn.load(large)  # what is imported and cached once
    read = []
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            into, at = Source.into, Source.at
            patch.setattr(Source, "into", lambda s, o, t: (read.append(len(t)), into(s, o, t))[1])
            patch.setattr(Source, "at", lambda s, o, n: (read.append(n), at(s, o, n))[1])
            layer = fastrnn.load(large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    nbytes = sum(value.nbytes for value in layer.state_dict().values())
    assert sum(read) < 3 * nbytes + 200_000
    assert peak < nbytes + 1_000_000


def tied(tmp_path, layers, hidden):
    torch = pytest.importorskip("torch")
    weight = torch.zeros(4 * hidden, hidden)
    path = tmp_path / "tied.pt"
    torch.save({f"net.rnn.{n}_l{i}": weight for i in range(layers) for n in BOTH}, path)
    return path


BOTH = ("weight_ih", "weight_hh")


def test_a_stack_of_many_layers_from_a_small_file_is_refused_by_name(tmp_path, capsys):
    path = tied(tmp_path, 1000, 128)
    assert path.stat().st_size < 500_000
    words = r"net.rnn: LSTM\(128, 128, num_layers=1000, .* would take more memory than the file's"
    with pytest.raises(fastrnn.FormatError, match=f"{path}: {words}"):
        fastrnn.load(path)
    with pytest.raises(fastrnn.FormatError, match=words):
        fastrnn.LSTM.from_state_dict(fastrnn.read(path))
    for command in ("inspect", "verify"):
        assert main([command, str(path)]) == 1
        assert "net.rnn  cannot be loaded: net.rnn: LSTM(128" in capsys.readouterr().out.replace(
            "net.rnn: cannot", "net.rnn  cannot"
        )
    out = tmp_path / "out.npz"
    assert main(["convert", str(path), str(out)]) == 1
    assert "what would be written would take more memory than" in capsys.readouterr().err
    assert not out.exists()


def test_tied_layers_that_are_small_are_loaded(tmp_path):
    assert fastrnn.load(tied(tmp_path, 30, 16)).num_layers == 30


def test_a_stack_is_found_below_a_name(rng, tmp_path):
    path = tmp_path / "two.npz"
    write(path, {**stack(rng, "memory_a.rnn."), **stack(rng, "memory_b.rnn.")})
    for prefix in ("memory_a", "memory_a.rnn", "memory_a."):
        assert fastrnn.load(path, prefix).num_layers == 2


def test_lists_of_floats_are_a_float32_model(rng):
    lists = {name: value.tolist() for name, value in stack(rng, "rec.").items()}
    layer = fastrnn.LSTM.from_state_dict(lists, "rec")
    assert layer.dtype == np.float32
    assert layer.engine == fastrnn.LSTM(1, 1).engine
