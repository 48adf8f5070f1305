"""The file being read: bounded reads of it, and how much memory its size justifies.

Nothing is memory-mapped: a mapped file that another process truncates kills the reader.
"""

from __future__ import annotations

import io
import zlib
from contextlib import ExitStack
from typing import BinaryIO, Protocol

from fastrnn.errors import FormatError

ALLOWANCE_FACTOR = 8
ALLOWANCE_BYTES = 64 << 20
_CHUNK = 1 << 20


class Budget:
    """Bytes that may still be made from one file: 8 times its size and 64 MiB more at the start.

    bfloat16 widened to float32 takes 2 times the file's bytes, deflated .npz entries and expanded
    tensors more. What a file asks for past this is refused before it is allocated.
    """

    def __init__(self, file_size: int) -> None:
        self.allowed = ALLOWANCE_FACTOR * file_size + ALLOWANCE_BYTES
        self.left = self.allowed

    def take(self, nbytes: int) -> None:
        """Count `nbytes` as made; FormatError where that is more than is left."""
        if nbytes > self.left:
            raise FormatError(
                f"would take more memory than the file's size justifies: {shown(nbytes)} bytes "
                f"more, after {self.allowed - self.left} of the {self.allowed} allowed "
                f"({ALLOWANCE_FACTOR} times the file and {ALLOWANCE_BYTES >> 20} MiB)"
            )
        self.left -= nbytes

    def grow(self, file_size: int) -> None:
        """Allow what another file of the same model justifies."""
        self.allowed += ALLOWANCE_FACTOR * file_size
        self.left += ALLOWANCE_FACTOR * file_size

    def check(self, what: str, nbytes: int) -> None:
        """FormatError where `nbytes` at once for `what` are more than the file justifies."""
        if nbytes > self.allowed:
            raise FormatError(
                f"{what} would take more memory than the file's size justifies: "
                f"{shown(nbytes)} bytes, expected {self.allowed} at most "
                f"({ALLOWANCE_FACTOR} times the file and {ALLOWANCE_BYTES >> 20} MiB)"
            )


class Blob(Protocol):
    """A run of bytes that a tensor is cut from: part of the file, or bytes already in memory."""

    size: int

    def into(self, offset: int, target: memoryview) -> None:
        """Fill `target` (flat, bytes) from `offset` on; FormatError where the bytes run out."""


class Bytes:
    """A Blob over bytes in memory."""

    __slots__ = ("data", "size")

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def into(self, offset: int, target: memoryview) -> None:
        """Fill `target`, as Blob says."""
        check_range("the data", offset, len(target), self.size)
        target[:] = memoryview(self.data)[offset : offset + len(target)]


class Part:
    """A Blob over `size` bytes of the file from `start` on."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        check_range("the file", start, size, source.size)
        self.source, self.start, self.size = source, start, size

    def into(self, offset: int, target: memoryview) -> None:
        """Fill `target`, as Blob says."""
        check_range("the data", offset, len(target), self.size)
        self.source.into(self.start + offset, target)

    def crc32(self) -> int:
        """The CRC-32 of all of it, read piece by piece."""
        crc = 0
        for offset in range(0, self.size, _CHUNK):
            step = min(_CHUNK, self.size - offset)
            crc = zlib.crc32(self.source.at(self.start + offset, step), crc)
        return crc


class Source:
    """A seekable binary file, its size in bytes when it was opened, and its budget.

    `path` is where a caller said it is, "" where it is no file of the file system; `others` are the
    files that were opened because of this one, to be closed with it.
    """

    def __init__(
        self, file: BinaryIO, size: int, budget: Budget | None = None, path: str = ""
    ) -> None:
        self.file, self.size, self.path = file, size, path
        self.others, self.nbytes_of_others = ExitStack(), 0
        self.budget = Budget(size) if budget is None else budget

    def part(self, start: int, size: int) -> Source:
        """A Source of `size` bytes from `start` on, with the same budget."""
        check_range("the file", start, size, self.size)
        return Source(windowed(self.file, start, size), size, self.budget)

    def of_bytes(self, data: bytes) -> Source:
        """A Source of `data`, which was made from this one, with the same budget."""
        return Source(io.BytesIO(data), len(data), self.budget)

    def at(self, offset: int, nbytes: int) -> bytes:
        """The `nbytes` bytes from `offset` on; FormatError where the file has not so many."""
        check_range("the file", offset, nbytes, self.size)
        self.file.seek(offset)
        data = self.file.read(nbytes)
        if len(data) != nbytes:
            raise FormatError("the file became shorter while it was read")
        return data

    def into(self, offset: int, target: memoryview) -> None:
        """Fill `target` (flat, bytes) from `offset` on, as `at` does."""
        check_range("the file", offset, len(target), self.size)
        self.file.seek(offset)
        done = 0
        while done < len(target):
            count = self.file.readinto(target[done:])  # type: ignore[attr-defined]
            if not count:
                raise FormatError("the file became shorter while it was read")
            done += count


class _Window(io.RawIOBase):
    """`size` bytes from `start` on of a file that can seek, as a file of their own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(target), self._size - self._position)
        if wanted <= 0:
            return 0
        self._file.seek(self._start + self._position)
        data = self._file.read(wanted) or b""
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


def windowed(file: BinaryIO, start: int, size: int) -> BinaryIO:
    """`size` bytes of `file` from `start` on as a file; `file` needs seek and read alone."""
    return io.BufferedReader(_Window(file, start, size), 1 << 16)


def check_range(what: str, offset: int, nbytes: int, size: int) -> None:
    """FormatError unless 0 <= offset <= offset + nbytes <= size."""
    if offset < 0 or nbytes < 0 or offset + nbytes > size:
        raise FormatError(
            f"truncated or damaged: {what} has {size} bytes, "
            f"wanted {shown(nbytes)} from {shown(offset)} on"
        )


def shown(value: object) -> str:
    """`value` for a message: bounded in length, whatever a hostile file made of it."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 64 else f"an int of {value.bit_length()} bits"
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= 80 else f"{value[:80]!r}..."
    if isinstance(value, tuple) and len(value) <= 8 and all(map(_is_plain, value)):
        return "(" + ", ".join(map(shown, value)) + ")"
    return f"a {type(value).__name__}"


def _is_plain(value: object) -> bool:
    return isinstance(value, (int, str))
