"""The zip container of torch.save and numpy.savez, read in place and strictly.

Strictly: records lie inside the file and apart from each other, names come once, a deflated record
is inflated no further than its stated size and the budget, and checksums are compared. Where
readers of zip files differ in what they make of one (a directory that does not end where it says,
other names in it than at the records), it is refused. Nothing is ever extracted, so a name is only
a key. A reader of its own because what zipfile checks, and what it raises, differs between versions
of Python. Format: APPNOTE.TXT 6.3.10 (PKWARE), with ZIP64; no encryption, no archives in several
parts.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from fastrnn.errors import FormatError
from fastrnn.formats.source import Bytes, Part, Source, shown

_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_FULL_32 = 0xFFFFFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF_8 = 1, 0x800
_MAX_COMMENT = 0xFFFF

INFLATED_BYTES = 1 << 20
INFLATED_FACTOR = 32


@dataclass(frozen=True)
class Record:
    """One entry of the central directory. `start` is where its local header is."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    packed: int
    size: int
    start: int


class ZipArchive:
    """The records of a zip file by name, in the order of its directory."""

    def __init__(self, source: Source) -> None:
        self.source = source
        directory, size, count = _find_directory(source)
        self.records: dict[str, Record] = {}
        for record in _entries(source.at(directory, size), count):
            if record.name in self.records:
                raise FormatError(f"the archive has two records named {shown(record.name)}")
            self.records[record.name] = record
        # Where each record has to end: at the next one, or at the directory.
        ordered = sorted(self.records.values(), key=lambda record: record.start)
        starts = [record.start for record in ordered] + [directory]
        self._limits = {
            record.name: limit for record, limit in zip(ordered, starts[1:], strict=True)
        }
        for record in ordered:
            if record.start + _LOCAL.size + record.packed > self._limits[record.name]:
                raise FormatError(
                    f"record {shown(record.name)} lies over the one behind it or past the end"
                )

    def blob(self, name: str, *, unchecked: bool = False) -> Part | Bytes:
        """The bytes of record `name`, its checksum compared; those of a deflated one are taken
        from the budget. `unchecked`: a checksum of 0 is one that torch was told not to compute.

        Raises
        ------
        FormatError
            There is no such record, or it is damaged.
        """
        record = self.records.get(name)
        if record is None:
            raise FormatError(f"the archive has no record {shown(name)}")
        if record.method == _STORED:
            part = self._data(record)
            crc = part.crc32() if record.crc or not unchecked else 0
            blob: Part | Bytes = part
        elif record.method == _DEFLATED:
            data = self._inflated(record)
            crc = zlib.crc32(data)
            blob = Bytes(data)
        else:
            raise FormatError(
                f"record {shown(name)} is compressed by method {record.method}, "
                "expected stored or deflated"
            )
        if record.crc != crc and not (unchecked and record.crc == 0):
            raise FormatError(f"record {shown(name)} is damaged: its checksum does not match")
        return blob

    def read(self, name: str) -> bytes:
        """The bytes of record `name`, which is not a tensor's, in memory.

        What is made from a pickle or a text grows with its length: one that is deflated may be
        INFLATED_BYTES long, and INFLATED_FACTOR times what it takes in the file.

        Raises
        ------
        FormatError
            As `blob`, or it is longer.
        """
        record = self.records.get(name)
        if record is not None and record.method == _DEFLATED:
            longest = INFLATED_BYTES + INFLATED_FACTOR * record.packed
            if record.size > longest:
                raise FormatError(
                    f"record {shown(name)} inflates from {record.packed} to {record.size} bytes, "
                    f"expected {longest} at most"
                )
        blob = self.blob(name, unchecked=True)
        data = bytearray(blob.size)
        blob.into(0, memoryview(data))
        return bytes(data)

    def member(self, name: str, *, unchecked: bool = False) -> Source:
        """Record `name` as a file of its own, checked as `blob` does.

        Raises
        ------
        FormatError
            As `blob`.
        """
        blob = self.blob(name, unchecked=unchecked)
        if isinstance(blob, Part):
            return blob.source.part(blob.start, blob.size)
        return self.source.of_bytes(blob.data)

    def start_of(self, name: str, nbytes: int) -> bytes:
        """The first `nbytes` bytes of record `name`, or all; not checked against its checksum."""
        record = self.records[name]
        part = self._data(record)
        packed = bytearray(min(part.size, nbytes if record.method == _STORED else 2 * nbytes))
        part.into(0, memoryview(packed))
        if record.method != _DEFLATED:
            return bytes(packed)
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, nbytes)
        except zlib.error as error:
            raise FormatError(f"record {shown(name)} does not inflate: {error}") from None

    def _data(self, record: Record) -> Part:
        header = _LOCAL.unpack(self.source.at(record.start, _LOCAL.size))
        if header[0] != b"PK\3\4":
            raise FormatError(f"record {shown(record.name)} does not start with a zip header")
        start = record.start + _LOCAL.size + header[9] + header[10]
        if start + record.packed > self._limits[record.name]:
            raise FormatError(f"record {shown(record.name)} lies over the one behind it")
        name = self.source.at(record.start + _LOCAL.size, header[9])
        if name != record.raw_name:
            raise FormatError(
                f"damaged: record {shown(record.name)} is named {shown(name)} where it starts"
            )
        return Part(self.source, start, record.packed)

    def _inflated(self, record: Record) -> bytes:
        self.source.budget.take(record.size)
        part = self._data(record)
        packed = bytearray(part.size)
        part.into(0, memoryview(packed))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflater.decompress(packed, record.size + 1)
        except zlib.error as error:
            raise FormatError(f"record {shown(record.name)} does not inflate: {error}") from None
        if len(data) != record.size or not inflater.eof:
            raise FormatError(
                f"record {shown(record.name)} does not inflate to the {record.size} bytes stated"
            )
        return data


