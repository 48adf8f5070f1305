"""HDF5 files, as far as Keras writes them: groups, text attributes, arrays of numbers in one piece.

A reader of its own, because libhdf5 (and h5py with it) allocates what a file says, opens other
files that it names, inflates without bound, and on damaged files computes for ever, where no
exception ends it. Here every structure is read within the file's bounds and about once, and nothing
outside of the file is opened. An array that is chunked, compressed, in other files or virtual, of a
type that NumPy has not, or behind a link that is not to an object of the file, is not read; a
reason stands in its place.

    fields.py    bounded reads of the file's structures
    headers.py   the messages of an object
    links.py     the links of a group
    types.py     shapes, element types, texts
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.hdf5 import headers, types
from fastrnn.formats.hdf5.fields import File
from fastrnn.formats.hdf5.headers import Message
from fastrnn.formats.hdf5.links import links
from fastrnn.formats.source import Blob, Budget, Bytes, Part, Source

__all__ = ["MAGIC", "MAX_DEPTH", "Array", "Tree", "read"]

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 32
_ENTRY_BYTES = 1024  # what a path, an Array and its blob take, roughly
_COMPACT, _CONTIGUOUS = 0, 1


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the file: its element type and shape, and its bytes, in C order."""

    dtype: str  # a key of arrays.ELEMENTS
    byte_order: str
    shape: tuple[int, ...]
    blob: Blob

    def read(self, budget: Budget) -> np.ndarray:
        """It as a NumPy array, as arrays.build makes it."""
        view = arrays.contiguous(self.dtype, self.shape)
        return arrays.build(view, self.blob, budget, byte_order=self.byte_order)


@dataclass
class Tree:
    """What an HDF5 file holds.

    arrays: by path ("layers/lstm/cell/vars/0"), each an Array or the reason why it is none.
    texts: the text attributes of groups, by the group's path ("" is the root) and their names.
    """

    arrays: dict[str, Array | str] = field(default_factory=dict)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)


def read(source: Source) -> Tree:
    """Everything in the file; of arrays, nothing is read yet.

    Raises
    ------
    FormatError
        The file is damaged.
    """
    file, tree = File(source), Tree()
    seen = {file.root}
    pending = [("", headers.messages(file, file.root), 0)]
    while pending:
        path, messages, depth = pending.pop()
        for name, text in _texts(file, messages).items():
            tree.texts[path, name] = text
        below = []
        for link, target in links(file, messages):
            where = f"{path}/{link}" if path else link
            source.budget.take(_ENTRY_BYTES + 2 * len(where))
            if target is None or target in seen:
                tree.arrays[where] = "is a link to another place or file, which is not followed"
                continue
            seen.add(target)
            inside = headers.messages(file, target)
            kinds = {message.kind for message in inside}
            if headers.LAYOUT in kinds:
                tree.arrays[where] = _array(file, inside)
            elif depth == MAX_DEPTH:
                raise FormatError(f"its groups are nested more than {MAX_DEPTH} deep")
            else:
                below.append((where, inside, depth + 1))
        pending.extend(reversed(below))
    return tree


def _texts(file: File, messages: list[Message]) -> dict[str, str]:
    """The attributes that are one text each."""
    found = {}
    for message in messages:
        if message.kind == headers.ATTRIBUTE and not message.shared:
            name, kind, shape, value = types.attribute(message.fields(file))
            if shape == () and kind.name.startswith("text"):
                found[name] = types.text(kind, value, file)
    return found


def _array(file: File, messages: list[Message]) -> Array | str:
    found = {message.kind: message for message in messages}
    if headers.FILTERS in found:
        return "is compressed: save it with Keras, which does not"
    if headers.EXTERNAL in found:
        return "is stored in other files"
    for kind in (headers.DATASPACE, headers.DATATYPE):
        if kind not in found:
            raise FormatError("damaged HDF5: an array has no shape or no type")
        if found[kind].shared:
            return "has a shape or type that is shared with other arrays"
    shape = types.shape(found[headers.DATASPACE].fields(file))
    kind_of = types.datatype(found[headers.DATATYPE].fields(file))
    dtype = kind_of.name
    if dtype in ("opaque", "uint16") and kind_of.size == 2:
        # As Keras 3 stores it where NumPy has no such type.
        dtype = "bfloat16" if _texts(file, messages).get("dtype") == "bfloat16" else dtype
    if shape is None or dtype not in arrays.ELEMENTS:
        return "is not an array of numbers"
    try:
        arrays.check_shape(shape)
    except FormatError as error:
        return str(error)
    blob = _blob(file, found[headers.LAYOUT], arrays.nbytes(dtype, shape))
    return blob if isinstance(blob, str) else Array(dtype, kind_of.byte_order, shape, blob)


def _blob(file: File, layout: Message, nbytes: int) -> Blob | str:
    """The bytes that a data layout (IV.A.2.i) places in the file."""
    fields = layout.fields(file)
    version, kind = fields.number(1), fields.number(1)
    if version not in (3, 4) or kind not in (_COMPACT, _CONTIGUOUS):
        return "is stored in chunks or virtually, expected in one piece"
    blob: Blob
    if kind == _COMPACT:
        blob = Bytes(fields.take(fields.number(2)))
    else:
        address, size = fields.address(), fields.length()
        if address is None:
            return "has no data" if nbytes else "is empty"
        blob = Part(file.source, address, size)
    return blob if blob.size == nbytes else f"has {blob.size} bytes of data, expected {nbytes}"
