"""Files that attack their reader: nothing runs, nothing crashes, hangs or takes too much memory."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import hostile_pickles
import numpy as np
import pytest

from fastrnn import formats
from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.source import Budget, Bytes
from fastrnn.formats.torch.legacy import MAGIC

GOLDEN = Path(__file__).parent / "data" / "formats"
TENSOR = b"X\1\0\0\0w" + pickle.dumps(np.ones(2, np.float32), 2)[2:-1]


def in_zip(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("model/data/0", struct.pack("<f", 1))


def in_pickle(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def in_legacy(path: Path, data: bytes) -> None:
    start = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True}))
    path.write_bytes(start + data + pickle.dumps([], 2))


CONTAINERS = {"zip": in_zip, "pickle": in_pickle, "legacy": in_legacy}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", hostile_pickles.CALLS)
def test_nothing_in_a_pickle_is_imported_or_called(name, container, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    package = tmp_path / "modules" / hostile_pickles.CANARY
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(hostile_pickles.OPENS)
    (package / "models.py").write_text(hostile_pickles.OPENS)
    loaded = set(sys.modules)

    CONTAINERS[container](tmp_path / "a.pt", b"\x80\2" + hostile_pickles.CALLS[name] + b".")
    with pytest.raises(FormatError):
        formats.contents(tmp_path / "a.pt")
    # A tensor beside it is still read, where the call is one that stays a record.
    CONTAINERS[container](
        tmp_path / "b.pt",
        b"\x80\2}(" + TENSOR + b"X\1\0\0\0x" + hostile_pickles.CALLS[name] + b"u.",
    )
    if name != "codecs":
        assert list(formats.read(tmp_path / "b.pt")) == ["w"]

    assert not (tmp_path / hostile_pickles.CANARY).exists()
    assert set(sys.modules) - loaded <= {"encodings.latin_1", "encodings.cp437"}  # zipfile's


def test_the_canary_sings_when_pickle_reads_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "builtins.eval", "STACK_GLOBAL", "OBJ"):
        pickle.loads(b"\x80\4" + hostile_pickles.CALLS[name] + b".")
        assert (tmp_path / hostile_pickles.CANARY).exists(), name
        (tmp_path / hostile_pickles.CANARY).unlink()


def limited(*args: str) -> subprocess.CompletedProcess[str]:
    """Run this file as a program in a child, which limits its own memory."""
    # One BLAS thread: each reserves address space, which the limit counts.
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.run(
        [sys.executable, __file__, *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_no_shape_of_a_pickle_crashes_hangs_or_takes_memory(tmp_path):
    if sys.platform != "linux":
        pytest.skip("limits its memory as Linux does")
    done = limited(str(tmp_path / "a.pt"))
    assert done.returncode == 0, done.stdout + done.stderr
    results = dict(json.loads(line) for line in done.stdout.splitlines())
    assert list(results) == list(hostile_pickles.SHAPES)
    wrong = {name: result for name, result in results.items() if not result.startswith("refused")}
    assert wrong == {}


def read_shapes(path: Path) -> None:
    """Print what reading every hostile shape comes to, with 512 MiB to do it in."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (512 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name, opcodes in hostile_pickles.SHAPES.items():
        in_zip(path, b"\x80\2" + opcodes + b".")
        started = time.perf_counter()
        try:
            formats.contents(path)
            result = "read"
        except FormatError as error:
            result = "refused" if len(str(error)) < 1000 else f"said {len(str(error))} characters"
        except Exception as error:
            result = repr(error)
        if time.perf_counter() - started > 20:
            result += f" after {time.perf_counter() - started:.0f} s"
        print(json.dumps([name, result]), flush=True)


