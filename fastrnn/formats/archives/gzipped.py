"""A file under gzip: its bytes in memory, no more of them than the budget allows."""

from __future__ import annotations

import io
import zlib

from fastrnn.errors import FormatError
from fastrnn.formats.source import Source

MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 18
_GZIP = 16 + zlib.MAX_WBITS


def inflated(source: Source) -> Source:
    """What the gzip file holds, counted against its budget as it grows.

    Raises
    ------
    FormatError
        It is damaged, cut short, or larger than its size on disk justifies.
    """
    inflater = zlib.decompressobj(_GZIP)
    made = io.BytesIO()
    position = 0
    data = b""
    try:
        while not inflater.eof:
            if not data:
                step = min(_CHUNK, source.size - position)
                if not step:
                    raise FormatError("truncated: its gzip stream has no end")
                data = source.at(position, step)
                position += step
            source.budget.take(_CHUNK)  # before it is made; what of it is not made comes back
            piece = inflater.decompress(data, _CHUNK)
            source.budget.take(len(piece) - _CHUNK)
            made.write(piece)
            data = inflater.unconsumed_tail
    except zlib.error as error:
        raise FormatError(f"does not inflate as gzip: {error}") from None
    if inflater.unused_data.strip(b"\0") or position < source.size:
        raise FormatError("has something behind the end of its gzip stream")
    return Source(made, made.tell(), source.budget)
