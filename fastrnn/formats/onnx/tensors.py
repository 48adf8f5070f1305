"""Tensors of an ONNX file: where their bytes are, and their arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.inventory import Stored
from fastrnn.formats.onnx.schema import ELEMENTS, TYPED_DATA
from fastrnn.formats.onnx.wire import DELIMITED, FIXED32, FIXED64, VARINT
from fastrnn.formats.opening import source_of
from fastrnn.formats.source import Blob, Budget, Bytes, Source, shown

Array = npt.NDArray[Any]

_PIECE = 1 << 16  # bytes of varints that are decoded at a time; they take some 40 times as many


class Folder:
    """The folder of a model: its other files, where a tensor's data may be.

    A file counts for the budget, with its size, when a tensor first needs it.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: set[str] = set()

    def read(self, location: str, offset: int, nbytes: int) -> bytes:
        """Read bytes of the file `location`; up to its end if `nbytes` is negative.

        Raises
        ------
        FormatError
            The file is not in the folder or below it, cannot be read, or has not so many bytes.
        """
        name, budget = self._inside(location), self._source.budget
        try:
            with source_of(name) as source:
                if name not in self._known:
                    self._known.add(name)
                    budget.grow(source.size)
                    self._source.nbytes_of_others += source.size
                wanted = source.size - offset if nbytes < 0 else nbytes
                budget.take(max(wanted, 0))
                return source.at(offset, wanted)
        except OSError as error:
            raise FormatError(f"has its data in {shown(location)}: {error.strerror}") from None
        except FormatError as error:
            raise FormatError(f"has its data in {shown(location)}: {error}") from None

    def _inside(self, location: str) -> str:
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or os.path.isabs(location) or ".." in parts:
            raise FormatError(
                f"has its data in {shown(location)}, expected a file in the model's own folder"
            )
        if not self._source.path:
            raise FormatError(f"has its data in {shown(location)}: give the model's path")
        folder = os.path.realpath(os.path.dirname(self._source.path) or os.curdir)
        name = os.path.realpath(os.path.join(folder, location))
        if os.path.commonpath([folder, name]) != folder:
            raise FormatError(
                f"has its data in {shown(location)}, a link that leaves the model's own folder"
            )
        return name


@dataclass(frozen=True)
class Tensor:
    """A tensor as it stands in the file; `array` makes its array.

    element: its type in ONNX's words ("float32", "bfloat16", "string", ...).
    message: the decoded message, whose data are views of the file's bytes.
    """

    name: str
    element: str
    shape: tuple[int, ...]
    message: dict[str, Any]
    folder: Folder
    budget: Budget

    def array(self) -> Array:
        """A new array of the tensor's values, its bytes taken from the file's budget.

        Raises
        ------
        FormatError
            NumPy lacks the type, or the data do not fit the type and shape, or are not there.
        """
        if self.element not in arrays.ELEMENTS or arrays.made_dtype(self.element) != self.element:
            raise FormatError(f"has the element type {self.element}, which NumPy lacks")
        return self._build()

    def stored(self, name: str) -> Stored | str:
        """The tensor for whoever only wants numbers, types that NumPy lacks as float32; or why it
        cannot be had.
        """
        if self.element not in arrays.ELEMENTS:
            return f"its element type {self.element} is not one that NumPy has"
        return Stored(name, arrays.made_dtype(self.element), self.shape, self._build)

    def _build(self) -> Array:
        arrays.check_shape(self.shape)
        blob, needed = self._blob(), arrays.nbytes(self.element, self.shape)
        if blob.size != needed:
            raise FormatError(
                f"has {blob.size} bytes of data, expected {shown(needed)} for {self.element} of "
                f"shape {shown(self.shape)}"
            )
        view = arrays.contiguous(self.element, self.shape)
        return arrays.build(view, blob, self.budget)

    def _blob(self) -> Blob:
        message = self.message
        typed = [name for name, _ in TYPED_DATA.values() if message.get(name)]
        field, code = TYPED_DATA[self.element]
        external = message.get("data_location", 0) == 1
        kinds = [*dict.fromkeys(typed), *(["external_data"] if external else [])]
        kinds += ["raw_data"] if "raw_data" in message else []
        if len(kinds) > 1:
            raise FormatError(f"has its data twice: {' and '.join(kinds)}")
        if external:
            return self._external()
        if "raw_data" in message:
            return Bytes(message["raw_data"])
        if typed and typed[0] != field:
            raise FormatError(f"has {typed[0]}, expected {field} for {self.element}")
        pieces = message.get(field, [])
        most = math.prod(self.shape) * (2 if self.element.startswith("complex") else 1)
        if code:
            return Bytes(_fixed(pieces, code))
        return Bytes(self._narrow(_varints(pieces, most, field == "uint64_data")))

    def _external(self) -> Bytes:
        entries = {
            entry.get("key"): entry.get("value", "") for entry in self.message["external_data"]
        }
        numbers = {}
        for key in ("offset", "length"):
            text = entries.get(key, "0" if key == "offset" else "-1")
            if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit():
                raise FormatError(f"has external data with {key} {shown(text)}")
            numbers[key] = int(text[:20])
        if "location" not in entries:
            raise FormatError("has external data without a location")
        data = self.folder.read(entries["location"], numbers["offset"], numbers["length"])
        return Bytes(data)

    def _narrow(self, values: Array) -> bytes:
        """The varints of a tensor as bytes of its type; FormatError where one does not fit."""
        self.budget.take(2 * values.nbytes)
        stored, _ = arrays.ELEMENTS[self.element]
        dtype = np.dtype("<u2" if stored == "f2" else f"<{stored}")
        narrow = values.astype(dtype)
        if (narrow.astype(values.dtype) != values).any():
            raise FormatError(f"has a value that {self.element} has not")
        return narrow.tobytes()