# A data.pkl that is deflated to next to nothing: what it makes may not depend on what it claims.
DEFLATED = {
    "lists": lambda size: b"\x80\2}(" + b"X\1\0\0\0a(" + b"]" * size + b"t" + TENSOR + b"u.",
    "marks": lambda size: b"\x80\2" + b"(" * size + TENSOR,
    "steps": lambda size: b"\x80\2}(" + TENSOR + b"u" + b"N0" * (size // 2) + b".",
    "text": lambda size: b"\x80\2}(" + TENSOR + hostile_pickles.text("x" * size) + b"Nu.",
}


@pytest.mark.parametrize("kind", DEFLATED)
@pytest.mark.parametrize("part", ["data.pkl", "constants.pkl", "byteorder", "code/net.py"])
def test_what_is_deflated_is_bounded_by_its_bytes_in_the_file(kind, part, tmp_path):
    path = tmp_path / "a.pt"
    records = {"data.pkl": b"\x80\2}(" + TENSOR + b"u.", "constants.pkl": b"\x80\2)."}
    records[part] = DEFLATED[kind](8 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in records.items():
            archive.writestr(f"m/{name}", data)
    words = rf"record 'm/{part}' inflates from \d+ to \d+ bytes, expected \d+ at most"
    if part == "code/net.py":
        assert list(formats.read(path)) == ["w"]
    else:
        with pytest.raises(FormatError, match=words):
            formats.read(path)


@pytest.mark.parametrize("kind", ["lists", "marks"])
def test_objects_are_counted_by_the_bytes_in_the_file(kind, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("m/data.pkl", DEFLATED[kind](900_000))
    with pytest.raises(FormatError, match="makes more objects than its size justifies"):
        formats.read(path)


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "bfloat16", "int16", "complex64"])
def test_an_array_takes_no_more_than_it_is_counted_for(dtype, order, expanded):
    rows, columns = 1000, 300
    view = arrays.contiguous(dtype, (rows, columns))
    if expanded:
        view = replace(view, strides=(0, 1))
    budget, blob = Budget(1 << 30), Bytes(bytes(rows * columns * arrays.ELEMENTS[dtype][1]))
    tracemalloc.start()
    try:
        made = arrays.build(view, blob, budget, byte_order=order)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.dtype == arrays.made_dtype(dtype)
    assert peak <= budget.allowed - budget.left + 10_000


def tensor(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """A data.pkl of one float32 tensor "w" of storage "0"."""

    class Named:
        def __init__(self, module, name):
            self.opcodes = hostile_pickles.named(module, name)

    def value(item):
        if isinstance(item, Named):
            return item.opcodes
        if isinstance(item, tuple):
            return b"(" + b"".join(map(value, item)) + b"t"
        return pickle.dumps(item, 2)[2:-1]

    storage = ("storage", Named("torch", "FloatStorage"), "0", "cpu", 1)
    body = value(storage) + b"Q" + b"".join(map(value, (offset, shape, strides, False, {})))
    rebuild = Named("torch._utils", "_rebuild_tensor_v2").opcodes
    return b"\x80\2}" + value("w") + rebuild + b"(" + body + b"tRs."


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "words"),
    [
        ((1,), (1,), 0, None),
        ((3, 2), (0, 0), 0, None),
        ((0, 2**40), (1, 1), 0, None),
        ((2,), (1,), 0, "has 4 bytes of data, expected 8"),
        ((1,), (1,), 1, "has 4 bytes of data, expected 8"),
        ((2, 2), (2**62, 2**62), 0, "has 4 bytes of data"),
        ((1,), (1,), -1, "offset -1"),
        ((2,), (-1,), 0, r"strides \(-1\)"),
        ((-1,), (1,), 0, "impossible shape"),
        ((1, 1), (1,), 0, "do not fit together"),
        ((2**30,), (0,), 0, "more memory than the file's size justifies"),
        ((2**40, 2**40), (0, 0), 0, "impossible shape"),
        ((0, 2**63 - 1), (1, 1), 0, "impossible shape"),
        ((1,) * 33, (1,) * 33, 0, "at most 32"),
        ((0,), (1,), 9, None),
        ((1.5,), (1,), 0, "expected ints"),
        ((2**100,), (0,), 0, "expected ints"),
        ((1,), (2**100,), 0, "expected ints"),
        ((1,), (1,), 2**100, "the offset an int of 101 bits"),
    ],
)
def test_tensors_must_lie_within_their_storage(shape, strides, offset, words, tmp_path):
    in_zip(tmp_path / "a.pt", tensor(shape, strides, offset))
    if words is None:
        array = formats.read(tmp_path / "a.pt")["w"]
        assert array.shape == shape
        assert (array == 1).all()
    else:
        with pytest.raises(FormatError, match=words):
            formats.read(tmp_path / "a.pt")


def test_an_error_in_a_tensor_names_the_file_and_the_tensor(tmp_path):
    in_zip(tmp_path / "a.pt", tensor((2,), (1,)))
    with pytest.raises(FormatError, match=r"a\.pt: tensor 'w' has 4 bytes"):
        formats.read(tmp_path / "a.pt")


def test_a_tensor_without_its_storage_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("model/data.pkl", tensor((1,), (1,)))
    with pytest.raises(FormatError, match=r"tensor 'w' .*no record 'model/data/0'"):
        formats.read(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["../../../etc/passwd", "/etc/passwd", "..\\x", "0\0"])
