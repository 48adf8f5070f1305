"""The tar container (.nemo and others), read in place: where each regular file in it lies.

Formats: ustar (POSIX 1003.1) with pax and GNU long names; tarfile reads much more, and hangs on
some of it. Links, devices and sparse files are left aside. Nothing is ever extracted.
"""

from __future__ import annotations

import re
import struct

from fastrnn.errors import FormatError
from fastrnn.formats import guess
from fastrnn.formats.archives.members import Member
from fastrnn.formats.source import Source, shown

_BLOCK = 512
# name, mode, uid, gid, size, mtime, checksum, type, link, magic, ..., prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_OCTAL = re.compile(rb"\s*([0-7]{0,12})[\s\0]*")
_MAX_NAMES = 1 << 16  # bytes of one pax header or long name
_MEMBER_BYTES = 1024  # what a Member and its name take, roughly
_PAX_KEYS = (b"path", b"size")
_REGULAR, _PAX, _LONG_NAME = (b"0", b"\0", b"7"), b"x", b"L"


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with `head` is one."""
    return head[257:262] == b"ustar"


def members(source: Source) -> dict[str, Member]:
    """The regular files of the archive by name, without a leading "./".

    Raises
    ------
    FormatError
        The archive is damaged, or two of its files have one name.
    """
    found: dict[str, Member] = {}
    named: dict[str, str] = {}  # what a header before the file's says of it
    position = 0
    while position + _BLOCK <= source.size:
        block = source.at(position, _BLOCK)
        if not any(block):
            break
        fields = _HEADER.unpack(block)
        _check(block, fields[6])
        size, kind = _number(fields[4]), fields[7]
        start = position + _BLOCK
        if kind in _REGULAR and "size" in named:
            size = _number(named["size"].encode(), base=10)
        if start + size > source.size:
            raise FormatError(
                f"truncated or damaged: a member of the tar archive has {shown(size)} bytes, "
                f"{source.size - start} are left"
            )
        position = start + -(-size // _BLOCK) * _BLOCK
        if kind in (_PAX, _LONG_NAME):
            if size > _MAX_NAMES:
                raise FormatError(f"has {size} bytes for the name of a member of a tar archive")
            data = source.at(start, size)
            named |= _pax(data) if kind == _PAX else {"path": _text(data)}
            continue
        if kind in _REGULAR:
            prefix = _text(fields[15]) if fields[9] == b"ustar\0" else ""
            name = named.get("path") or "/".join(filter(None, (prefix, _text(fields[0]))))
            name = name.removeprefix("./")
            if name in found:
                raise FormatError(f"the archive has two files named {shown(name)}")
            source.budget.take(_MEMBER_BYTES)
            found[name] = _member(source, start, size)
        named = {}
    return found


def _member(source: Source, start: int, size: int) -> Member:
    return Member(
        head=lambda: source.at(start, min(size, guess.HEAD)),
        open=lambda: source.part(start, size),
    )


def _check(block: bytes, stated: bytes) -> None:
    """FormatError unless the header's bytes add up to its checksum, which counts as blanks."""
    if sum(block) - sum(stated) + 8 * 0x20 != _number(stated):
        raise FormatError("damaged: a header of the tar archive does not match its checksum")


def _number(field: bytes, base: int = 8) -> int:
    if base == 8 and field[0] == 0x80:  # GNU: above 8 GiB, big end first
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field) if base == 8 else re.fullmatch(rb"([0-9]{1,18})", field)
    if match is None:
        raise FormatError(f"damaged: a header of the tar archive has the number {shown(field)}")
    return int(match[1] or b"0", base)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _pax(data: bytes) -> dict[str, str]:
    """What a pax header says of path and size; its records are each "LENGTH KEY=VALUE\\n"."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        digits, _, _ = data[position : position + 10].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[position + len(digits) + 1 : position + length - 1]
        key, mark, value = record.partition(b"=")
        position += length
        if length <= len(digits) + 1 or position > len(data) or not mark:
            raise FormatError("damaged: a pax header of the tar archive is not one")
        if key.startswith(b"GNU.sparse"):
            raise FormatError("has a sparse file in its tar archive, which is not read")
        if key in _PAX_KEYS:
            records[key.decode()] = value.decode("utf-8", "replace")
    return records
