"""The form torch.save had before PyTorch 1.6, which many published checkpoints are in.

Five pickles: a magic number, a protocol number, facts of the machine, the object, and the keys of
its storages; then the storages in that order, each an int64 count of elements and their bytes,
little end first. The same reader takes a plain pickle, whose tensors can only be NumPy arrays.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from fastrnn.errors import FormatError
from fastrnn.formats import torchtensors
from fastrnn.formats.arrays import ELEMENTS
from fastrnn.formats.inert import Storage
from fastrnn.formats.interpreter import refuse_persistent
from fastrnn.formats.inventory import Contents, Weights
from fastrnn.formats.source import Blob, Part, Source, shown
from fastrnn.formats.unpickle import Unpickler

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Bytes of an element. Of types that NumPy has not, to pass over them.
_SIZES = {"qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1}
_SIZES |= {name: itemsize for name, (_, itemsize) in ELEMENTS.items()}


def contents(source: Source) -> Contents:
    """Every tensor of the file; FormatError where it is damaged."""
    source.file.seek(0)
    unpickler = Unpickler(source.file, source.size)
    tree = unpickler.load()
    if tree != MAGIC:
        return _gathered("pickle", tree, source, {}, unpickler.foreign)
    protocol = unpickler.load()
    if protocol != _PROTOCOL:
        raise FormatError(f"its torch.save protocol is {shown(protocol)}, expected {_PROTOCOL}")
    unpickler.load()
    dtypes: dict[str, str] = {}

    def persistent(saved_id: object) -> object:
        # A whole module is saved as ("module", class, file name, source text).
        if isinstance(saved_id, tuple) and len(saved_id) >= 2 and saved_id[0] == "module":
            return saved_id[1]
        storage = torchtensors.storage(saved_id)
        if dtypes.setdefault(storage.key, storage.dtype) != storage.dtype:
            raise FormatError(f"storage {shown(storage.key)} has two element types")
        return replace(storage, offset=_view_offset(saved_id))

    unpickler.persistent = persistent
    tree = unpickler.load()
    unpickler.persistent = refuse_persistent
    keys = unpickler.load()
    if not isinstance(keys, list):
        raise FormatError(f"its list of storages is {shown(keys)}, expected a list")
    blobs = _storages(source, unpickler.position, keys, dtypes)
    return _gathered("torch legacy", tree, source, blobs, unpickler.foreign)


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
    torchtensors.collect(found, tree, source, blob)
    return found
