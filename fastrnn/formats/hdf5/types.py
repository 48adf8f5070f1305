"""What a dataset or attribute is of: dataspaces (IV.A.2.b), datatypes (IV.A.2.d), text."""

from __future__ import annotations

from dataclasses import dataclass

from fastrnn.errors import FormatError
from fastrnn.formats.arrays import MAX_DIMENSIONS
from fastrnn.formats.hdf5.fields import Fields, File

_INT, _FLOAT, _STRING, _OPAQUE, _VARIABLE = 0, 1, 3, 5, 9
# size, then where exponent and mantissa are and how wide, and the exponent's bias, of IEEE's types
# and of bfloat16
_FLOATS: dict[tuple[int, ...], str] = {
    (2, 10, 5, 0, 10, 15): "float16",
    (2, 7, 8, 0, 7, 127): "bfloat16",
    (4, 23, 8, 0, 23, 127): "float32",
    (8, 52, 11, 0, 52, 1023): "float64",
}
_IMPLIED = 2  # normalization: the mantissa's first bit is not stored


@dataclass(frozen=True, slots=True)
class Type:
    """What each element is: a key of arrays.ELEMENTS, "text", "text elsewhere", "opaque" or ""."""

    name: str
    size: int
    byte_order: str = "<"


def shape(fields: Fields) -> tuple[int, ...] | None:
    """The shape that a dataspace describes; None for that of nothing at all."""
    version, rank, flags = fields.number(1), fields.number(1), fields.number(1)
    if version not in (1, 2) or rank > MAX_DIMENSIONS:
        raise FormatError(f"HDF5: a dataspace has version {version} and {rank} dimensions")
    del flags
    kind = fields.number(1)
    if version == 1:
        fields.take(4)
    elif kind == 2:
        return None
    return tuple(fields.length() for _ in range(rank))


def datatype(fields: Fields) -> Type:
    """The type that a datatype message describes."""
    kind, flags, size = fields.number(1) & 0x0F, fields.number(3), fields.number(4)
    order = ">" if flags & 1 else "<"
    if kind == _INT:
        offset, precision = fields.number(2), fields.number(2)
        plain = size in (1, 2, 4, 8) and offset == 0 and precision == 8 * size
        name = f"{'int' if flags & 0x08 else 'uint'}{8 * size}"
        return Type(name if plain else "", size, order)
    if kind == _FLOAT:
        offset, precision = fields.number(2), fields.number(2)
        layout = (size, *(fields.number(1) for _ in range(4)), fields.number(4))
        sign, normal = flags >> 8 & 0xFF, flags >> 4 & 3
        plain = (offset, precision, sign, normal) == (0, 8 * size, 8 * size - 1, _IMPLIED)
        known = plain and not flags & 0x40
        return Type(_FLOATS.get(layout, "") if known else "", size, order)
    if kind == _STRING:
        return Type("text", size)
    if kind == _VARIABLE and flags & 0x0F == 1:
        return Type("text elsewhere", size)
    return Type("opaque" if kind == _OPAQUE else "", size)


def attribute(fields: Fields) -> tuple[str, Type, tuple[int, ...] | None, Fields]:
    """The name, type and shape of an attribute (IV.A.2.m), and the fields of its value."""
    version, shared = fields.number(1), fields.number(1)
    sizes = [fields.number(2) for _ in range(3)]
    if version not in (1, 2, 3) or (version > 1 and shared & 3):
        raise FormatError(f"HDF5: an attribute has version {version}, or a shared type")
    if version == 3:
        fields.take(1)
    parts = []
    for size in sizes:
        parts.append(Fields(fields.take(size), fields.file))
        if version == 1:
            fields.take(min(-size % 8, fields.left))
    name = parts[0].data.split(b"\0", 1)[0].decode("utf-8", "replace")
    return name, datatype(parts[1]), shape(parts[2]), fields


def text(kind: Type, value: Fields, file: File) -> str:
    """One text, kept in the attribute or in the global heap (III.E)."""
    if kind.name == "text":
        return value.take(kind.size).split(b"\0", 1)[0].decode("utf-8", "replace")
    length, address, index = value.number(4), value.address(), value.number(4)
    if address is None or not index:
        return ""
    heap = file.up_to(address, 8 + file.length_size)
    heap.expect(b"GCOL")
    heap.take(4)
    size = heap.length()
    start = heap.position
    objects = file.at(address + start, size - start)
    while objects.left >= 8 + file.length_size:
        number = objects.number(2)
        objects.take(6)
        held = objects.length()
        if number == index:
            return objects.take(min(held, length)).decode("utf-8", "replace")
        if number == 0:
            break
        objects.take(min(held + -held % 8, objects.left))
    raise FormatError("damaged HDF5: a text is not in the heap that it should be in")
