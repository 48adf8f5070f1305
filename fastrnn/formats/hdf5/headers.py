"""Object headers (IV.A): the messages that describe a group or a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastrnn.errors import FormatError
from fastrnn.formats.hdf5.fields import Fields, File

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL = 0x01, 0x02, 0x03, 0x06, 0x07
LAYOUT, FILTERS, ATTRIBUTE, SYMBOL_TABLE, ATTRIBUTE_INFO = 0x08, 0x0B, 0x0C, 0x11, 0x15
_CONTINUATION = 0x10
_SHARED = 0x02
_MAX_BLOCKS = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a header: its type, and its bytes; `shared` ones are kept elsewhere."""

    kind: int
    data: bytes
    shared: bool

    def fields(self, file: File) -> Fields:
        """Its fields; FormatError where they are kept elsewhere."""
        if self.shared:
            raise FormatError("HDF5: a message that is shared between objects, which is not read")
        return Fields(self.data, file)


def messages(file: File, address: int) -> list[Message]:
    """The messages of the object header at `address`.

    Raises
    ------
    FormatError
        There is none, or it is damaged.
    """
    start = file.up_to(address, 16 + 64)
    newer = start.data[:4] == b"OHDR"
    if newer:
        blocks, tracked = _newer_start(file, address, start)
    else:
        blocks, tracked = _older_start(file, address, start), False
    found: list[Message] = []
    seen: set[int] = set()
    while blocks:
        fields = blocks.pop(0)
        for message in _in_block(fields, newer, tracked):
            if message.kind != _CONTINUATION:
                found.append(message)
                continue
            where = message.fields(file)
            at, size = file.required(where.address()), where.length()
            if at in seen or len(seen) == _MAX_BLOCKS:
                raise FormatError("damaged HDF5: an object header goes on in a circle")
            seen.add(at)
            block = file.at(at, size)
            if newer:
                block.expect(b"OCHK")
                block.data = block.data[:-4]  # the checksum
            blocks.append(block)
    return found


def _older_start(file: File, address: int, start: Fields) -> list[Fields]:
    """Version 1 (IV.A.1.a): 16 bytes, then the messages."""
    version = start.number(1)
    if version != 1:
        raise FormatError(f"damaged HDF5: an object header has version {version}, expected 1 or 2")
    start.take(1 + 2 + 4)
    return [file.at(address + 16, start.number(4))]


def _newer_start(file: File, address: int, start: Fields) -> tuple[list[Fields], bool]:
    """Version 2 (IV.A.1.b), and whether messages say when they were made."""
    start.take(4)
    version, flags = start.number(1), start.number(1)
    if version != 2:
        raise FormatError(f"damaged HDF5: an object header has version {version}, expected 2")
    start.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    size = start.number(1 << (flags & 3))
    return [file.at(address + start.position, size)], bool(flags & 0x04)


def _in_block(fields: Fields, newer: bool, tracked: bool) -> Iterator[Message]:
    smallest = (4 + 2 * tracked) if newer else 8
    while fields.left >= smallest:
        kind, size = fields.number(1 if newer else 2), fields.number(2)
        flags = fields.number(1)
        fields.take(2 * tracked if newer else 3)
        yield Message(kind, fields.take(size), bool(flags & _SHARED))