def test_names_of_records_are_not_paths(key, tmp_path):
    data = tensor((1,), (1,)).replace(pickle.dumps("0", 2)[2:-1], pickle.dumps(key, 2)[2:-1])
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("model/data.pkl", data)
        archive.writestr("../../escape", b"x")
    with pytest.raises(FormatError, match="has no record"):
        formats.read(tmp_path / "a.pt")


def npz(path: Path, compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytearray:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(f"{name}.npy", data)
    return bytearray(path.read_bytes())


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header.encode() + data
    )


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(1,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"", r"is not a \.npy array"),
        (b"x" * 100, r"is not a \.npy array"),
        (npy(header()), "has 0 bytes of data, expected 4"),
        (npy(header(shape="(-1,)"), bytes(4)), r"not one of a \.npy array"),
        (npy(header(shape="(" + "1," * 40 + ")"), bytes(4)), "at most 32"),
        (npy(header(shape=f"({2**62},{2**62})"), bytes(4)), "impossible shape"),
        (npy(header(shape=f"({2**30},)"), bytes(4)), "has 4 bytes of data"),
        (npy(header(shape="(" + "9" * 5000 + ",)"), bytes(4)), r"not one of a \.npy array"),
        (npy(header(order="__import__('os')"), bytes(4)), r"not one of a \.npy array"),
        (npy("(" * 9_000, bytes(4)), "no readable tensor"),
        (npy(header("'|O'"), pickle.dumps([1])), "no readable tensor"),
        (npy(header("[('a', '<f4')]"), bytes(4)), "no readable tensor"),
        (npy(header("'<M8[ns]'", shape="()"), bytes(8)), "no readable tensor"),
        (b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1), "header of 4294967295 bytes"),
    ],
)
def test_npz_records_must_be_arrays(record, words, tmp_path):
    npz(tmp_path / "a.npz", a=record)
    with pytest.raises(FormatError, match=words):
        formats.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (2,), }",
        "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': True, 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (01,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1, }",
        "{'descr': '<f4', 'fortran_order': False, }",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,), }",
        "'descr': '<f4', 'fortran_order': False, 'shape': (1,), ",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } | {'shape': (2,)}",
    ],
)
def test_a_header_that_numpy_reads_otherwise_is_refused(text, tmp_path):
    npz(tmp_path / "a.npz", a=npy(text, bytes(8)))
    with pytest.raises(FormatError, match=r"'a' has the header"):
        formats.read(tmp_path / "a.npz")


def test_headers_as_numpy_writes_them_are_read(tmp_path):
    arrays_ = {f"a{n}": np.zeros((2,) * n, order) for n in range(4) for order in (">f4",)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for version in ((1, 0), (2, 0), (3, 0)):
            for name, array in arrays_.items():
                with archive.open(f"{name}{version[0]}.npy", "w") as record:
                    np.lib.format.write_array(record, np.asfortranarray(array), version)
    assert len(formats.read(tmp_path / "a.npz")) == 12


def test_zip_bombs_are_not_inflated(tmp_path):
    bomb = npy(header("'|u1'", shape=f"({2**28},)"), bytes(2**28))
    npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, a=bomb)
    with pytest.raises(FormatError, match="'a' would take more memory than the file's size"):
        formats.read(tmp_path / "a.npz")


def test_a_deflated_record_larger_than_it_says_is_refused(tmp_path):
    data = npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, a=npy(header(), bytes(10**6)))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(FormatError, match="does not inflate to the 100 bytes stated"):
        formats.read(tmp_path / "a.npz")


