"""HDF5 files: what h5py writes is read as h5py reads it; what leads elsewhere or lies is refused."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn import formats
from fastrnn.errors import FormatError
from fastrnn.formats import hdf5
from fastrnn.formats.source import Source
from fastrnn.layers.weights import StackConfig

h5py = pytest.importorskip("h5py")


def source(data: bytes) -> Source:
    return Source(io.BytesIO(data), len(data))


def written(fill, **options) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        fill(h5)
    return file.getvalue()


def read(data: bytes) -> dict[str, np.ndarray | str]:
    of = source(data)
    return {
        path: array if isinstance(array, str) else array.read(of.budget)
        for path, array in hdf5.read(of).arrays.items()
    }


VERSIONS = ["earliest", "v108", "v110", "v112"]
DTYPES = ["<f2", "<f4", "<f8", ">f4", ">f8", "i1", "<i2", ">i4", "<i8", "u1", "<u2", ">u4", "<u8"]


@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_h5py_writes_is_read_as_h5py_reads_it(version, track_order, rng):
    arrays = {
        **{f"types/{i}": rng.integers(0, 99, (3, 4)).astype(t) for i, t in enumerate(DTYPES[:7])},
        **{f"more/{i}": rng.integers(0, 99, (2,)).astype(t) for i, t in enumerate(DTYPES[7:])},
        "deep/a/b/c/d/scalar": np.float32(3),
        "deep/empty": np.zeros((0, 3), np.float32),
        "é/ü": np.ones((2, 3, 4, 5), np.float32),
    }

    def fill(h5):
        for name, array in arrays.items():
            h5.create_dataset(name, data=array, track_order=track_order)
        h5["deep"].attrs["name"] = "a text"
        h5["deep"].attrs["number"] = 3
        h5.attrs["model_config"] = "é" * 100_000
        h5.attrs["fixed"] = np.bytes_(b"fixed text")

    data = written(fill, libver=(version, "latest"), track_order=track_order)
    got = read(data)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        if array.size:
            np.testing.assert_array_equal(got[name], array)
            assert got[name].dtype == array.dtype.newbyteorder("=")
    assert hdf5.read(source(data)).texts == {
        ("", "model_config"): "é" * 100_000,
        ("", "fixed"): "fixed text",
        ("deep", "name"): "a text",
    }


@pytest.mark.parametrize("count", [1, 8, 9, 40, 3000])
def test_groups_of_any_size(count):
    names = [f"{i:04}" for i in range(count)]
    data = written(lambda h5: [h5.create_group(f"g/{name}").create_group("x") for name in names])
    of = written(
        lambda h5: [h5.create_dataset(f"g/{n}", data=np.float32([i])) for i, n in enumerate(names)]
    )
    assert read(data) == {}
    assert [array.item() for array in read(of).values()] == list(range(count))


def test_a_new_group_with_many_links_is_said_not_to_be_read():
    def fill(h5):
        for i in range(9):
            h5.create_dataset(f"g/{i}", data=[1.0])

    assert "is a link" in read(written(fill, libver="latest"))["g/*"]


def test_compact_arrays_and_bfloat16():
    def fill(h5):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        dataset = h5py.h5d.create(h5.id, b"compact", h5py.h5t.IEEE_F32LE, space, plan)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.float32([1, 2, 3]))
        h5["opaque"] = np.frombuffer(b"\x80\x3f\x00\x40", "V2")
        h5["opaque"].attrs["dtype"] = "bfloat16"
        h5["words"] = np.uint16([0x3F80, 0x4000])
        h5["words"].attrs["dtype"] = "bfloat16"
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_size(2)
        kind.set_ebias(127)
        dataset = h5py.h5d.create(h5.id, b"float", kind, h5py.h5s.create_simple((2,)))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.float32([1, 2]))

    got = read(written(fill))
    assert got.pop("compact").tolist() == [1, 2, 3]
    assert {name: array.tolist() for name, array in got.items()} == {
        name: [1, 2] for name in ("opaque", "words", "float")
    }


def unread(fill, tmp_path: Path) -> str:
    """Why the array "x" of a file is not read. What it leads to is really there."""
    (tmp_path / "raw").write_bytes(bytes(4000))
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["secret"] = np.ones(3)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as h5:
        fill(h5, tmp_path)
    reason = read(path.read_bytes())["x"]
    assert isinstance(reason, str)
    return reason


def virtual(h5, folder):
    layout = h5py.VirtualLayout((1 << 40,), "f4")
    layout[:3] = h5py.VirtualSource(str(folder / "other.h5"), "secret", shape=(3,))
    h5.create_virtual_dataset("x", layout)


LEADS_AWAY = {
    "external link": (
        lambda h5, folder: h5.__setitem__(
            "x", h5py.ExternalLink(str(folder / "other.h5"), "secret")
        ),
        "not followed",
    ),
    "soft link": (lambda h5, _: h5.__setitem__("x", h5py.SoftLink("/etc/passwd")), "not followed"),
    "external storage": (
        lambda h5, folder: h5.create_dataset(
            "x", (10,), "f4", external=[(str(folder / "raw"), 0, 40)]
        ),
        "in other files",
    ),
    "virtual": (virtual, "in chunks or virtually"),
    "chunked": (
        lambda h5, _: h5.create_dataset("x", (1 << 22,), "f4", chunks=(1 << 20,)),
        "in chunks",
    ),
    "compressed": (
        lambda h5, _: h5.create_dataset("x", data=np.zeros(1 << 22), compression="gzip"),
        "is compressed",
    ),
    "filtered by a plugin": (
        lambda h5, _: h5.create_dataset("x", data=np.zeros(99), compression="lzf"),
        "is compressed",
    ),
    "reference": (
        lambda h5, _: h5.create_dataset("x", data=np.array([h5.ref], h5py.ref_dtype)),
        "not an array of numbers",
    ),
    "region": (
        lambda h5, _: h5.create_dataset("x", (1,), h5py.regionref_dtype),
        "not an array of numbers",
    ),
    "text": (lambda h5, _: h5.create_dataset("x", data="text"), "not an array of numbers"),
    "structure": (
        lambda h5, _: h5.create_dataset("x", (3,), np.dtype([("a", "f4")])),
        "not an array of numbers",
    ),
    "never written": (lambda h5, _: h5.create_dataset("x", (1 << 40,), "f4"), "has no data"),
    "null": (lambda h5, _: h5.create_dataset("x", data=h5py.Empty("f4")), "not an array of num"),
}


@pytest.mark.parametrize("kind", LEADS_AWAY)
def test_what_leads_out_of_the_file_or_is_not_there_is_not_followed(kind, tmp_path):
    fill, words = LEADS_AWAY[kind]
    assert words in unread(fill, tmp_path)


def test_a_state_dict_in_hdf5_is_read_as_one(rng):
    weights = reference.random_weights(StackConfig("LSTM", 3, 4, 2), rng)

    def fill(h5):
        for name, array in weights.items():
            h5[f"encoder.lstm.{name}"] = array

    data = written(fill)
    assert formats.contents(data).format == "hdf5"
    assert fastrnn.load(data, "lstm").num_layers == 2


def test_an_object_that_is_linked_twice_is_read_once(tmp_path):
    def fill(h5):
        h5["a"] = np.float32([1])
        h5["b"] = h5["a"]
        h5["group/self"] = h5["group"] if "group" in h5 else h5.create_group("group")
        h5["group/root"] = h5["/"]

    got = read(written(fill))
    assert got.pop("a").tolist() == [1]
    assert set(got) == {"b", "group/self", "group/root"}
    assert all("not followed" in reason for reason in got.values())


def test_groups_without_end_are_refused():
    deep = "/".join("g" * 40)
    with pytest.raises(FormatError, match="nested more than 32 deep"):
        read(written(lambda h5: h5.create_group(deep)))


def test_structures_that_are_reached_often_are_read_a_bounded_time():
    """Many groups whose entries say that one large table of names is theirs."""
    data = bytearray(
        written(lambda h5: [h5.create_group(f"{i:05}" + "x" * 200) for i in range(3000)])
    )
    heap = data.index(b"HEAP")
    (size, address) = struct.unpack_from("<Q8xQ", data, heap + 8)
    assert size > 500_000
    position = data.find(b"HEAP", heap + 1)
    while position > 0:
        struct.pack_into("<Q8xQ", data, position + 8, size, address)
        position = data.find(b"HEAP", position + 1)
    started = time.process_time()
    with pytest.raises(FormatError, match="reached in more ways than its size warrants"):
        read(bytes(data))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("at", "by", "words"),
    [
        (8, b"\x09", "superblock has version 9"),
        (13, b"\x07", "not of 2, 4 or 8 bytes"),
        (64, struct.pack("<Q", 1 << 60), "truncated or damaged"),
        (64, b"\xff" * 8, "an address that is needed is undefined"),
    ],
)
def test_a_superblock_that_is_none(at, by, words):
    data = bytearray(written(lambda h5: h5.create_group("x")))
    data[at : at + len(by)] = by
    with pytest.raises(FormatError, match=words):
        read(bytes(data))


@pytest.mark.parametrize("size", range(0, 2000, 97))
def test_a_file_that_is_cut_short(size):
    data = written(lambda h5: h5.create_dataset("a/b", data=np.ones(300)))
    with pytest.raises(FormatError, match=r"truncated or damaged|damaged HDF5"):
        read(data[: max(size, 9)])
