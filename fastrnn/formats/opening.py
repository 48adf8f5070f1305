"""What weights are read from: a path, bytes in memory, or an open binary file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from fastrnn.errors import FormatError
from fastrnn.formats.source import Source, shown, windowed

Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def is_readable(value: object) -> bool:
    """Whether it is one of Readable, by its looks."""
    in_memory = isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview))
    return in_memory or callable(getattr(value, "read", None))


@contextmanager
def source_of(readable: Readable) -> Iterator[Source]:
    """Give `readable` as a Source, for the time of a block.

    A file is read from its current position to its end, and is back there after the block. Bytes
    that may change (bytearray, memoryview) are copied first.

    Raises
    ------
    TypeError
        For anything else, a file of text among them.
    FormatError
        If a path is not a regular file, or an open file cannot seek or has nothing left.
    OSError
        If a path cannot be opened.
    """
    if isinstance(readable, (str, os.PathLike)):
        path = os.fspath(readable)
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FormatError("not a regular file")
            source = Source(file, status.st_size, path=path)
            with source.others:
                yield source
    elif isinstance(readable, (bytes, bytearray, memoryview)):
        data = readable if isinstance(readable, bytes) else bytes(readable)
        yield Source(io.BytesIO(data), len(data))
    elif is_readable(readable):
        yield from _rest(readable)
    else:
        raise TypeError(
            f"path is {type(readable).__name__}, expected a path, bytes or an open binary file"
        )


def title(readable: Readable) -> str:
    """What messages call it: the path, the name of an open file, or "<bytes>" and its like."""
    if isinstance(readable, (str, os.PathLike)):
        return os.fspath(readable)
    name = getattr(readable, "name", None)
    return name if isinstance(name, str) else f"<{type(readable).__name__}>"


def _rest(file: Any) -> Iterator[Source]:
    """The bytes of `file` from where it is."""
    if not isinstance(file.read(0), bytes):
        raise TypeError(f"path is a file of text ({type(file).__name__}): open it in mode 'rb'")
    try:
        start = file.tell()
        file.seek(0, io.SEEK_END)
        size = file.tell() - start
        file.seek(start)
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        raise FormatError("is a stream that cannot seek: give the bytes that it reads") from None
    if size <= 0:
        raise FormatError(
            f"has nothing left to read: it is at its end, byte {shown(start)}"
            if start
            else "is empty"
        )
    try:
        yield Source(windowed(file, start, size), size)
    finally:
        file.seek(start)


def _without_waiting(name: str, flags: int) -> int:
    """Open without waiting for the other end, should it be a FIFO; it is refused then."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
