"""`fastrnn inspect`."""

from __future__ import annotations

import json
import struct
import time
from contextlib import nullcontext

import numpy as np
import pytest
from cli_files import stack_weights

from fastrnn.cli import main
from fastrnn.formats import Contents, Stored, Weights, write
from fastrnn.formats.source import Budget
from fastrnn.layers.weights import StackConfig

ENCODER = StackConfig("LSTM", 40, 16, num_layers=2, proj_size=8)
DECODER = StackConfig("GRU", 5, 7, bias=False, bidirectional=True)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    weights = {
        **stack_weights("encoder.lstm", ENCODER),
        **stack_weights("decoder", DECODER, "float64"),
        "head.weight": np.zeros((3, 7), np.float16),
        "steps": np.array(12, np.int64),
    }
    write(path, weights)
    return path


def inspect_json(path, capsys, status=0):
    assert main(["inspect", str(path), "--json"]) == status
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_a_person_sees_stacks_sizes_and_tensors(model, capsys):
    assert main(["inspect", str(model)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{model}: safetensors, ")
    assert f"encoder.lstm  {ENCODER}: {ENCODER.parameters:,} parameters, " in out
    assert f"decoder       {DECODER}: {DECODER.parameters:,} parameters, " in out
    assert "in float64" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["head.weight", "float16", "3", "x", "7"] in lines
    assert ["steps", "int64", "scalar"] in lines
    assert "foreign" not in out
    assert "could not be read" not in out


def test_a_machine_reads_the_same(model, capsys):
    found = inspect_json(model, capsys)
    assert found["file"] == str(model)
    assert found["bytes"] == model.stat().st_size
    assert found["format"] == "safetensors"
    assert found["values"] == ENCODER.parameters + DECODER.parameters + 21 + 1
    assert {"name": "steps", "dtype": "int64", "shape": []} in found["tensors"]
    assert len(found["tensors"]) == len(ENCODER.shapes()) + len(DECODER.shapes()) + 2
    assert found["foreign"] == found["skipped"] == []
    stacks = {stack["prefix"]: stack for stack in found["stacks"]}
    assert stacks["encoder.lstm"] == {
        "prefix": "encoder.lstm",
        "cell": "LSTM",
        "input_size": 40,
        "hidden_size": 16,
        "num_layers": 2,
        "bias": True,
        "bidirectional": False,
        "proj_size": 8,
        "dtype": "float32",
        "parameters": ENCODER.parameters,
        "bytes": 4 * ENCODER.parameters,
    }
    assert stacks["decoder"]["dtype"] == "float64"
    assert stacks["decoder"]["bytes"] == 8 * DECODER.parameters


def broken(change):
    weights = stack_weights("rnn", StackConfig("RNN", 3, 4))
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (broken(lambda w: w.pop("rnn.weight_hh_l0")), "rnn.weight_hh_l0 is missing"),
        (broken(lambda w: w.update({"rnn.bias_ih_l0": np.zeros(5)})), "rnn.bias_ih_l0 has shape"),
        (broken(lambda w: w.update({"rnn.bias_ih_l0": np.zeros(4, int)})), "expected floating"),
        (broken(lambda w: w["rnn.bias_hh_l0"].fill(np.nan)), "rnn.bias_hh_l0 holds NaN"),
    ],
    ids=["missing", "shape", "integer", "NaN"],
)
def test_a_stack_that_cannot_be_loaded_says_why(weights, problem, tmp_path, capsys):
    path = tmp_path / "broken.npz"
    write(path, {**weights, **stack_weights("whole", StackConfig("RNN", 3, 4))})
    bad, good = inspect_json(path, capsys)["stacks"]
    assert (bad["prefix"], good["prefix"]) == ("rnn", "whole")
    assert problem in bad["problem"]
    assert good["parameters"] == 36
    assert main(["inspect", str(path)]) == 0
    assert f"rnn    cannot be loaded: {bad['problem']}" in capsys.readouterr().out


def test_a_stack_without_prefix_and_a_file_without_stack(tmp_path, capsys):
    path = tmp_path / "cell.npz"
    write(path, stack_weights("", StackConfig("GRU", 3, 4)))
    assert main(["inspect", str(path)]) == 0
    assert "(no prefix)  GRU(3, 4)" in capsys.readouterr().out
    assert inspect_json(path, capsys)["stacks"][0]["prefix"] == ""
    write(path, {"head.weight": np.zeros((2, 2))})
    assert main(["inspect", str(path)]) == 1
    assert "recurrent stacks: none" in capsys.readouterr().out
    assert inspect_json(path, capsys, 1)["stacks"] == []


