"""What weights are read from: paths, bytes in memory, open binary files."""

from __future__ import annotations

import gzip
import io
import mmap
import os
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import formats

PATH = Path(__file__).parent / "data" / "cases" / "10-in-memory" / "model.pt"
DATA = PATH.read_bytes()


def behind_a_header() -> io.BytesIO:
    file = io.BytesIO(b"header" + DATA)
    file.seek(6)
    return file


class OnlyReads:
    """A file of another library: what it takes is read, seek and tell."""

    def __init__(self) -> None:
        file = io.BytesIO(DATA)
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def spooled() -> tempfile.SpooledTemporaryFile[bytes]:
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115 (the test closes it)
    file.write(DATA)
    file.seek(0)
    return file


def mapped() -> mmap.mmap:
    with open(PATH, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


SOURCES = {
    "str": lambda: str(PATH),
    "path": lambda: PATH,
    "bytes": lambda: DATA,
    "bytearray": lambda: bytearray(DATA),
    "memoryview": lambda: memoryview(DATA),
    "array's memory": lambda: memoryview(np.frombuffer(DATA[: len(DATA) // 4 * 4], "<i4")),
    "BytesIO": lambda: io.BytesIO(DATA),
    "open file": partial(open, PATH, "rb"),
    "unbuffered file": partial(open, PATH, "rb", buffering=0),
    "behind a header": behind_a_header,
    "GzipFile": lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(DATA))),
    "spooled": spooled,
    "mmap": mapped,
    "file of another library": OnlyReads,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same(kind):
    source = SOURCES[kind]()
    if kind == "array's memory" and len(DATA) % 4:
        source = memoryview(DATA)
    want = np.load(PATH.parent / "expected.npz")
    layer = fastrnn.load(source)
    np.testing.assert_allclose(layer(want["x"])[0], want["y"], rtol=0, atol=1e-6)
    # An open file is where it was.
    assert list(fastrnn.read(source)) == list(fastrnn.read(PATH))
    assert formats.contents(source).format == "torch zip"
    if hasattr(source, "close"):
        source.close()


def test_bytes_that_change_later_change_nothing():
    data = bytearray(DATA)
    weights = fastrnn.read(data)
    data[:] = bytes(len(data))
    assert all(array.any() for array in weights.values())


@pytest.mark.parametrize("kind", ["pickle", "legacy", "safetensors", "npz", "json"])
def test_every_format_is_read_from_memory(kind, tmp_path):
    golden = Path(__file__).parent / "data"
    path = {
        "pickle": golden / "cases" / "15-plain-pickle" / "model.pkl",
        "legacy": golden / "formats" / "state_legacy.pt",
        "safetensors": tmp_path / "a.safetensors",
        "npz": golden / "formats" / "expected.npz",
        "json": golden / "cases" / "14-json" / "amp.json",
    }[kind]
    if kind == "safetensors":
        formats.write(path, {"a": np.ones(3)})
    assert list(fastrnn.read(path.read_bytes())) == list(fastrnn.read(path))
    padded = io.BytesIO(b"xyz" + path.read_bytes())
    padded.seek(3)
    assert list(fastrnn.read(padded)) == list(fastrnn.read(path))
    assert padded.tell() == 3


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", r"^<bytes>: is empty"),
        (b"\0" * 99, r"^<bytes>: starts with"),
        (DATA[:-100], r"^<bytes>: truncated"),
        (bytearray(DATA[:-100]), r"^<bytearray>: truncated"),
        (io.BytesIO(DATA[:-100]), r"^<BytesIO>: truncated"),
        (io.BytesIO(b""), r"^<BytesIO>: is empty"),
    ],
)
def test_refusals_name_the_source(source, words):
    for read in (fastrnn.read, fastrnn.load):
        with pytest.raises(fastrnn.FormatError, match=words):
            read(source)


def test_a_file_that_was_just_written_says_where_it_is():
    file = io.BytesIO()
    file.write(DATA)
    with pytest.raises(fastrnn.FormatError, match=f"at its end, byte {len(DATA)}"):
        fastrnn.load(file)


def test_an_open_file_is_named_by_its_path(tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes(DATA[:-100])
    with open(path, "rb") as file, pytest.raises(fastrnn.FormatError, match=f"^{path}: truncated"):
        fastrnn.load(file)


def test_a_pipe_is_refused_and_not_read():
    reader, writer = os.pipe()
    with open(reader, "rb") as file, open(writer, "wb") as out:
        out.write(b"x")
        with pytest.raises(fastrnn.FormatError, match="a stream that cannot seek"):
            fastrnn.load(file)


@pytest.mark.parametrize("source", [io.StringIO("{}"), None, 3, {}, [DATA]])
def test_anything_else_is_a_type_error(source):
    with pytest.raises(TypeError, match=r"path is (a file of text|\w+, expected a path, bytes)"):
        fastrnn.read(source)


def test_a_zip_member_that_is_open_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pt", DATA)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("model.pt") as file:
        assert isinstance(fastrnn.load(file), fastrnn.LSTM)
