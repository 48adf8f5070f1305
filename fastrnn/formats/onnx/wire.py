"""The protobuf wire format: the fields of a message, and messages by a table of their fields.

Format: https://protobuf.dev/programming-guides/encoding. Lengths are believed only after they are
checked against the bytes there are; every message, field and number that is made is taken from the
file's budget, since two bytes of file can ask for any of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastrnn.errors import FormatError
from fastrnn.formats.source import Budget, shown

MOST_DEPTH = 64  # of messages in messages; a subgraph of a subgraph takes three more
_MESSAGE_BYTES = 1024  # what the dict of a message and the objects made from it take, roughly
_FIELD_BYTES = 64  # one number or short string in a list

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """What a field number stands for.

    kind: "int" (signed), "float", "string", "bytes" (as they stand in the file), "numbers" (the
        undecoded pieces of a repeated number, packed or not, as (wire type, value)), or the name
        of a message.
    many: whether it is repeated: a list in the decoded message.
    """

    name: str
    kind: str
    many: bool = False


Schema = Mapping[str, Mapping[int, Field]]


def fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield number, wire type and value of each field of a message.

    The value is the bytes of a DELIMITED field, otherwise the number as it stands there, unsigned.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise FormatError(f"damaged: a field has the number {number}")
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, wire, value
            continue
        if wire == DELIMITED:
            size, at = varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise FormatError(f"damaged: field {number} has wire type {wire}")
        if size > end - at:
            raise FormatError(
                f"truncated or damaged: field {number} has {size} bytes, its message {end - at}"
            )
        piece = data[at : at + size]
        yield number, wire, piece if wire == DELIMITED else int.from_bytes(piece, "little")
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number of 64 bits that starts at `at`, and where the next field does."""
    value = shift = 0
    for place in range(at, min(at + 10, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    raise FormatError("truncated or damaged: a number does not end")


def signed(value: int) -> int:
    """An unsigned number of 64 bits as protobuf's int64 and int32."""
    return value - (1 << 64) if value >> 63 else value


def decode(schema: Schema, name: str, data: memoryview, budget: Budget) -> dict[str, Any]:
    """The message `name` of `schema`: its fields by name; absent ones are absent.

    Unknown fields are skipped. A number or string that is there twice has its last value, as
    protobuf has it; a message that is there twice, which protobuf would merge, is refused.

    Raises
    ------
    FormatError
        The bytes are no such message, are nested deeper than MOST_DEPTH, or ask for more than the
        budget has.
    """
    return _decode(schema, name, data, budget, 0)


def _decode(
    schema: Schema, name: str, data: memoryview, budget: Budget, depth: int
) -> dict[str, Any]:
    if depth > MOST_DEPTH:
        raise FormatError(f"has messages nested deeper than {MOST_DEPTH}")
    budget.take(_MESSAGE_BYTES)
    known, message = schema[name], dict[str, Any]()
    for number, wire, value in fields(data):
        field = known.get(number)
        if field is None:
            continue
        budget.take(_FIELD_BYTES)
        if field.kind in schema:
            _expect(wire, DELIMITED, name, field)
            made: list[Any] = [_decode(schema, field.kind, value, budget, depth + 1)]
        elif field.kind == "numbers":
            made = [(wire, value)]
        else:
            made = _scalars(field, wire, value, budget, name)
        if field.many:
            message.setdefault(field.name, []).extend(made)
        elif field.kind in schema and field.name in message:
            raise FormatError(f"damaged: a {name} has two of {field.name}")
        elif made:
            message[field.name] = made[-1]
    return message


def _scalars(field: Field, wire: int, value: Any, budget: Budget, name: str) -> list[Any]:
    """The values of one field: one, or any number where a repeated number is packed."""
    if field.kind in ("string", "bytes"):
        _expect(wire, DELIMITED, name, field)
        return [_text(value, name, field) if field.kind == "string" else value]
    packed = field.many and wire == DELIMITED
    if field.kind == "float":
        if packed and len(value) % 4 == 0:
            budget.take(len(value) // 4 * _FIELD_BYTES)
            return list(struct.unpack(f"<{len(value) // 4}f", value))
        _expect(wire, FIXED32, name, field)
        return [struct.unpack("<f", value.to_bytes(4, "little"))[0]]
    if not packed:
        _expect(wire, VARINT, name, field)
        return [signed(value)]
    budget.take(len(value) * _FIELD_BYTES)
    numbers, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        numbers.append(signed(number))
    return numbers


def _expect(wire: int, expected: int, name: str, field: Field) -> None:
    if wire != expected:
        raise FormatError(
            f"damaged: {field.name} of a {name} has wire type {wire}, expected {expected}"
        )


def _text(value: memoryview, name: str, field: Field) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise FormatError(
            f"damaged: {field.name} of a {name} is {shown(bytes(value[:80]))}, expected UTF-8"
        ) from None