def patched(path: Path, offset: int, kind: str, value: int, entry: int = 0) -> None:
    """Change a field of a central directory entry, `offset` bytes into it."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(entry + 1):
        at = data.index(b"PK\1\2", at + 1)
    struct.pack_into(kind, data, at + offset, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "kind", "value", "words"),
    [
        (8, "<H", 1, "encrypted"),
        (10, "<H", 14, "method 14"),
        (16, "<I", 1, "checksum"),
        (20, "<I", 10**6, "two sizes"),
        (24, "<I", 10**6, "two sizes"),
        (24, "<I", 2**32 - 1, "64-bit sizes"),
        (28, "<H", 60_000, "zip directory"),
        (42, "<I", 2**32 - 2, "past the end"),
        (42, "<I", 1, "zip header"),
    ],
)
def test_zip_directories_are_not_believed(offset, kind, value, words, tmp_path):
    npz(tmp_path / "a.npz", a=npy(header(), bytes(4)))
    assert list(formats.read(tmp_path / "a.npz")) == ["a"]
    patched(tmp_path / "a.npz", offset, kind, value)
    with pytest.raises(FormatError, match=words):
        formats.read(tmp_path / "a.npz")


def without_a_record(data):
    """The directory counts one record less than it has."""
    end = data.index(b"PK\5\6")
    struct.pack_into("<HH", data, end + 8, 1, 1)


def renamed(data):
    at = data.index(b"a.npy")
    data[at : at + 1] = b"c"


def with_a_gap(data):
    data[data.index(b"PK\5\6") : data.index(b"PK\5\6")] = bytes(8)


def without_checksum(data):
    at = data.index(b"PK\1\2")
    data[at + 16 : at + 20] = bytes(4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.extend(b"more"), "bytes behind the end"),
        (lambda data: data.extend(data), "does not fit before"),
        (lambda data: data.__setitem__(slice(0, 0), b"PK\3\4junk"), "does not fit before"),
        (without_a_record, "the zip directory has"),
        (with_a_gap, "does not fit before"),
        (renamed, "is named b'c.npy' where it starts"),
        (lambda data: data.__setitem__(slice(None), data.replace(b"a.npy", b"a\0npy")), "is named"),
        (without_checksum, "checksum does not match"),
    ],
)
def test_where_readers_of_zip_files_differ_it_is_refused(change, words, tmp_path):
    record = npy(header(), struct.pack("<f", 1))
    data = npz(tmp_path / "a.npz", a=record, b=record)
    change(data)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(FormatError, match=words):
        formats.read(tmp_path / "a.npz")


def test_records_that_overlap_or_come_twice_are_refused(tmp_path):
    record = npy(header(), bytes(4))
    npz(tmp_path / "a.npz", a=record, b=record)
    patched(tmp_path / "a.npz", 42, "<I", 0, entry=1)
    with pytest.raises(FormatError, match="lies over"):
        formats.read(tmp_path / "a.npz")
    data = npz(tmp_path / "a.npz", a=record, b=record).replace(b"b.npy", b"a.npy")
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(FormatError, match=r"two records named 'a\.npy'"):
        formats.read(tmp_path / "a.npz")


def test_a_directory_that_claims_more_than_the_file_has_is_refused(tmp_path):
    data = npz(tmp_path / "a.npz", a=npy(header(), bytes(4)))
    end = data.index(b"PK\5\6")
    for offset, kind, value in ((8, "<HH", (9, 9)), (12, "<I", (2**31,)), (16, "<I", (2**31,))):
        changed = bytearray(data)
        struct.pack_into(kind, changed, end + offset, *value)
        (tmp_path / "a.npz").write_bytes(changed)
        with pytest.raises(FormatError, match="does not fit"):
            formats.read(tmp_path / "a.npz")


def test_zip64_archives_are_read_and_their_lies_are_not_believed(tmp_path):
    path = tmp_path / "a.npz"
    record = npy(header(), struct.pack("<f", 7))
    local = struct.pack(
        "<4sHHHHHIIIHH",
        b"PK\3\4",
        45,
        0,
        0,
        0,
        0,
        zlib.crc32(record),
        len(record),
        len(record),
        5,
        0,
    )
    entry = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 45, 45, 0, 0, 0, 0, zlib.crc32(record),
        2**32 - 1, 2**32 - 1, 5, 28, 0, 0, 0, 0, 2**32 - 1,
    )  # fmt: skip
    extra = struct.pack("<HHQQQ", 1, 24, len(record), len(record), 0)
    body = local + b"a.npy" + record
    directory = entry + b"a.npy" + extra
    size, start, end = len(directory), len(body), len(body) + len(directory)
    for claimed, words in ((size, None), (2**60, "does not fit")):
        end_64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, claimed, start)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
        tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
        path.write_bytes(body + directory + end_64 + locator + tail)
        if words is None:
            assert formats.read(path)["a"].tolist() == [7]
        else:
            with pytest.raises(FormatError, match=words):
                formats.read(path)


def safetensors(head: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (safetensors(entry(), bytes(4), length=2**40), "header of 1099511627776 bytes"),
        (safetensors(b"{" * 50_000), "JSON"),
        (safetensors(b'{"a":' + b"[" * 50_000), "JSON"),
        (safetensors(b"{}}"), "not JSON"),
        (safetensors(b'{"\xff":1}'), "not JSON"),
        (safetensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry()["a"]).encode(),) * 2)), "twice"),
        (safetensors(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON|described by"),
        (safetensors({"a": 1}), "tensor 'a' is described by 1"),
        (safetensors(entry(shape=[-1]), bytes(4)), "described by"),
        (safetensors(entry(shape=[1.5]), bytes(4)), "described by"),
        (safetensors(entry(shape=[True]), bytes(4)), "described by"),
        (safetensors(entry(shape="1"), bytes(4)), "described by"),
        (safetensors(entry(offsets=[0]), bytes(4)), "described by"),
        (safetensors(entry(offsets=[0, 8]), bytes(4)), "truncated or damaged: tensor 'a'"),
        (safetensors(entry(offsets=[4, 0]), bytes(4)), "tensor 'a' is at bytes"),
        (safetensors(entry(offsets=[4, 8]), bytes(8)), "expected it to start at 0"),
        (safetensors(entry(), bytes(8)), "its header describes 4"),
        (safetensors(entry(shape=[2]), bytes(4)), "tensor 'a' has 4 bytes, expected 8"),
        (safetensors(entry(shape=[2**62, 2**62]), bytes(4)), "impossible shape"),
        (safetensors(entry(shape=[1] * 33), bytes(4)), "at most 32"),
        (safetensors(entry(dtype="F8_E8M0", shape=[4]), bytes(4)), "element type 'F8_E8M0'"),
        (safetensors({}), "no readable tensor"),
        (safetensors({"__metadata__": {"a": "b"}}), "no readable tensor"),
        (safetensors({**entry(), "b": entry()["a"]}, bytes(4)), "expected it to start at 4"),
        (safetensors({"a\ud800": entry()["a"]}, bytes(4)), "printable"),
    ],
)
def test_safetensors_headers_are_not_believed(data, words, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match=words):
        formats.read(tmp_path / "a.safetensors")


def test_safetensors_types_and_special_values_are_read(tmp_path):
    bf16 = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}
    f8 = {"dtype": "F8_E5M2", "shape": [3], "data_offsets": [8, 11]}
    e8m0 = {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [11, 12]}
    data = struct.pack("<4H4B", 0x3F80, 0xC000, 0x7FC0, 0xFF80, 0x3C, 0xC0, 0x7C, 0)
    head = {"__metadata__": {"format": "pt"}, "a": bf16, "c": f8, "b": e8m0}
    (tmp_path / "a.safetensors").write_bytes(safetensors(head, data))
    found = formats.contents(tmp_path / "a.safetensors")
    assert found.weights["a"].dtype == np.float32
    np.testing.assert_array_equal(found.weights["a"], [[1, -2], [math.nan, -math.inf]])
    np.testing.assert_array_equal(found.weights["c"], np.float32([1, -2, math.inf]))
    assert list(found.skipped) == ["b"]


def legacy(tail: bytes, keys: object) -> bytes:
    start = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {}))
    return start + tensor((1,), (1,)) + pickle.dumps(keys, 2) + tail


ONE = struct.pack("<qf", 1, 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (legacy(ONE[:-1], ["0"]), "truncated or damaged"),
        (legacy(struct.pack("<q", 2**62), ["0"]), "truncated or damaged"),
        (legacy(struct.pack("<q", -1), ["0"]), "truncated or damaged"),
        (legacy(ONE, []), "tensor 'w' is in storage '0', which the file has not"),
        (legacy(ONE, ["1"]), "'1', which no tensor refers to"),
        (legacy(ONE * 2, ["0", "0"]), "'0', which no tensor refers to"),
        (legacy(ONE, [["0"]]), "a list, which no tensor refers to"),
        (legacy(ONE, {"0": 1}), "a dict, expected a list"),
        (legacy(ONE, ["0"]).replace(b"FloatStorage", b"uint3"), "element type uint3"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(7, 2), "protocol is 7, expected 1001"),
        (pickle.dumps(MAGIC, 2), "truncated"),
    ],
)
def test_legacy_storages_are_not_believed(data, words, tmp_path):
    (tmp_path / "a.pt").write_bytes(legacy(ONE, ["0"]))
    assert formats.read(tmp_path / "a.pt")["w"].tolist() == [1]
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(FormatError, match=words):
        formats.read(tmp_path / "a.pt")


if __name__ == "__main__":
    read_shapes(Path(sys.argv[1]))


def test_names_that_are_joined_from_the_same_texts_are_counted(tmp_path):
    texts = [b"m%03d" % i + b"x" * 236 for i in range(500)]
    parts = [b"X" + struct.pack("<I", 240) + text + b"r" + struct.pack("<I", i) + b"0"
             for i, text in enumerate(texts)]  # fmt: skip
    pairs = (b"j%sj%s\x930" % (struct.pack("<I", i), struct.pack("<I", j))
             for i in range(500) for j in range(250))  # fmt: skip
    in_zip(tmp_path / "a.pt", b"\x80\4" + b"".join(parts) + b"".join(pairs) + b"}.")
    with pytest.raises(FormatError, match="more objects than its size justifies"):
        formats.read(tmp_path / "a.pt")
