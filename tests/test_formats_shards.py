"""Models in several files: the index, the folder, a shard by itself."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn.cli import main
from fastrnn.formats import contents, write
from fastrnn.layers.weights import StackConfig

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def weights(rng):
    config = StackConfig("GRU", 3, 4, num_layers=2)
    return {f"rnn.{name}": w for name, w in reference.random_weights(config, rng).items()}


def saved(folder, weights, cut=4, change=None):
    """`weights` in two files, the first `cut` of them in the first, and their index."""
    names = list(weights)
    places = {name: FIRST if i < cut else SECOND for i, name in enumerate(names)}
    for file in (FIRST, SECOND):
        write(folder / file, {n: weights[n] for n in names if places[n] == file})
    if change:
        change(places)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder / INDEX


@pytest.mark.parametrize("what", ["index", "folder", "folder with a slash"])
@pytest.mark.parametrize("cut", [1, 2, 4, 7])
def test_the_index_and_its_folder_stand_for_all(weights, cut, what, tmp_path):
    index = saved(tmp_path, weights, cut)
    path = {"index": index, "folder": tmp_path, "folder with a slash": f"{tmp_path}/"}[what]
    found = contents(path)
    assert found.format == "safetensors in 2 files"
    assert {n: w.tolist() for n, w in found.weights.items()} == {
        n: w.tolist() for n, w in weights.items()
    }
    layer, direct = fastrnn.load(path), fastrnn.GRU.from_state_dict(weights)
    x = np.ones((2, 1, 3), np.float32)
    np.testing.assert_array_equal(layer(x)[0], direct(x)[0])


def test_shards_of_torch_save(torch, tmp_path):
    module = torch.nn.LSTM(3, 4)
    state = list(module.state_dict().items())
    places = {}
    for number, part in ((1, state[:2]), (2, state[2:])):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save(dict(part), tmp_path / file)
        places |= {name: file for name, _ in part}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert contents(tmp_path).format == "torch zip in 2 files"
    layer = fastrnn.load(tmp_path)
    x = torch.ones(2, 1, 3)
    np.testing.assert_allclose(layer(x.numpy())[0], module(x)[0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("file", [FIRST, SECOND])
@pytest.mark.parametrize("cut", [2, 4])
def test_a_shard_that_lacks_part_of_a_stack_is_no_model(weights, cut, file, tmp_path, capsys):
    saved(tmp_path, weights, cut)
    path = tmp_path / file
    there = r"rnn\.\w+ is in model-0000[12]-of-00002.safetensors, this is file [12] of the 2"
    with pytest.raises(fastrnn.FormatError, match=there):
        fastrnn.load(path)
    with pytest.raises(ValueError, match=there):
        fastrnn.GRU.from_state_dict(fastrnn.read(path))
    assert main(["inspect", str(path)]) == 1
    assert re.search(f"cannot be loaded: {there}", capsys.readouterr().out)


def test_a_shard_with_a_whole_stack_is_read_where_the_index_says_so(weights, tmp_path):
    saved(tmp_path, {**weights, "head.weight": np.ones((2, 4), np.float32)}, cut=8)
    assert fastrnn.load(tmp_path / FIRST).num_layers == 2
    (tmp_path / INDEX).unlink()
    with pytest.raises(fastrnn.FormatError, match="the file is file 1 of the 2 of a model, and no"):
        fastrnn.load(tmp_path / FIRST)
    assert fastrnn.read(tmp_path / FIRST).keys() == weights.keys()


def test_converting_a_shard_does_not_hide_that_it_is_one(weights, tmp_path, capsys):
    saved(tmp_path, weights, cut=4)
    (tmp_path / INDEX).unlink()
    assert main(["convert", str(tmp_path / FIRST), str(tmp_path / "a.npz")]) == 1
    assert "file 1 of the 2" in capsys.readouterr().err
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    "file",
    ["../secret.safetensors", "/etc/passwd", "a/b.bin", "..", ".", "", "a\0b", "x" * 300, 3, None],
)
def test_an_index_names_files_beside_it_and_no_others(file, weights, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write(tmp_path / "secret.safetensors", {"rnn.secret": np.ones(3)})
    index = saved(folder, weights, change=lambda places: places.update({"rnn.secret": file}))
    with pytest.raises(fastrnn.FormatError, match=r"its index names .*, expected the name of a f"):
        fastrnn.load(index)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.update(extra=FIRST), f"{FIRST}: has no tensor 'extra', which the index says"),
        (lambda p: p.update(extra="gone.bin"), "names 'gone.bin', which is not beside it"),
        (lambda p: p.update({"rnn.bias_hh_l1": FIRST}), "has no tensor 'rnn.bias_hh_l1'"),
        (lambda p: p.clear(), "names no tensor"),
        (lambda p: p.update(extra=INDEX), f"{INDEX}: .*expected a file of"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(change, words, weights, tmp_path):
    with pytest.raises(fastrnn.FormatError, match=f"^{tmp_path}.*{words}"):
        fastrnn.load(saved(tmp_path, weights, change=change))


def test_a_tensor_in_two_files_is_in_none(weights, tmp_path):
    index = saved(tmp_path, weights)
    name = next(iter(weights))
    write(tmp_path / SECOND, {**dict(list(weights.items())[4:]), name: weights[name]})
    with pytest.raises(
        fastrnn.FormatError, match=f"{SECOND}: has tensor '{name}', which the index"
    ):
        fastrnn.load(index)
    # What the index does not mention may be in one file, and not in two.
    for file, own in ((FIRST, list(weights)[:4]), (SECOND, list(weights)[4:])):
        write(tmp_path / file, {**{n: weights[n] for n in own}, "rnn.other": np.ones(2)})
    with pytest.raises(fastrnn.FormatError, match=r"rnn\.other is the name of two different"):
        fastrnn.load(index)


def test_a_folder_with_two_indices_asks_which(weights, tmp_path):
    saved(tmp_path, weights)
    (tmp_path / "other.index.json").write_text("{}")
    with pytest.raises(fastrnn.FormatError, match=f"2 indices, say which: '{INDEX}', 'other.index"):
        fastrnn.load(tmp_path)


def test_a_folder_without_an_index_is_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError):
        fastrnn.load(tmp_path)


def test_an_index_in_memory_has_no_files(weights, tmp_path):
    data = saved(tmp_path, weights).read_bytes()
    with pytest.raises(fastrnn.FormatError, match="give its path"):
        fastrnn.load(data)


def test_shards_behind_links_are_read(weights, tmp_path):
    """As the cache of huggingface_hub has them."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    saved(tmp_path / "blobs", weights)
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert fastrnn.load(tmp_path / "snapshot").num_layers == 2


@pytest.mark.parametrize("what", [".", "__0_0.distcp"])
def test_a_checkpoint_of_torch_distributed_says_what_to_do(what, tmp_path):
    for name in (".metadata", "__0_0.distcp"):
        (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(
        fastrnn.FormatError, match=r"is a checkpoint of torch\.distributed.*dcp_to_"
    ):
        fastrnn.load(tmp_path / what)
