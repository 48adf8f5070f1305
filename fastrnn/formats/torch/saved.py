"""Zip archives of PyTorch: torch.save since 1.6, and TorchScript (torch.jit.save) since 1.4.

ROOT/data.pkl is a pickle whose tensors refer to the records ROOT/data/KEY, each one storage. A
TorchScript archive has ROOT/constants.pkl and ROOT/constants/KEY too. ROOT is any one directory.
"""

from __future__ import annotations

import io
import re

from fastrnn.errors import FormatError
from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.inventory import Contents, Weights
from fastrnn.formats.pickles.inert import Storage
from fastrnn.formats.pickles.unpickle import Unpickler
from fastrnn.formats.source import Blob, shown
from fastrnn.formats.torch import frozen, tensors
from fastrnn.formats.torch.scriptcode import said_of_classes

_DATA = re.compile(r"([^/]+/)?data\.pkl")
_BYTE_ORDERS = {b"little": "<", b"big": ">"}


def root_of(archive: ZipArchive) -> str | None:
    """The directory with data.pkl in it, with its slash; None where there is none or several."""
    roots = [name[: -len("data.pkl")] for name in archive.records if _DATA.fullmatch(name)]
    return roots[0] if len(roots) == 1 else None


def byte_order(archive: ZipArchive, root: str) -> str:
    """The order of the bytes in its storages, "<" or ">"."""
    if f"{root}byteorder" not in archive.records:
        return "<"
    mark = archive.read(f"{root}byteorder")
    if mark not in _BYTE_ORDERS:
        raise FormatError(f"its byteorder record is {shown(mark)}, expected b'little' or b'big'")
    return _BYTE_ORDERS[mark]


def contents(archive: ZipArchive, root: str) -> Contents:
    """Every tensor of the archive.

    The constants of TorchScript code are named as the code names them, CONSTANTS.c0 and so on. A
    frozen module has its weights there; those of recurrent layers get their names back.

    Raises
    ------
    FormatError
        The archive or its pickle is damaged.
    """
    script = f"{root}constants.pkl" in archive.records
    order = byte_order(archive, root)
    found = Contents("torchscript" if script else "torch zip", Weights(archive.source.budget))
    foreign: set[str] = set()
    classes = said_of_classes(archive, root) if script else {}
    for part in ("data", "constants") if script else ("data",):
        tree, names = _unpickle(archive, f"{root}{part}.pkl")
        if part == "constants" and isinstance(tree, (list, tuple)):
            tree = {f"CONSTANTS.c{index}": constant for index, constant in enumerate(tree)}
        foreign |= names
        blobs: dict[str, Blob] = {}

        def blob(storage: Storage, part: str = part, blobs: dict[str, Blob] = blobs) -> Blob:
            if storage.key not in blobs:
                blobs[storage.key] = archive.blob(f"{root}{part}/{storage.key}", unchecked=True)
            return blobs[storage.key]

        tensors.collect(found, tree, archive.source, blob, byte_order=order, classes=classes)
    found.foreign = tuple(sorted(foreign))
    if script:
        frozen.name_constants(found, archive, root)
    return found


def _unpickle(archive: ZipArchive, name: str) -> tuple[object, set[str]]:
    data = archive.read(name)
    packed = min(archive.records[name].packed, len(data))
    unpickler = Unpickler(io.BytesIO(data), len(data), tensors.storage, packed)
    return unpickler.load(), unpickler.foreign
