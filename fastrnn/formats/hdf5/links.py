"""A group's links: in a symbol table (III.A to III.D), or as messages of its header (IV.A.2.g)."""

from __future__ import annotations

from collections.abc import Iterator

from fastrnn.errors import FormatError
from fastrnn.formats.hdf5.fields import Fields, File
from fastrnn.formats.hdf5.headers import LINK, LINK_INFO, SYMBOL_TABLE, Message

MAX_NAME = 1000
_MAX_LEVELS = 16
_SOFT_ENTRY = 2


def links(file: File, messages: list[Message]) -> Iterator[tuple[str, int | None]]:
    """The name of each link, and the address of the object; None for one to anything else.

    A group with many links may keep them in a heap that is not read: they are one link, named "*",
    to nothing.

    Raises
    ------
    FormatError
        They are damaged.
    """
    for message in messages:
        if message.kind == SYMBOL_TABLE:
            fields = message.fields(file)
            tree, heap = file.required(fields.address()), file.required(fields.address())
            names = _heap(file, heap)
            yield from _tree(file, tree, names, _MAX_LEVELS)
        elif message.kind == LINK:
            yield _link(message.fields(file))
        elif message.kind == LINK_INFO:
            fields = message.fields(file)
            fields.take(1)
            fields.take(8 if fields.number(1) & 1 else 0)
            if fields.address() is not None:
                yield "*", None


def _heap(file: File, address: int) -> bytes:
    """The names of a group's links, each ended by a zero."""
    fields = file.up_to(address, 8 + 2 * file.length_size + file.offset_size)
    fields.expect(b"HEAP")
    fields.take(4)
    size = fields.length()
    fields.length()
    return file.at(file.required(fields.address()), size).data


def _tree(file: File, address: int, names: bytes, levels: int) -> Iterator[tuple[str, int | None]]:
    head = file.up_to(address, 8 + 2 * file.offset_size)
    head.expect(b"TREE")
    kind, level, count = head.number(1), head.number(1), head.number(2)
    if kind != 0 or level >= levels:
        raise FormatError("damaged HDF5: the tree of a group's links is not one")
    nodes = file.at(
        address + 8 + 2 * file.offset_size,
        count * (file.length_size + file.offset_size),
    )
    for _ in range(count):
        nodes.length()  # the key: the name at which the child begins
        child = file.required(nodes.address())
        if level:
            yield from _tree(file, child, names, level)
        else:
            yield from _symbols(file, child, names)


def _symbols(file: File, address: int, names: bytes) -> Iterator[tuple[str, int | None]]:
    head = file.up_to(address, 8)
    head.expect(b"SNOD")
    head.take(2)
    count = head.number(2)
    entries = file.at(address + 8, count * (2 * file.offset_size + 24))
    for _ in range(count):
        offset, target = entries.number(file.offset_size), entries.address()
        kind = entries.number(4)
        entries.take(4 + 16)
        end = names.find(b"\0", offset, offset + MAX_NAME)
        if end < 0:
            raise FormatError("damaged HDF5: the name of a link has no end")
        yield _decoded(names[offset:end]), None if kind == _SOFT_ENTRY else target


def _link(fields: Fields) -> tuple[str, int | None]:
    version, flags = fields.number(1), fields.number(1)
    if version != 1:
        raise FormatError(f"damaged HDF5: a link has version {version}, expected 1")
    kind = fields.number(1) if flags & 0x08 else 0
    fields.take((8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0))
    name = _decoded(fields.take(fields.number(1 << (flags & 3))))
    return name, fields.address() if kind == 0 else None


def _decoded(name: bytes) -> str:
    """A link's name; "/" is between names, and "." the group itself, so that neither is one."""
    text = name.decode("utf-8", "replace")
    if not text or "/" in text or len(text) > MAX_NAME:
        raise FormatError(f"damaged HDF5: a link is named {text[:80]!r}")
    return text
