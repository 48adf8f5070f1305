"""Reading the fields of HDF5's structures: little end first, each within its bounds.

Format: HDF5 File Format Specification Version 3.0 (The HDF Group), whose sections are named where
they are followed.
"""

from __future__ import annotations

from fastrnn.errors import FormatError
from fastrnn.formats.source import Source, shown

# Bytes of structures that may be read: this many, and so many for every byte of the file. Each is
# read about once; a file in which one is reached by many ways is no longer than others, and would
# take much longer.
_READ_BYTES = 1 << 16
_READ_FACTOR = 4


class Fields:
    """The fields of one structure, in order."""

    def __init__(self, data: bytes, file: File) -> None:
        self.data, self.file, self.position = data, file, 0

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self.data) - self.position

    def take(self, nbytes: int) -> bytes:
        """The next bytes; FormatError where so many are not left."""
        if not 0 <= nbytes <= self.left:
            raise FormatError(
                f"truncated or damaged HDF5: a structure has {self.left} bytes left, wanted "
                f"{shown(nbytes)}"
            )
        self.position += nbytes
        return self.data[self.position - nbytes : self.position]

    def number(self, nbytes: int) -> int:
        """The next unsigned number, of so many bytes."""
        return int.from_bytes(self.take(nbytes), "little")

    def address(self) -> int | None:
        """The next address in the file; None where it says that there is nothing."""
        data = self.take(self.file.offset_size)
        undefined = data == b"\xff" * len(data)
        return None if undefined else self.file.base + int.from_bytes(data, "little")

    def length(self) -> int:
        """The next length or size."""
        return self.number(self.file.length_size)

    def expect(self, signature: bytes) -> None:
        """Pass over `signature`; FormatError where something else is there."""
        found = self.take(len(signature))
        if found != signature:
            raise FormatError(f"damaged HDF5: found {shown(found)}, expected {signature!r}")

    def align(self, nbytes: int) -> None:
        """Pass over bytes up to a multiple of `nbytes`, or to the end."""
        self.take(min(-self.position % nbytes, self.left))


class File:
    """An HDF5 file: its superblock (II.A), and reads of structures, counted.

    root: the address of the root group's object header.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.left = _READ_BYTES + _READ_FACTOR * source.size
        self.base, self.offset_size, self.length_size = 0, 8, 8
        head = Fields(source.at(0, min(source.size, 128)), self)
        head.take(8)
        version = head.number(1)
        if version > 3:
            raise FormatError(f"HDF5: its superblock has version {version}, expected 3 at most")
        if version < 2:
            head.take(4)
        self.offset_size, self.length_size = head.number(1), head.number(1)
        if not {self.offset_size, self.length_size} <= {2, 4, 8}:
            raise FormatError("damaged HDF5: its offsets and lengths are not of 2, 4 or 8 bytes")
        if version < 2:
            head.take(1 + 2 + 2 + 4 + (4 if version == 1 else 0))
        else:
            head.take(1)
        self.base = head.address() or 0
        head.take(2 * self.offset_size)  # free space or extension; end of the file
        if version < 2:
            head.take(2 * self.offset_size)  # driver; the name of the root group
        self.root = self.required(head.address())

    def at(self, address: int, nbytes: int) -> Fields:
        """The fields of the structure of `nbytes` bytes at `address`."""
        self.left -= nbytes
        if self.left < 0:
            raise FormatError(
                "HDF5: its structures are reached in more ways than its size warrants"
            )
        return Fields(self.source.at(address, nbytes), self)

    def up_to(self, address: int, nbytes: int) -> Fields:
        """The same of at most `nbytes`, fewer where the file ends before."""
        return self.at(address, max(0, min(nbytes, self.source.size - address)))

    @staticmethod
    def required(address: int | None) -> int:
        """The address; FormatError where there is none."""
        if address is None:
            raise FormatError("damaged HDF5: an address that is needed is undefined")
        return address