def _find_directory(source: Source) -> tuple[int, int, int]:
    """Where the central directory is, its size in bytes, and how many records it has."""
    tail_size = min(source.size, _END.size + _MAX_COMMENT)
    tail_start = source.size - tail_size
    tail = source.at(tail_start, tail_size)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + _END.size > tail_size:
        raise FormatError("truncated: a zip archive without its directory, which is at the end")
    end = tail_start + found
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, found)
    if found + _END.size + comment != tail_size:
        raise FormatError("damaged: there are bytes behind the end of the zip archive")
    locator = end - _LOCATOR_64.size
    mark, _, at, _ = _LOCATOR_64.unpack(source.at(max(locator, 0), _LOCATOR_64.size))
    if mark == b"PK\6\7" and locator >= _END_64.size:
        end = locator - _END_64.size
        short = (disk, first_disk, here, count, size, start)
        mark, _, _, _, *wide = _END_64.unpack(source.at(end, _END_64.size))
        full = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, _FULL_32, _FULL_32)
        agree = all(a in (b, most) for a, b, most in zip(short, wide, full, strict=True))
        if mark != b"PK\6\6" or at != end or not agree:
            raise FormatError("damaged: the ZIP64 end record is not what and where it should be")
        disk, first_disk, here, count, size, start = wide
    if disk or first_disk or here != count:
        raise FormatError("is one part of a zip archive in several parts")
    if start + size != end or count * _ENTRY.size > size:
        raise FormatError(
            f"damaged: its zip directory of {count} records and {size} bytes at {start} "
            f"does not fit before {end}"
        )
    return start, size, count


def _entries(directory: bytes, count: int) -> list[Record]:
    records = []
    position = 0
    for _ in range(count):
        if position + _ENTRY.size > len(directory):
            raise FormatError("truncated or damaged: the zip directory is cut short")
        fields = _ENTRY.unpack_from(directory, position)
        mark, _, _, flags, method, _, _, crc, packed, size = fields[:10]
        name_size, extra_size, comment_size, _, _, _, start = fields[10:]
        name_at = position + _ENTRY.size
        extra_at = name_at + name_size
        position = extra_at + extra_size + comment_size
        if mark != b"PK\1\2" or position > len(directory):
            raise FormatError("truncated or damaged: the zip directory is not one")
        raw_name = directory[name_at:extra_at]
        try:
            name = raw_name.decode("utf-8" if flags & _UTF_8 else "cp437")
        except UnicodeDecodeError:
            raise FormatError(f"damaged: a record is named {shown(raw_name)}, not UTF-8") from None
        if "\0" in name:
            raise FormatError(f"damaged: a record is named {shown(name)}")
        if flags & _ENCRYPTED:
            raise FormatError(f"record {shown(name)} is encrypted")
        if _FULL_32 in (size, packed, start):
            extra = directory[extra_at : extra_at + extra_size]
            size, packed, start = _widened(extra, (size, packed, start))
        if method == _STORED and size != packed:
            raise FormatError(f"record {shown(name)} is stored and has two sizes")
        records.append(Record(name, raw_name, method, crc, packed, size, start))
    if position != len(directory):
        raise FormatError(
            f"damaged: the zip directory has {len(directory)} bytes, its {count} records {position}"
        )
    return records


def _widened(extra: bytes, fields: tuple[int, int, int]) -> tuple[int, ...]:
    """The fields, those that are full replaced by the 64-bit values of the ZIP64 extra field."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            values = extra[position + 4 : position + 4 + length]
            wide = [value for (value,) in struct.iter_unpack("<Q", values[: len(values) // 8 * 8])]
            if len(wide) < fields.count(_FULL_32):
                break
            return tuple(wide.pop(0) if field == _FULL_32 else field for field in fields)
        position += 4 + length
    raise FormatError("damaged: a record of the zip directory lacks its 64-bit sizes")
