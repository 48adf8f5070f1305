"""What a user's program and hands used to torch meet: public names, types, and lines that help."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import reference
import typed_program

import fastrnn
import fastrnn.serve
from fastrnn.layers.habits import METHODS
from fastrnn.layers.weights import StackConfig

LAYERS = [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN]
CELLS = [fastrnn.LSTMCell, fastrnn.GRUCell, fastrnn.RNNCell]


def weights(cell="LSTM", prefix=""):
    config = StackConfig(cell, 3, 5)
    made = reference.random_weights(config, np.random.default_rng(0), "float32")
    return {prefix + name: value for name, value in made.items()}


def test_the_typed_program_runs(torch, tmp_path, capsys):
    tensors = {k: torch.from_numpy(v) for k, v in weights(prefix="encoder.lstm.").items()}
    path = tmp_path / "model.pt"
    torch.save(tensors, path)
    typed_program.main(path)
    out = capsys.readouterr().out
    assert out.startswith(f"(5,) {path}: ")
    assert "decoder" in out


def public(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


@pytest.mark.parametrize("name", fastrnn.__all__)
def test_what_is_public_says_what_it_is(name):
    thing = getattr(fastrnn, name)
    if isinstance(thing, str):
        return
    assert inspect.getdoc(thing), name
    if not inspect.isclass(thing) or issubclass(thing, Exception):
        return
    for member in public(thing):
        value = inspect.getattr_static(thing, member)
        assert callable(value) or isinstance(value, (property, classmethod)), f"{name}.{member}"
        assert inspect.getdoc(value), f"{name}.{member} has no docstring"


def test_the_names_of_layers_pools_and_sessions():
    """A name is added here with its page in the API reference: nothing slips out of an underscore."""
    stack = {
        "batch_first", "bias", "bidirectional", "dropout", "dtype", "engine", "fingerprint",
        "folded", "from_state_dict", "hidden_size", "input_size", "isa", "load_state_dict",
        "num_layers", "pool", "proj_size", "state_dict", "stored_state_dict", "stream", "threads",
        "trace", "weight_dtype",
    }  # fmt: skip
    assert set(public(fastrnn.LSTM)) == stack
    assert set(public(fastrnn.GRU)) == stack | {"reset_after"}
    assert set(public(fastrnn.RNN)) == stack | {"nonlinearity"}
    assert set(public(fastrnn.Model)) == {
        "batch_first", "fingerprint", "inputs", "layers", "outputs", "pool", "states", "stream",
        "trace",
    }  # fmt: skip
    for name in ("take", "stack", "from_config", "for_stack"):
        assert not hasattr(fastrnn.LSTM, name)
    for name in ("admit", "ready", "dismiss", "promise", "check_open"):
        assert not hasattr(fastrnn.serve.Batcher, name)
    session = {"close", "load", "reset", "run", "save", "step"}
    assert session <= set(public(fastrnn.serve.Session))
    for name in ("pop", "run_owned", "next_frames", "release", "abandon", "waits"):
        assert not hasattr(fastrnn.serve.Session, name)


# Hands used to torch


@pytest.mark.parametrize("made", [*LAYERS, *CELLS], ids=lambda kind: kind.__name__)
def test_methods_of_torch_say_what_to_write(made):
    layer = made(3, 5)
    for name in METHODS:
        with pytest.raises(AttributeError, match=rf"^{made.__name__} has no {name}\(\): \w+"):
            getattr(layer, name)
        assert not hasattr(layer, name)
    with pytest.raises(AttributeError, match="object has no attribute 'wobble'"):
        layer.wobble()


def test_methods_that_torch_has_are_those_named(torch):
    for name in METHODS:
        assert hasattr(torch.nn.LSTM(3, 5), name), name


@pytest.mark.parametrize("made", LAYERS, ids=lambda kind: kind.__name__)
def test_a_packed_sequence_is_told_how_it_is_written(made, torch):
    layer = made.from_state_dict(weights(made.__name__))
    x = torch.randn(7, 2, 3)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [7, 4])
    with pytest.raises(TypeError, match="x is a PackedSequence, expected an array") as error:
        layer(packed)
    names = {"torch": torch, "packed": packed, "layer": layer}
    said = str(error.value).partition("an array: ")[2]
    for line in said.split(", then "):
        exec(f"y = {line}" if line.startswith("layer") else line, names)
    module = getattr(torch.nn, made.__name__)(3, 5)
    module.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0])
    np.testing.assert_allclose(names["y"][0], expected.detach().numpy(), 1e-4, 1e-5)


def test_a_cell_is_told_too(torch):
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(7, 2, 3), [7, 4])
    with pytest.raises(TypeError, match="PackedSequence"):
        fastrnn.GRUCell(3, 5)(packed)


@pytest.mark.parametrize("argument", ["device", "map_location", "weights_only", "strict"])
def test_arguments_of_torch_say_what_to_leave_out(argument, tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, **weights())
    for call in (
        lambda **more: fastrnn.LSTM(3, 5, **more),
        lambda **more: fastrnn.LSTMCell(3, 5, **more),
        lambda **more: fastrnn.LSTM.from_state_dict(weights(), **more),
        lambda **more: fastrnn.load(path, **more),
    ):
        with pytest.raises(TypeError, match=f": leave {argument} out$"):
            call(**{argument: "cpu"})


def test_load_state_dict_is_strict():
    lstm, cell = fastrnn.LSTM(3, 5), fastrnn.LSTMCell(3, 5)
    lstm.load_state_dict(weights(), strict=True)
    cell.load_state_dict(weights(), strict=True)
    for layer in (lstm, cell):
        with pytest.raises(ValueError, match="strict=False, but what is missing or left over"):
            layer.load_state_dict(weights(), strict=False)


def test_the_program_is_checked_in_ci():
    root = Path(__file__).parent.parent
    if not (root / ".ci" / "run").exists():
        pytest.skip("a source distribution has no .ci/")
    assert "tests/typed_program.py" in (root / ".ci" / "run").read_text()
