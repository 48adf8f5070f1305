"""From the records of a torch pickle to named arrays, whatever container the storages are in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.flatten import Leaf, tensors
from fastrnn.formats.inert import DType, NumpyArray, Storage, Tensor, Unreadable
from fastrnn.formats.inventory import Contents
from fastrnn.formats.source import Blob, Budget, Source, shown


def storage(saved_id: object) -> Storage:
    """The record of a persistent id: ("storage", class, key, device, numel, ...).

    The device it was saved from does not matter. FormatError where the id is not one.
    """
    if isinstance(saved_id, tuple) and len(saved_id) >= 5 and saved_id[0] == "storage":
        dtype, key, _, numel = saved_id[1:5]
        if isinstance(dtype, DType) and isinstance(key, (str, int)) and type(numel) is int:
            return Storage(dtype.name, key if isinstance(key, str) else shown(key))
    raise FormatError(f"the pickle refers to data by {shown(saved_id)}, which is not a storage")


def collect(
    contents: Contents,
    root: object,
    source: Source,
    blob: Callable[[Storage], Blob],
    *,
    byte_order: str = "<",
) -> None:
    """Add every tensor below `root` to `contents`, reading storages through `blob`.

    Raises
    ------
    FormatError
        A tensor does not lie within its storage, or as flatten.tensors.
    """
    made: dict[Hashable, np.ndarray | str] = {}
    for name, leaf in tensors(root, source.size):
        identity = leaf if isinstance(leaf, Tensor) else id(leaf)

        def make(leaf: Leaf = leaf, identity: Hashable = identity) -> np.ndarray | str:
            if identity not in made:
                made[identity] = _make(leaf, blob, source.budget, byte_order)
            return made[identity]

        contents.add(name, make, source.budget)


def _make(
    leaf: Leaf, blob: Callable[[Storage], Blob], budget: Budget, byte_order: str
) -> np.ndarray | str:
    if isinstance(leaf, Unreadable):
        return leaf.reason
    if isinstance(leaf, NumpyArray):
        return _make_numpy(leaf, budget)
    view = replace(leaf.view, offset=leaf.storage.offset + leaf.view.offset)
    return arrays.build(view, blob(leaf.storage), budget, byte_order=byte_order)


def _make_numpy(array: NumpyArray, budget: Budget) -> np.ndarray | str:
    if array.data is None or array.dtype.code is None:
        return "is a NumPy array of objects or text"
    arrays.check_shape(array.shape)
    view = arrays.contiguous(
        arrays.NUMPY_ELEMENTS[array.dtype.code], array.shape, fortran=array.fortran
    )
    return arrays.build(view, array.data, budget, byte_order=array.dtype.byte_order)
