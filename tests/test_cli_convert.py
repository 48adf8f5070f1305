"""`fastrnn convert`."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from cli_files import stack_weights

import fastrnn
from fastrnn.cli import main
from fastrnn.formats import Stored, Weights, write
from fastrnn.formats.source import Budget
from fastrnn.layers.weights import StackConfig

WEIGHTS = {
    **stack_weights("model.encoder", StackConfig("GRU", 3, 4)),
    "model.head.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
    "modelled": np.array([1, 2], np.int32),
}


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "src.npz"
    write(path, WEIGHTS)
    return path


def assert_same(weights, expected):
    assert set(weights) == set(expected)
    for name, array in weights.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".SAFETENSORS"])
def test_everything_is_written_as_it_is(suffix, src, tmp_path, capsys):
    dst = tmp_path / f"dst{suffix}"
    assert main(["convert", str(src), str(dst)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{dst}: 6 tensors, ")
    assert f"from {src} (npz)" in out
    assert err == ""
    assert_same(fastrnn.read(dst), WEIGHTS)


@pytest.mark.parametrize("prefix", ["model", "model."])
def test_prefix_takes_what_is_under_it_and_is_removed(prefix, src, tmp_path, capsys):
    dst = tmp_path / "dst.safetensors"
    assert main(["convert", str(src), str(dst), "--prefix", prefix]) == 0
    expected = {name[6:]: array for name, array in WEIGHTS.items() if name.startswith("model.")}
    assert_same(fastrnn.read(dst), expected)
    assert fastrnn.load(dst).hidden_size == 4


@pytest.mark.parametrize("prefix", ["enc", "model.head.weight", "nothing"])
def test_a_prefix_with_nothing_under_it_is_1_and_writes_nothing(prefix, src, tmp_path, capsys):
    dst = tmp_path / "dst.npz"
    assert main(["convert", str(src), str(dst), "--prefix", prefix]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"fastrnn: error: {src}: no tensor under prefix {prefix!r}; "
        "names start with 'model', 'modelled'\n"
    )
    assert not dst.exists()


def test_json_says_what_was_written(src, tmp_path, capsys):
    dst = tmp_path / "dst.safetensors"
    assert main(["convert", str(src), str(dst), "--prefix", "model.head", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(dst),
        "bytes": dst.stat().st_size,
        "from": str(src),
        "format": "npz",
        "tensors": ["weight"],
        "skipped": [],
    }


def test_a_file_that_is_there_stays_without_force(src, tmp_path, capsys):
    dst = tmp_path / "dst.npz"
    dst.write_bytes(b"precious")
    assert main(["convert", str(src), str(dst)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"fastrnn: error: {dst}: is there already, --force overwrites it\n"
    assert dst.read_bytes() == b"precious"
    assert main(["convert", str(src), str(dst), "--force"]) == 0
    assert_same(fastrnn.read(dst), WEIGHTS)


def test_a_file_that_comes_meanwhile_stays_without_force(src, tmp_path, monkeypatch, capsys):
    dst = tmp_path / "dst.npz"

    def slow(path, weights, **options):
        dst.write_bytes(b"precious")
        write(path, weights, **options)

    monkeypatch.setattr("fastrnn.cli.convert.write", slow)
    assert main(["convert", str(src), str(dst)]) == 2
    assert capsys.readouterr().err.endswith("is there already, --force overwrites it\n")
    assert dst.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_force_keeps_what_is_private_private(src, tmp_path):
    dst = tmp_path / "dst.npz"
    dst.touch(mode=0o600)
    assert main(["convert", str(src), str(dst), "--force"]) == 0
    assert dst.stat().st_mode & 0o777 == 0o600


def test_a_file_can_be_converted_onto_itself(src):
    assert main(["convert", str(src), str(src), "--force", "--prefix", "model.head"]) == 0
    assert list(fastrnn.read(src)) == ["weight"]


@pytest.mark.parametrize("name", ["dst.pt", "dst", "dst.npz.gz", "\x1b[1mdst"])
def test_an_unknown_suffix_is_usage(name, src, tmp_path, capsys):
    dst = tmp_path / name
    assert main(["convert", str(src), str(dst)]) == 2
    err = capsys.readouterr().err
    assert "expected it to end in .safetensors or .npz" in err
    assert "\x1b" not in err
    assert not dst.exists()


def test_a_folder_that_is_not_there_is_2(src, tmp_path, capsys):
    dst = tmp_path / "no" / "dst.npz"
    assert main(["convert", str(src), str(dst)]) == 2
    assert capsys.readouterr().err == f"fastrnn: error: {dst}: No such file or directory\n"


def test_a_folder_is_not_overwritten(src, tmp_path, capsys):
    dst = tmp_path / "dst.npz"
    dst.mkdir()
    assert main(["convert", str(src), str(dst), "--force"]) == 2
    assert capsys.readouterr().err == f"fastrnn: error: {dst}: Is a directory\n"
    assert set(tmp_path.iterdir()) == {dst, src}


def test_a_tensor_that_cannot_be_written_is_1(src, tmp_path, monkeypatch, capsys):
    found = fastrnn.formats.Contents("pickle", Weights(Budget(0)))
    found.add("wave", Stored("wave", complex, (2,), lambda: np.zeros(2, complex)))
    monkeypatch.setattr("fastrnn.cli.convert.opened", lambda path: nullcontext(found))
    dst = tmp_path / "dst.npz"
    assert main(["convert", str(src), str(dst)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"fastrnn: error: {dst}: tensor 'wave' has dtype complex128")
    assert not dst.exists()


def test_tensors_left_out_are_named(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    src, dst = tmp_path / "src.pt", tmp_path / "dst.safetensors"
    torch.save({"net": {"w": torch.ones(2), "s": torch.eye(2).to_sparse()}}, src)
    assert main(["convert", str(src), str(dst)]) == 0
    out, err = capsys.readouterr()
    assert "1 tensor, " in out
    assert err.startswith("fastrnn: left out: net.s is sparse")
    assert list(fastrnn.read(dst)) == ["net.w"]


@pytest.mark.parametrize(
    ("prefix", "refused"),
    [
        (None, None),
        ("net.rnn", None),
        ("net.rnn.module", "net.rnn.weight_hh_l0_raw belongs to it and would be left out"),
        ("net", None),
        ("head", None),
    ],
)
def test_a_stack_is_not_made_another_one(prefix, refused, tmp_path, capsys):
    src, dst = tmp_path / "src.npz", tmp_path / "dst.npz"
    stack = stack_weights("net.rnn.module", StackConfig("GRU", 3, 4))
    raw = {"net.rnn.weight_hh_l0_raw": 2 * stack["net.rnn.module.weight_hh_l0"]}
    write(src, {**stack, **raw, "head.w": np.ones(2)})
    options = ["--prefix", prefix] if prefix else []
    code = main(["convert", str(src), str(dst), *options])
    if refused:
        assert code == 1
        assert f"{src}: {refused}: without it, the stack under" in capsys.readouterr().err
        assert not dst.exists()
    else:
        assert code == 0
        if prefix != "head":
            weights = fastrnn.load(dst).state_dict()
            np.testing.assert_array_equal(weights["weight_hh_l0"], *raw.values())


def test_a_part_of_a_stack_that_could_not_be_read_is_not_left_out(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    src, dst = tmp_path / "src.pt", tmp_path / "dst.npz"
    weights = torch.nn.LSTM(3, 4, 2).state_dict()
    weights = {n: v.to_sparse() if n.endswith("_l1") else v for n, v in weights.items()}
    torch.save({"rnn": weights, "head": torch.ones(2)}, src)
    assert main(["convert", str(src), str(dst)]) == 1
    err = capsys.readouterr().err
    assert (
        f"{src}: rnn.weight_ih_l1 is sparse: save it as tensor.to_dense(): without it, the st"
        in err
    )
    assert not dst.exists()


@pytest.mark.parametrize("weight_dtype", ["int8", "int16"])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_stacks_are_made_small(weight_dtype, suffix, tmp_path, capsys):
    config = StackConfig("LSTM", 40, 64, num_layers=2)
    weights = stack_weights("net.lstm", config, "float32")
    head = np.ones((3, 64), np.float32)
    src, dst = tmp_path / "model.npz", tmp_path / f"small{suffix}"
    write(src, weights | {"head.weight": head})
    assert main(["convert", str(src), str(dst), "--weight-dtype", weight_dtype]) == 0
    share = np.dtype(weight_dtype).itemsize / 4
    assert dst.stat().st_size < (share + 0.08) * src.stat().st_size
    read = fastrnn.read(dst)
    np.testing.assert_array_equal(read["head.weight"], head)
    assert read["net.lstm.weight_hh_l1"].dtype == weight_dtype
    assert read["net.lstm.weight_hh_l1_scale"].shape == (256,)
    layer = fastrnn.load(dst)
    assert layer.weight_dtype == weight_dtype
    assert layer.fingerprint == fastrnn.load(src, weight_dtype=weight_dtype).fingerprint
    assert main(["convert", str(src), str(dst), "--weight-dtype", "int8", "--prefix", "head"]) == 2
    assert main(["convert", str(src), str(tmp_path / "h.npz"), "--weight-dtype", "int8",
                 "--prefix", "head"]) == 1  # fmt: skip
    assert "no recurrent stack" in capsys.readouterr().err
