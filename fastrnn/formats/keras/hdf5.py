"""The groups and arrays of an HDF5 file, through h5py and without following where a file leads.

Only what Keras writes is taken: hard links, scalar text attributes, and arrays of IEEE floats or
ints, stored whole and uncompressed. Their bytes are read from the file itself, not by libhdf5,
which would allocate what the file says, inflate without bound, and open other files. An array under
a soft or external link, of another type (references to objects among them), or stored in chunks,
compressed, in other files, virtually or not at all is not read; the reason stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.source import Blob, Budget, Bytes, Part, Source, shown

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 32
# What an object of the file takes here and in libhdf5, roughly.
_OBJECT_BYTES = 4096
_MAX_TEXT = 64 << 20


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

    arrays: by path ("layers/lstm/cell/vars/0"), each a Array or the reason why it is none.
    names: what the attribute "name" of a group says, by the group's path; Keras 3 writes it.
    texts: the text attributes of the root.
    """

    arrays: dict[str, Array | str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def read(source: Source) -> Tree:
    """Everything in the file; nothing of an array is read yet.

    Raises
    ------
    FormatError
        The file is damaged.
    ModuleNotFoundError
        h5py is not installed.
    """
    h5py = _h5py()
    tree = Tree()
    try:
        with h5py.File(source.file, "r") as file:
            tree.texts.update(_texts(h5py, file, source))
            _walk(h5py, file, source, tree)
    except FormatError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"damaged HDF5: {str(error)[:200]}") from None
    return tree


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading a Keras file needs h5py: pip install 'fastrnn[keras]'", name=error.name
        ) from None
    return h5py


def _walk(h5py: Any, file: Any, source: Source, tree: Tree) -> None:
    """Visit every object once, however many hard links lead to it."""
    seen = {h5py.h5o.get_info(file.id).addr}
    pending: list[tuple[str, Any, int]] = [("", file, 0)]
    while pending:
        path, group, depth = pending.pop()
        links = group.id.links
        below = []
        for raw in _link_names(links, source):
            where = f"{path}/{raw.decode('utf-8', 'replace')}".lstrip("/")
            if links.get_info(raw).type != h5py.h5l.TYPE_HARD:
                tree.arrays[where] = "is a link to something that may not be in the file"
                continue
            address = h5py.h5o.get_info(group.id, raw).addr
            if address in seen:
                tree.arrays[where] = "is a second link to an object of the file"
                continue
            seen.add(address)
            child = group[raw]
            if isinstance(child, h5py.Dataset):
                tree.arrays[where] = _stored(h5py, child, source)
            elif isinstance(child, h5py.Group):
                if depth == MAX_DEPTH:
                    raise FormatError(f"its groups are nested more than {MAX_DEPTH} deep")
                name = _text(h5py, child, "name", source)
                if name is not None:
                    tree.names[where] = name
                below.append((where, child, depth + 1))
        pending.extend(reversed(below))


def _link_names(links: Any, source: Source) -> list[bytes]:
    names: list[bytes] = []

    def add(name: bytes) -> None:
        source.budget.take(_OBJECT_BYTES)
        names.append(name)

    links.iterate(add)
    return names


def _texts(h5py: Any, file: Any, source: Source) -> dict[str, str]:
    found = ((name, _text(h5py, file, name, source)) for name in ("model_config", "keras_version"))
    return {name: text for name, text in found if text is not None}


def _text(h5py: Any, holder: Any, name: str, source: Source) -> str | None:
    """The attribute `name` where it is one text; None where there is none, or it is another."""
    if not h5py.h5a.exists(holder.id, name.encode()):
        return None
    attribute = h5py.h5a.open(holder.id, name.encode())
    if attribute.shape != () or not isinstance(attribute.get_type(), h5py.h5t.TypeStringID):
        return None
    # A text of variable length is a reference; its bytes are in the file all the same.
    source.budget.take(2 * min(max(attribute.get_storage_size(), source.size), _MAX_TEXT))
    value = holder.attrs[name]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _stored(h5py: Any, dataset: Any, source: Source) -> Array | str:
    kind = dataset.id.get_type()
    if not isinstance(kind, (h5py.h5t.TypeFloatID, h5py.h5t.TypeIntegerID)):
        return "is not an array of numbers"
    order = {h5py.h5t.ORDER_LE: "<", h5py.h5t.ORDER_BE: ">"}.get(kind.get_order())
    dtype = arrays.NUMPY_ELEMENTS.get(dataset.dtype.str[1:])
    if order is None or dtype is None or kind != h5py.h5t.py_create(dataset.dtype):
        return f"has elements of a type of its own ({shown(str(dataset.dtype))})"
    if dtype == "uint16" and _text(h5py, dataset, "dtype", source) == "bfloat16":
        dtype = "bfloat16"  # as Keras 3 stores it
    shape = tuple(dataset.shape) if dataset.shape is not None else None
    if shape is None:
        return "is empty"
    try:
        arrays.check_shape(shape)
    except FormatError as error:
        return str(error)
    plan = dataset.id.get_create_plist()
    if plan.get_nfilters():
        return "is compressed: save it with Keras, which does not"
    if plan.get_external_count() or plan.get_layout() not in (
        h5py.h5d.CONTIGUOUS,
        h5py.h5d.COMPACT,
    ):
        return "is stored in chunks, in other files or virtually, expected in one piece"
    size = arrays.nbytes(dtype, shape)
    if plan.get_layout() == h5py.h5d.COMPACT:
        if dataset.id.get_storage_size() != size:
            return "has not as many bytes as its shape asks for"
        source.budget.take(size)
        return Array(dtype, order, shape, Bytes(dataset[()].tobytes()))
    start = dataset.id.get_offset()
    if start is None or dataset.id.get_storage_size() != size:
        return "has no data" if size else "is empty"
    return Array(dtype, order, shape, Part(source, start, size))
