"""Writing .safetensors and .npz, and reading them back."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from fastrnn import formats
from fastrnn.formats import npz

SUFFIXES = [".safetensors", ".npz"]
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"]


def weights() -> dict[str, np.ndarray]:
    made = {f"types.{code}": np.array([[0, 1], [2, 3]]).astype(code) for code in DTYPES}
    made["scalar"] = np.array(2.5, np.float32)
    made["empty"] = np.zeros((0, 3), np.float32)
    made["transposed"] = np.arange(6.0).reshape(2, 3).T
    made["strided"] = np.arange(10)[::3]
    made["file"] = np.float32([np.nan, np.inf, -np.inf])
    made["größe"] = np.float32([1])
    return made


def assert_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert set(got) == set(want)
    for name, array in want.items():
        assert got[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("="), name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    formats.write(path, weights())
    found = formats.contents(path)
    assert found.format == suffix[1:]
    assert_same(found.weights, weights())
    assert all(array.dtype.isnative for array in found.weights.values())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_weights_give_the_same_bytes(suffix, tmp_path):
    paths = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for path in paths:
        formats.write(str(path), weights())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_npz_is_read_by_numpy(tmp_path):
    formats.write(tmp_path / "a.npz", weights())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert_same({name: archive[name] for name in archive.files}, weights())


def test_safetensors_is_read_by_its_own_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    formats.write(tmp_path / "a.safetensors", weights())
    assert_same(package.load_file(tmp_path / "a.safetensors"), weights())


def test_safetensors_is_laid_out_as_its_specification_says(tmp_path):
    formats.write(tmp_path / "a.safetensors", {"b": np.int8([1, 2, 3]), "a": np.float32([1])})
    data = (tmp_path / "a.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "b": {"dtype": "I8", "shape": [3], "data_offsets": [4, 7]},
    }
    assert data[8 + length :] == struct.pack("<f3b", 1, 1, 2, 3)


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    def fails(file, arrays):
        file.write(b"half")
        raise OSError("disk full")

    path = tmp_path / "a.npz"
    formats.write(path, weights())
    before = path.read_bytes()
    monkeypatch.setitem(formats.writing._WRITERS, ".npz", fails)
    with pytest.raises(OSError, match="disk full"):
        formats.write(path, weights())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("name", "tensors", "error", "words"),
    [
        ("a.pt", {"a": np.ones(1)}, ValueError, r"a\.pt.*\.safetensors or \.npz"),
        ("a.npz", {}, ValueError, "empty"),
        ("a.npz", {"a": np.array(["x"])}, ValueError, "tensor 'a' has dtype <U1"),
        ("a.npz", {"a": np.array([{}], object)}, ValueError, "tensor 'a' has dtype object"),
        ("a.npz", {"a": np.ones(1, np.complex128)}, ValueError, "tensor 'a' has dtype complex128"),
        ("a.npz", {"a\n": np.ones(1)}, ValueError, "printable"),
        ("a.npz", {3: np.ones(1)}, TypeError, "key 3"),
    ],
)
def test_what_cannot_be_written_is_refused(name, tensors, error, words, tmp_path):
    with pytest.raises(error, match=words):
        formats.write(tmp_path / name, tensors)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        formats.write(tmp_path / "no" / "a.npz", {"a": np.ones(1)})


def test_npz_names_keep_a_suffix_of_their_own(tmp_path):
    formats.write(tmp_path / "a.npz", {"x.npy": np.ones(1)})
    assert list(formats.read(tmp_path / "a.npz")) == ["x.npy"]
    assert npz.write is formats.writing._WRITERS[".npz"]


def test_a_mask_is_not_dropped(tmp_path):
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(TypeError, match="tensor 'w' is a masked array"):
        formats.write(tmp_path / "a.npz", {"w": masked})
    assert list(tmp_path.iterdir()) == []
