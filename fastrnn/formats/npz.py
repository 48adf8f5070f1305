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
from fastrnn.formats.inventory import Contents
from fastrnn.formats.source import Blob, shown
from fastrnn.formats.ziparchive import ZipArchive

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>=|]?)([a-zA-Z]\d*)['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([0-9L,\s]*)\)""")
_LENGTH = re.compile(r"\s*([0-9]{1,19})L?\s*")


def is_npz(archive: ZipArchive) -> bool:
    """Whether the archive has records, and all of them are .npy arrays."""
    return bool(archive.records) and all(name.endswith(".npy") for name in archive.records)


def contents(archive: ZipArchive) -> Contents:
    """Every array of numbers in the archive; FormatError where it is damaged.

    Arrays of objects, text or structures are skipped.
    """
    found = Contents("npz")
    for record in archive.records:
        found.add(
            record.removesuffix(".npy"),
            lambda record=record: _array(archive, archive.blob(record)),  # type: ignore[misc]
            archive.source.budget,
        )
    return found


def write(file: BinaryIO, weights: dict[str, np.ndarray]) -> None:
    """Write `weights` as numpy.savez does, with the same bytes for the same weights."""
    import zipfile  # slow to import, and needed for nothing else

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in weights.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as record:
                np.lib.format.write_array(record, array, allow_pickle=False)


def _array(archive: ZipArchive, blob: Blob) -> np.ndarray | str:
    head = _take(blob, 0, min(blob.size, 12))
    if head[:6] != _MAGIC or len(head) < 12:
        raise FormatError(f"is not a .npy array: it starts with {shown(head)}")
    wide = head[6] >= 2
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    if length > _MAX_HEADER:
        raise FormatError(f"has a header of {length} bytes, expected {_MAX_HEADER} at most")
    header = _take(blob, start, length).decode("utf-8", "replace")
    descr, order, shape = (part.search(header) for part in (_DESCR, _ORDER, _SHAPE))
    if descr is None or descr[2] not in arrays.NUMPY_ELEMENTS:
        return "is not an array of numbers"
    parts = shape[1].strip().removesuffix(",").split(",") if shape and shape[1].strip() else []
    matches = [match for match in map(_LENGTH.fullmatch, parts) if match]
    if order is None or shape is None or len(matches) != len(parts):
        raise FormatError(f"has the header {shown(header)}, which is not one of a .npy array")
    lengths = tuple(int(match[1]) for match in matches)
    arrays.check_shape(lengths)
    view = arrays.contiguous(arrays.NUMPY_ELEMENTS[descr[2]], lengths, fortran=order[1] == "True")
    data = _Behind(blob, start + length)
    byte_order = ">" if descr[1] == ">" else "<"
    return arrays.build(view, data, archive.source.budget, byte_order=byte_order)


class _Behind:
    """The bytes of a blob from `start` on."""

    def __init__(self, blob: Blob, start: int) -> None:
        self.blob, self.start, self.size = blob, start, blob.size - start

    def into(self, offset: int, target: memoryview) -> None:
        self.blob.into(self.start + offset, target)


def _take(blob: Blob, offset: int, nbytes: int) -> bytes:
    data = bytearray(nbytes)
    blob.into(offset, memoryview(data))
    return bytes(data)
