"""The files that fastrnn reads and writes, as its users see them. Needs no PyTorch."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from fastrnn import formats
from fastrnn.errors import FormatError
from fastrnn.loading import load

GOLDEN = Path(__file__).parent / "data" / "formats"
KINDS = {
    "state.pt": "torch zip",
    "state_legacy.pt": "torch legacy",
    "checkpoint.pt": "torch zip",
    "checkpoint_legacy.pt": "torch legacy",
    "module.pt": "torch zip",
    "quantized.pt": "torch zip",
    "script.pt": "torchscript",
}
STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1, 2])}


def npy(value: object) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def expected(file: str) -> dict[str, np.ndarray]:
    """What PyTorch says is in a golden file."""
    with np.load(GOLDEN / "expected.npz") as truth:
        names = [name for name in truth.files if name.startswith(f"{file}/")]
        return {name.removeprefix(f"{file}/"): truth[name] for name in names}


def rewritten(file: str, change: dict[str, bytes] | None = None, **options: int) -> bytes:
    """A golden zip file, written again by zipfile with some records changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(GOLDEN / file) as old, zipfile.ZipFile(buffer, "w", **options) as new:
        for entry in old.infolist():
            name = entry.filename.split("/", 1)[1]
            new.writestr(entry.filename, (change or {}).get(name, old.read(entry)))
    return buffer.getvalue()