def test_a_tensor_with_a_hostile_name_is_refused_in_plain_text(tmp_path, capsys):
    name = "\x1b]0;pwned\x07weight"
    header = json.dumps({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    assert main(["inspect", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "\\x1b]0;pwned\\x07weight" in err
    assert "\x1b" not in err


def test_names_that_a_reader_let_through_are_escaped(tmp_path, monkeypatch, capsys):
    hostile = "\x1b[2J"
    weights = Weights(Budget(0))
    weights[hostile] = Stored(hostile, "f4", (2,), lambda: np.zeros(2, np.float32))
    found = Contents("pickle", weights, (hostile,), {f"{hostile}b": hostile})
    monkeypatch.setattr("fastrnn.cli.inspect.opened", lambda path: nullcontext(found))
    path = tmp_path / "model.pt"
    path.touch()
    assert main(["inspect", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.count("\\x1b[2J") == 4
    assert "\x1b" not in out
    assert inspect_json(path, capsys, 1)["foreign"] == [hostile]


def test_foreign_objects_and_skipped_tensors_of_a_whole_module(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    path = tmp_path / "module.pt"
    sparse = torch.eye(3).to_sparse()
    torch.save({"net": torch.nn.Sequential(torch.nn.GRU(3, 4)), "adjacency": sparse}, path)
    found = inspect_json(path, capsys)
    assert found["stacks"][0]["prefix"] == "net.0"
    assert "torch.nn.modules.container.Sequential" in found["foreign"]
    (skipped,) = found["skipped"]
    assert skipped["name"] == "adjacency"
    assert "sparse" in skipped["reason"]
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "  torch.nn.modules.container.Sequential\n" in out
    assert f"  adjacency  {skipped['reason']}\n" in out


def folded_weights():
    """A stack whose hidden weight is masked, one with a LayerNorm, and a head."""
    masked = stack_weights("enc.rnn", StackConfig("GRU", 3, 4))
    normed = stack_weights("dec", StackConfig("LSTM", 3, 4))
    mask = np.ones_like(masked["enc.rnn.weight_hh_l0"])
    return {
        **masked,
        "enc.rnn.weight_hh_l0_mask": mask,
        **normed,
        "dec.norm.weight": np.ones(4),
        "head": np.ones(2),
    }


def test_what_is_loaded_what_was_folded_and_what_is_left(tmp_path, capsys):
    path = tmp_path / "model.npz"
    write(path, folded_weights())
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "  enc.rnn  GRU(3, 4): 108 parameters, 432 bytes in float32\n" in out
    assert "           folded: mask (weight_hh_l0)\n" in out
    assert "  dec      cannot be loaded: dec.norm.weight is no parameter of torch's" in out
    assert "in no stack that can be loaded: 6 tensors\n" in out
    found = inspect_json(path, capsys)
    assert found["stacks"][0]["folded"] == {"weight_hh_l0": "mask"}
    assert found["left"] == [name for name in folded_weights() if not name.startswith("enc")]


def test_it_is_1_when_nothing_can_be_loaded(tmp_path, capsys):
    path = tmp_path / "model.npz"
    write(path, {n: v for n, v in folded_weights().items() if n.startswith("dec")})
    assert inspect_json(path, capsys, 1)["stacks"][0]["prefix"] == "dec"


@pytest.mark.parametrize("nested", [False, True])
def test_a_file_of_many_stacks_takes_no_longer_than_its_size_warrants(nested, tmp_path, capsys):
    # 0.1.0 took 79 s for 4,000.
    prefixes = ["a." * i + "a" for i in range(450)] if nested else [f"a{i}" for i in range(4000)]
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    names = (f"{p}.{n}" for p in prefixes for n in ("weight_ih_l0", "weight_hh_l0"))
    header = json.dumps(dict.fromkeys(names, entry)).encode()
    path = tmp_path / "many.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    started = time.perf_counter()
    assert len(inspect_json(path, capsys, 1)["stacks"]) == len(prefixes)
    assert time.perf_counter() - started < 20


def test_a_damaged_tensor_outside_of_all_stacks_is_found(tmp_path, capsys):
    path = tmp_path / "model.npz"
    write(path, {**stack_weights("rnn", StackConfig("RNN", 3, 4)), "head": np.arange(1000.0)})
    data = bytearray(path.read_bytes())
    data[data.index(np.arange(1000.0).tobytes()) + 500] ^= 1
    path.write_bytes(data)
    assert main(["inspect", str(path)]) == 1
    assert "tensor 'head' record 'head.npy' is damaged" in capsys.readouterr().err
