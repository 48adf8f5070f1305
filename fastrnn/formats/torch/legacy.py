"""The form torch.save had before PyTorch 1.6, which many published checkpoints are in.

Five pickles: a magic number, a protocol number, facts of the machine, the object, and the keys of
its storages; then the storages in that order, each an int64 count of elements and their bytes,
little end first. The same reader takes a plain pickle, whose tensors are NumPy arrays, or torch's
with each storage as the bytes of a file of this form.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from fastrnn.errors import FormatError
from fastrnn.formats.arrays import ELEMENTS
from fastrnn.formats.inventory import Contents, Weights
from fastrnn.formats.pickles.inert import Storage, Unreadable
from fastrnn.formats.pickles.interpreter import refuse_persistent
from fastrnn.formats.pickles.unpickle import Unpickler
from fastrnn.formats.source import Blob, Part, Source, shown
from fastrnn.formats.torch import tensors

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGE_OBJECTS = 1_000  # what a file of one storage may make; torch's make some 30
# Bytes of an element. Of types that NumPy has not, to pass over them.
_SIZES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}
_SIZES |= {name: itemsize for name, (_, itemsize) in ELEMENTS.items()}


def contents(source: Source) -> Contents:
    """Every tensor of the file; FormatError where it is damaged."""
    source.file.seek(0)
    unpickler = Unpickler(source.file, source.size)
    enclosed = _Enclosed(source)
    unpickler.enclosed = enclosed.storage
    tree = unpickler.load()
    if tree != MAGIC:
        return _gathered("pickle", tree, source, enclosed.blobs, unpickler.foreign)
    tree, blobs = _saved(source, unpickler)
    return _gathered("torch legacy", tree, source, blobs, unpickler.foreign)


def _saved(source: Source, unpickler: Unpickler) -> tuple[object, dict[str, Blob]]:
    """The object behind the magic number, and the storages that it refers to."""
    protocol = unpickler.load()
    if protocol != _PROTOCOL:
        raise FormatError(f"its torch.save protocol is {shown(protocol)}, expected {_PROTOCOL}")
    unpickler.load()
    dtypes: dict[str, str] = {}

    def persistent(saved_id: object) -> object:
        # A whole module is saved as ("module", class, file name, source text).
        if isinstance(saved_id, tuple) and len(saved_id) >= 2 and saved_id[0] == "module":
            return saved_id[1]
        storage = tensors.storage(saved_id)
        if dtypes.setdefault(storage.key, storage.dtype) != storage.dtype:
            raise FormatError(f"storage {shown(storage.key)} has two element types")
        return replace(storage, offset=_view_offset(saved_id))

    unpickler.persistent = persistent
    tree = unpickler.load()
    unpickler.persistent = refuse_persistent
    keys = unpickler.load()
    if not isinstance(keys, list):
        raise FormatError(f"its list of storages is {shown(keys)}, expected a list")
    return tree, _storages(source, unpickler.position, keys, dtypes)


class _Enclosed:
    """The storages of a pickle that pickle.dump wrote, each the bytes of a file like this one."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.blobs: dict[str, Blob] = {}
        self.read: dict[int, tuple[bytes, Storage | Unreadable]] = {}

    def storage(self, data: bytes) -> Storage | Unreadable:
        """The storage that `data` holds; the same bytes are read once, however often they come."""
        if id(data) not in self.read:
            key = f"{len(self.read)} in the pickle"
            try:
                storage, blob = self._load(self.source.of_bytes(data))
                self.blobs[key] = blob
                self.read[id(data)] = data, replace(storage, key=key)
            except FormatError as error:
                self.read[id(data)] = data, Unreadable(f"has a storage that is damaged: {error}")
        return self.read[id(data)][1]

    def _load(self, source: Source) -> tuple[Storage, Blob]:
        unpickler = Unpickler(source.file, source.size, objects=_STORAGE_OBJECTS)
        if unpickler.load() != MAGIC:
            raise FormatError("it is not in the form that torch.save had before 1.6")
        storage, blobs = _saved(source, unpickler)
        if not isinstance(storage, Storage) or storage.key not in blobs:
            raise FormatError(f"it is {shown(storage)}, expected a storage")
        return storage, blobs[storage.key]


def _view_offset(saved_id: object) -> int:
    """Where a storage that is a view of another begins: (key, offset, size) ends its id."""
    metadata = saved_id[5] if isinstance(saved_id, tuple) and len(saved_id) > 5 else None
    if metadata is None:
        return 0
    if isinstance(metadata, tuple) and len(metadata) == 3 and type(metadata[1]) is int:
        return metadata[1]
    raise FormatError(f"a storage is a view by {shown(metadata)}, expected (key, offset, size)")


def _storages(
    source: Source, position: int, keys: list[object], dtypes: dict[str, str]
) -> dict[str, Blob]:
    blobs: dict[str, Blob] = {}
    for key in keys:
        if not isinstance(key, str) or key not in dtypes or key in blobs:
            raise FormatError(f"its list of storages has {shown(key)}, which no tensor refers to")
        (numel,) = struct.unpack("<q", source.at(position, 8))
        itemsize = _SIZES.get(dtypes[key])
        if itemsize is None:
            raise FormatError(f"storage {shown(key)} has the element type {dtypes[key]}")
        blobs[key] = Part(source, position + 8, numel * itemsize)
        position += 8 + numel * itemsize
    return blobs


def _gathered(
    format: str, tree: object, source: Source, blobs: dict[str, Blob], foreign: set[str]
) -> Contents:
    def blob(storage: Storage) -> Blob:
        if storage.key not in blobs:
            raise FormatError(f"is in storage {shown(storage.key)}, which the file has not")
        return blobs[storage.key]

    found = Contents(format, Weights(source.budget), tuple(sorted(foreign)))
    tensors.collect(found, tree, source, blob)
    return found
