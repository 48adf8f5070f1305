"""The .npz archives of numpy.savez and numpy.savez_compressed. Nothing in them is unpickled.

Format: numpy.lib.format; a record is a magic, a version, the length of a header, the header (a
Python dict literal of three keys, matched here and not evaluated) and the elements.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.inventory import Contents, Stored, Weights, naming
from fastrnn.formats.source import Blob, shown
from fastrnn.formats.ziparchive import ZipArchive

_MAGIC = b"\x93NUMPY"
_VERSIONS = (b"\1\0", b"\2\0", b"\3\0")
_MAX_HEADER = 10_000
_LONGEST = 12 + _MAX_HEADER
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>=|]?)([a-zA-Z]\d*)['"]""")
_VALUE = r"""['"][<>=|]?[a-zA-Z]\d*['"]|True|False|\([0-9L,\s]*\)"""
_ITEM = re.compile(rf"""['"](descr|fortran_order|shape)['"]\s*:\s*({_VALUE})""")
_UNNAMED = _ITEM.pattern.replace("(", "(?:").replace(r"\(?:", r"\(")
_HEADER = re.compile(rf"\s*\{{\s*({_UNNAMED}(?:\s*,\s*{_UNNAMED})*)(?:\s*,)?\s*\}}\s*")
_LENGTH = re.compile(r"(0|[1-9][0-9]{0,18})L?")


def is_npz(archive: ZipArchive) -> bool:
    """Whether the archive has records, and all of them are .npy arrays."""
    return bool(archive.records) and all(name.endswith(".npy") for name in archive.records)


def contents(archive: ZipArchive) -> Contents:
    """Every array of numbers in the archive; FormatError where it is damaged.

    Arrays of objects, text or structures are skipped.
    """
    found = Contents("npz", Weights(archive.source.budget))
    for record in archive.records:
        name = record.removesuffix(".npy")
        with naming(name):
            stored = _stored(archive, name, record)
        found.add(name, stored)
    return found


def write(file: BinaryIO, weights: dict[str, np.ndarray]) -> None:
    """Write `weights` as numpy.savez does, with the same bytes for the same weights."""
    import zipfile  # slow to import, and needed for nothing else

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in weights.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as record:
                np.lib.format.write_array(record, array, allow_pickle=False)


def _stored(archive: ZipArchive, name: str, record: str) -> Stored | str:
    head = archive.start_of(record, _LONGEST)
    if len(head) < 12 or head[:6] != _MAGIC or head[6:8] not in _VERSIONS:
        raise FormatError(f"is not a .npy array: it starts with {shown(head[:12])}")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    if length > _MAX_HEADER:
        raise FormatError(f"has a header of {length} bytes, expected {_MAX_HEADER} at most")
    start += length
    if start > len(head):
        raise FormatError(f"truncated or damaged: has {len(head)} bytes, its header {start}")
    described = _described(head[start - length : start].decode("latin-1"))
    if described is None:
        return "is not an array of numbers"
    byte_order, view = described
    arrays.check_shape(view.shape)

    def make() -> np.ndarray:
        data = _Behind(archive.blob(record), start)
        return arrays.build(view, data, archive.source.budget, byte_order=byte_order)

    return Stored(name, arrays.made_dtype(view.dtype), view.shape, make)


def _described(header: str) -> tuple[str, arrays.View] | None:
    """The byte order and the view that a header describes; None where it is not one of numbers."""
    simple = _DESCR.search(header)
    if simple is None or simple[2] not in arrays.NUMPY_ELEMENTS:
        return None
    found: dict[str, str] = {}
    items = _HEADER.fullmatch(header)
    for key, value in _ITEM.findall(items[1]) if items else ():
        if key in found:
            raise FormatError(f"has the header {shown(header)}, which says {key} twice")
        found[key] = value
    parts = [part.strip() for part in found.get("shape", "()")[1:-1].split(",")]
    # A tuple of one length ends with a comma, others may.
    if parts[-1] == "":
        parts.pop()
    elif len(parts) == 1:
        found.clear()
    lengths = [match for match in map(_LENGTH.fullmatch, parts) if match]
    if found.keys() != {"descr", "fortran_order", "shape"} or len(lengths) != len(parts):
        raise FormatError(f"has the header {shown(header)}, which is not one of a .npy array")
    shape = tuple(int(length[1]) for length in lengths)
    arrays.check_shape(shape)
    fortran = found["fortran_order"] == "True"
    view = arrays.contiguous(arrays.NUMPY_ELEMENTS[simple[2]], shape, fortran=fortran)
    return ">" if simple[1] == ">" else "<", view


class _Behind:
    """The bytes of a blob from `start` on."""

    def __init__(self, blob: Blob, start: int) -> None:
        self.blob, self.start, self.size = blob, start, blob.size - start

    def into(self, offset: int, target: memoryview) -> None:
        self.blob.into(self.start + offset, target)