def assert_same(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype, name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("file", KINDS)
def test_golden_files_read_as_pytorch_reads_them(file):
    found = formats.contents(GOLDEN / file)
    weights = {name: found.weights[name] for name in found.weights if "CONSTANTS" not in name}
    assert found.format == KINDS[file]
    assert_same(weights, expected(file))
    assert_same(formats.read(str(GOLDEN / file)), found.weights)


def test_expected_values_are_read_from_npz_as_numpy_reads_them():
    with np.load(GOLDEN / "expected.npz") as truth:
        assert_same(formats.read(GOLDEN / "expected.npz"), dict(truth))


@pytest.mark.parametrize("file", KINDS)
def test_arrays_are_owned_contiguous_native_and_independent_of_the_file(file, tmp_path):
    copy = tmp_path / file
    copy.write_bytes((GOLDEN / file).read_bytes())
    weights = formats.read(copy)
    copy.write_bytes(b"")
    for array in weights.values():
        assert type(array) is np.ndarray
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.dtype.isnative
    kept = {name: weights[name] for name in weights if "CONSTANTS" not in name}
    assert_same(kept, expected(file))


def test_tied_weights_are_one_array():
    weights = formats.read(GOLDEN / "checkpoint.pt")
    assert weights["views.base"] is weights["views.tied"]


def test_foreign_classes_are_named_and_known_ones_are_not():
    found = formats.contents(GOLDEN / "module.pt")
    assert "mypkg.models.Tagger" in found.foreign
    assert found.foreign == tuple(sorted(found.foreign))
    assert formats.contents(GOLDEN / "checkpoint.pt").foreign == ()


def test_unreadable_tensors_are_skipped_with_a_reason():
    found = formats.contents(GOLDEN / "quantized.pt")
    assert list(found.weights) == ["weight", "bias"]
    assert list(found.skipped) == list(found.weights.unread) == ["sparse"]
    assert "sparse" in found.skipped["sparse"]
    assert found.weights.notes == {"weight": "dequantized from int8"}


def test_constants_of_torchscript_code_are_read():
    np.testing.assert_array_equal(formats.read(GOLDEN / "script.pt")["CONSTANTS.c0"], [2.0])


def test_the_format_is_told_by_content_and_not_by_suffix(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes((GOLDEN / "state.pt").read_bytes())
    assert formats.contents(path).format == "torch zip"


@pytest.mark.parametrize("device", ["cuda:0", "mps", "xla:1", "meta", "no such device"])
@pytest.mark.parametrize("file", ["state.pt", "state_legacy.pt"])
def test_storages_saved_from_any_device_are_read(file, device, tmp_path):
    def moved(data: bytes) -> bytes:
        cpu, name = b"X\3\0\0\0cpu", device.encode()
        assert cpu in data
        return data.replace(cpu, b"X" + len(name).to_bytes(4, "little") + name)

    path = tmp_path / file
    if file == "state.pt":
        with zipfile.ZipFile(GOLDEN / file) as archive:
            path.write_bytes(rewritten(file, {"data.pkl": moved(archive.read("state/data.pkl"))}))
    else:
        path.write_bytes(moved((GOLDEN / file).read_bytes()))
    assert_same(formats.read(path), expected(file))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_packed_again_by_another_tool_is_read(compression, tmp_path):
    path = tmp_path / "again.pt"
    path.write_bytes(rewritten("state.pt", compression=compression))
    assert_same(formats.read(path), expected("state.pt"))


def test_big_endian_storages_are_read(tmp_path):
    with zipfile.ZipFile(GOLDEN / "script.pt") as archive:
        storages = {
            name.split("/", 1)[1]: np.frombuffer(archive.read(name), "<f4").astype(">f4").tobytes()
            for name in archive.namelist()
            if "/data/" in name or "/constants/" in name
        }
    path = tmp_path / "big.pt"
    path.write_bytes(rewritten("script.pt", {**storages, "byteorder": b"big"}))
    assert_same(formats.read(path), formats.read(GOLDEN / "script.pt"))
    path.write_bytes(rewritten("script.pt", {"byteorder": b"middle"}))
    with pytest.raises(FormatError, match="byteorder"):
        formats.read(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_numpy_arrays_are_read(protocol, tmp_path):
    path = tmp_path / "arrays.pkl"
    tree = {
        "layers": [STATE, {"fortran": np.asfortranarray(STATE["a"]), "big": np.array([1], ">i4")}],
        "half": np.float16([0.5]),
        "flags": np.array([True, False]),
        "scalar": np.array(2.5),
        "score": np.float64(0.5),
        ("tuple", "key"): np.float32([3]),
        "names": ["x", {"y"}, frozenset("z"), 10**30, b"raw", bytearray(b"raw"), 1.5, None],
    }
    path.write_bytes(pickle.dumps(tree, protocol))
    found = formats.contents(path)
    assert (found.format, found.foreign, found.skipped) == ("pickle", (), {})
    want = {
        "layers.0.a": STATE["a"],
        "layers.0.b": STATE["b"],
        "layers.1.fortran": STATE["a"],
        "layers.1.big": np.int32([1]),
        "half": np.float16([0.5]),
        "flags": np.array([True, False]),
        "scalar": np.array(2.5),
        "<key 5>": np.float32([3]),
    }
    assert_same(found.weights, want)


def test_arrays_of_objects_and_text_are_skipped(tmp_path):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps([np.array(["a"]), np.array([{}], object), np.ones(2)], 4))
    found = formats.contents(path)
    assert list(found.weights) == ["2"]
    assert list(found.skipped) == ["0", "1"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        (b"GGUF\3\0\0\0" + bytes(99), "GGUF"),
        (b"\x08\x08\x12\x07pytorch" + bytes(99), "ONNX"),
        (b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite"),
        (b"\x93NUMPY\1\0" + bytes(99), "a single NumPy array without a name: .*savez"),
        (npy(STATE), r"a Python object \(a dict of arrays\?\) that numpy.save pickled: .*savez"),
        (pickle.dumps(STATE, 0), "pickle of protocol 0 or 1"),
        (pickle.dumps(STATE, 1), "pickle of protocol 0 or 1"),
        (pickle.dumps(OrderedDict(STATE), 0), "pickle of protocol 0 or 1"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 0), "pickle of protocol 0 or 1"),
        (bytes(257) + b"ustar\x0000" + bytes(300), "tar archive"),
        (b"\x1f\x8b\x08" + bytes(99), "gzip"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"epoch,loss\n1,0.5\n", "plain text"),
        (b"PK\5\6" + bytes(18), "empty zip"),
        (b"\xde\xad\xbe\xef" * 9, "starts with"),
        (b"PK\3\4" + bytes(40), "truncated"),
    ],
)
def test_other_files_are_refused_by_what_they_are(data, words, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=words) as raised:
        formats.read(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_other_archives_are_refused_by_what_they_hold(tmp_path):
    path = tmp_path / "model.zip"
    for name, words in [("a/model.json", "1.4"), ("x.txt", "has 'x.txt'")]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"")
        with pytest.raises(FormatError, match=words):
            formats.read(path)


@pytest.mark.parametrize("tree", [{"epoch": 1}, [], None, "text", {"loss": np.float64(1)}])
def test_a_file_without_tensors_is_refused_with_what_to_do(tree, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(tree))
    with pytest.raises(FormatError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        formats.read(path)


def test_a_name_that_two_tensors_have_is_neithers(tmp_path):
    path = tmp_path / "model.pkl"
    two = {"a.b": np.zeros(1), "a": {"b": np.ones(1)}}
    path.write_bytes(pickle.dumps(two))
    with pytest.raises(FormatError, match=r"'a\.b' is the name of two different tensors"):
        formats.read(path)
    path.write_bytes(pickle.dumps({**two, "c": np.ones(1)}))
    found = formats.contents(path)
    assert list(found.weights) == ["c"]
    assert found.weights.unread == {"a.b": "is the name of two different tensors"}


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\ud800", "a" * 1001])
def test_names_that_cannot_be_printed_are_refused(name, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({name: np.zeros(1)}))
    with pytest.raises(FormatError, match="expected printable text"):
        formats.read(path)


def test_errors_of_the_system_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError):
        formats.read(tmp_path / "missing.pt")
    with pytest.raises(IsADirectoryError):
        formats.read(tmp_path)


def test_devices_are_not_files():
    with pytest.raises(FormatError, match="regular file"):
        formats.read("/dev/zero")


@pytest.mark.parametrize("file", KINDS)
def test_every_truncation_is_refused(file, tmp_path):
    data = (GOLDEN / file).read_bytes()
    path = tmp_path / file
    for size in {*range(0, len(data), 97), len(data) - 1}:
        path.write_bytes(data[:size])
        with pytest.raises(FormatError):
            formats.read(path)


@pytest.mark.parametrize(
    ("file", "part"), [("state.pt", "/data/1"), ("script.pt", "/data/0"), ("expected.npz", ".npy")]
)
def test_a_flipped_bit_in_a_record_is_noticed(file, part, tmp_path):
    data = bytearray((GOLDEN / file).read_bytes())
    with zipfile.ZipFile(GOLDEN / file) as archive:
        tensors = [entry for entry in archive.infolist() if entry.filename.endswith(part)]
    biggest = max(tensors, key=lambda entry: entry.compress_size)
    end = archive.infolist()[archive.infolist().index(biggest) + 1].header_offset
    data[end - 24 - biggest.compress_size // 2] ^= 1
    path = tmp_path / file
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"tensor .* record .*(damaged|inflate)"):
        formats.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "fifo.pt"
    os.mkfifo(path)
    with pytest.raises(FormatError, match=r"fifo\.pt: not a regular file"):
        formats.read(path)


@pytest.mark.parametrize("length", [128, 384, 640, 896, 1152, 1408, 0x12_01_08, 0x22_7F_08])
def test_safetensors_whose_header_begins_as_another_format_does(length, tmp_path):
    """The length of the header comes first: 640 bytes begin as a pickle does, others as ONNX."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    entry = {"rnn.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, values.nbytes]}}
    header = json.dumps(entry).encode().ljust(length)
    data = struct.pack("<Q", length) + header + values.tobytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    for readable in (path, data):
        np.testing.assert_array_equal(formats.read(readable)["rnn.weight"], values)
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model.safetensors", data)
    np.testing.assert_array_equal(formats.read(tmp_path / "model.zip")["rnn.weight"], values)
    with pytest.raises(FormatError, match="stack"):
        load(path)  # and not an ONNX model, which is told apart before it is read
