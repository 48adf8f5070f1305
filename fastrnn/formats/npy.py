"""The .npy format of numpy.save: headers, and reading one such file. Nothing in it is unpickled.

Format: numpy.lib.format; a file is a magic, a version, the length of a header, the header (a Python
dict literal of three keys, matched here and not evaluated) and the elements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.opening import source_of
from fastrnn.formats.source import Blob, Part, Source, shown

_MAGIC = b"\x93NUMPY"
_VERSIONS = (b"\1\0", b"\2\0", b"\3\0")
_MAX_HEADER = 10_000
LONGEST = 12 + _MAX_HEADER  # bytes before the elements
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>=|]?)([a-zA-Z]\d*)['"]""")
_VALUE = r"""['"][<>=|]?[a-zA-Z]\d*['"]|True|False|\([0-9L,\s]*\)"""
_ITEM = re.compile(rf"""['"](descr|fortran_order|shape)['"]\s*:\s*({_VALUE})""")
_UNNAMED = _ITEM.pattern.replace("(", "(?:").replace(r"\(?:", r"\(")
_HEADER = re.compile(rf"\s*\{{\s*({_UNNAMED}(?:\s*,\s*{_UNNAMED})*)(?:\s*,)?\s*\}}\s*")
_LENGTH = re.compile(r"(0|[1-9][0-9]{0,18})L?")
_PIECE = 1 << 20  # bytes read at once of an array that is cut


def described(head: bytes) -> tuple[str, arrays.View, int] | None:
    """What the first LONGEST bytes of an array say: byte order, view, and where elements begin.

    None where it is not one of numbers; FormatError where it is damaged.
    """
    if len(head) < 12 or head[:6] != _MAGIC or head[6:8] not in _VERSIONS:
        raise FormatError(f"is not a .npy array: it starts with {shown(head[:12])}")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    if length > _MAX_HEADER:
        raise FormatError(f"has a header of {length} bytes, expected {_MAX_HEADER} at most")
    start += length
    if start > len(head):
        raise FormatError(f"truncated or damaged: has {len(head)} bytes, its header {start}")
    found = _described(head[start - length : start].decode("latin-1"))
    return None if found is None else (*found, start)


@dataclass
class Npy:
    """An open .npy file: what it is an array of, and parts of it."""

    view: arrays.View
    _byte_order: str
    _source: Source
    _start: int

    def whole(self) -> np.ndarray:
        """The array; raises as `read`."""
        blob = self._blob()
        return arrays.build(self.view, blob, self._source.budget, byte_order=self._byte_order)

    def _blob(self) -> Part:
        return Part(self._source, self._start, self._source.size - self._start)

    def read(self, view: arrays.View) -> np.ndarray:
        """The part of the array that `view` (n, m) cuts out, which need not fit into memory whole.

        Raises
        ------
        FormatError
            If the file is shorter than it says, or becomes so.
        """
        blob = self._blob()
        rows, columns = view.strides
        axis = 0 if rows >= columns else 1
        most = max(_PIECE // max(view.strides[axis], 1), 1)
        pieces = []
        for begin in range(0, max(view.shape[axis], 1), most):
            count = min(most, view.shape[axis] - begin)
            shape = (count, view.shape[1]) if axis == 0 else (view.shape[0], count)
            offset = view.offset + begin * view.strides[axis]
            piece = arrays.View(view.dtype, shape, view.strides, offset)
            pieces.append(
                arrays.build(piece, blob, self._source.budget, byte_order=self._byte_order)
            )
        return np.concatenate(pieces, axis=axis)


@contextmanager
def opened(path: str) -> Iterator[Npy]:
    """Open a .npy file for the length of a block; FormatErrors come out with its path in front.

    Raises
    ------
    FormatError
        If it is not one, is damaged, or holds no numbers.
    OSError
        If it cannot be opened.
    """
    try:
        with source_of(path) as source:
            head = source.at(0, min(source.size, LONGEST))
            if head.startswith(b"PK\3\4"):
                raise FormatError("an .npz archive, expected the .npy of one array")
            found = described(head)
            if found is None:
                raise FormatError("is not an array of numbers")
            byte_order, view, start = found
            there, wanted = source.size - start, arrays.nbytes(view.dtype, view.shape)
            if there < wanted:
                raise FormatError(
                    f"truncated or damaged: has {there} bytes of elements, expected "
                    f"{shown(wanted)} for {view.dtype} of shape {shown(view.shape)}"
                )
            yield Npy(view, byte_order, source, start)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


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


class Behind:
    """The bytes of a blob from `start` on."""

    def __init__(self, blob: Blob, start: int) -> None:
        self.blob, self.start, self.size = blob, start, blob.size - start

    def into(self, offset: int, target: memoryview) -> None:
        """Fill `target`, as Blob says."""
        self.blob.into(self.start + offset, target)