def make(message: dict[str, Any], folder: Folder, budget: Budget) -> Tensor:
    """The Tensor of a decoded message; FormatError where its type or shape is impossible."""
    name, kind = message.get("name", ""), message.get("data_type", 0)
    if kind not in ELEMENTS:
        raise FormatError(f"tensor {shown(name)} has the unknown element type {shown(kind)}")
    shape = tuple(message.get("dims", ()))
    if len(shape) > arrays.MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise FormatError(f"tensor {shown(name)} has the impossible shape {shown(shape)}")
    return Tensor(name, ELEMENTS[kind], shape, message, folder, budget)


def _fixed(pieces: list[tuple[int, Any]], code: str) -> bytes:
    """Numbers of fixed width, packed or not, one after another."""
    size = np.dtype(code).itemsize
    single = FIXED32 if size == 4 else FIXED64
    out = bytearray()
    for wire, value in pieces:
        if wire == DELIMITED:
            out += value
        elif wire == single:
            out += value.to_bytes(size, "little")
        else:
            raise FormatError(f"damaged: a number of its data has wire type {wire}")
    return bytes(out)


def _varints(pieces: list[tuple[int, Any]], most: int, unsigned: bool) -> Array:
    """Varints, packed or not, as one array of 64-bit numbers; FormatError if more than `most`."""
    dtype = np.uint64 if unsigned else np.int64
    parts, count = [], 0
    singles: list[int] = []
    for wire, value in [*pieces, (DELIMITED, memoryview(b""))]:
        if wire == VARINT:
            singles.append(value)
            continue
        if wire != DELIMITED:
            raise FormatError(f"damaged: a number of its data has wire type {wire}")
        parts.append(np.array(singles, np.uint64))
        singles = []
        for part in _packed(value):
            parts.append(part)
            count += len(part)
            if count > most:
                raise FormatError(f"has more data than its shape has elements, {most}")
    return np.concatenate(parts).view(dtype)


def _packed(data: memoryview) -> Iterator[Array]:
    """The varints in `data`, piece by piece, as uint64."""
    whole = np.frombuffer(data, np.uint8)
    start = 0
    while start < len(whole):
        raw = whole[start : start + _PIECE]
        ends = np.flatnonzero(raw < 0x80)
        if not len(ends):
            raise FormatError("damaged: a number of its data does not end")
        raw = raw[: ends[-1] + 1]
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts + 1
        if lengths.max() > 10:
            raise FormatError("damaged: a number of its data does not end")
        place = np.arange(len(raw)) - np.repeat(starts, lengths)
        bits = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
        yield np.bitwise_or.reduceat(bits, starts)
        start += len(raw)
