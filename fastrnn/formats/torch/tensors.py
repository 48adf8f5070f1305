"""From the records of a torch pickle to named arrays, whatever container the storages are in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.inventory import Contents, Stored, naming
from fastrnn.formats.pickles.flatten import Leaf, Object, tensors
from fastrnn.formats.pickles.inert import DType, NumpyArray, Quantized, Storage, Tensor, Unreadable
from fastrnn.formats.said import NotSaid, Said
from fastrnn.formats.source import Blob, Budget, Source, shown
from fastrnn.formats.torch import modules


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
    classes: Mapping[str, Said | NotSaid] | None = None,
) -> None:
    """Add every tensor below `root` to `contents`, to be read from storages through `blob`.

    `classes` is what the code of TorchScript says of its classes, by name.

    Raises
    ------
    FormatError
        There are more names than the file's size justifies.
    """
    known: dict[Hashable, Stored | str] = {}
    read = partial(_read, blob=blob, budget=source.budget, byte_order=byte_order)
    said_of = partial(modules.said_of, classes=classes or {})
    for name, leaf in tensors(root, source.size, said_of):
        if isinstance(leaf, Object):
            contents.add_object(name, leaf.what)
            continue
        if isinstance(leaf, Said):
            contents.weights.said[name] = leaf
            continue
        if isinstance(leaf, Unreadable):
            contents.add(name, leaf.reason)
            continue
        identity = leaf if isinstance(leaf, Tensor) else id(leaf)
        if identity not in known:
            with naming(name):
                known[identity] = _stored(name, leaf, read)
        contents.add(name, known[identity])
        if isinstance(leaf, Quantized):
            contents.weights.notes[name] = f"dequantized from {leaf.integers.view.dtype}"


def _stored(
    name: str, leaf: Tensor | NumpyArray | Quantized, read: Callable[[Leaf], np.ndarray]
) -> Stored | str:
    """The tensor, to be read later, or why it cannot be."""
    if isinstance(leaf, Tensor):
        dtype, shape = leaf.view.dtype, leaf.view.shape
    elif isinstance(leaf, Quantized):
        dtype, shape = "float32", leaf.integers.view.shape
    elif leaf.data is None or leaf.dtype.code is None:
        return "is a NumPy array of objects or text"
    else:
        dtype, shape = arrays.NUMPY_ELEMENTS[leaf.dtype.code], leaf.shape
    arrays.check_shape(shape)
    return Stored(name, arrays.made_dtype(dtype), shape, partial(read, leaf))


def _read(
    leaf: Leaf, blob: Callable[[Storage], Blob], budget: Budget, byte_order: str
) -> np.ndarray:
    if isinstance(leaf, NumpyArray):
        return _numpy(leaf, budget)
    if isinstance(leaf, Quantized):
        read = partial(_read, blob=blob, budget=budget, byte_order=byte_order)
        return _dequantized(leaf, read, budget)
    assert isinstance(leaf, Tensor)
    view = replace(leaf.view, offset=leaf.storage.offset + leaf.view.offset)
    return arrays.build(view, blob(leaf.storage), budget, byte_order=byte_order)


def _numpy(array: NumpyArray, budget: Budget) -> np.ndarray:
    assert array.data is not None
    assert array.dtype.code is not None
    view = arrays.contiguous(
        arrays.NUMPY_ELEMENTS[array.dtype.code], array.shape, fortran=array.fortran
    )
    return arrays.build(view, array.data, budget, byte_order=array.dtype.byte_order)


def _dequantized(leaf: Quantized, read: Callable[[Leaf], np.ndarray], budget: Budget) -> np.ndarray:
    """(q - zero_point) * scale in float32, as torch's dequantize()."""
    q = read(leaf.integers)
    budget.take(3 * 4 * q.size)
    scale, zero_point = (
        read(part) if isinstance(part, Tensor) else np.array(part)
        for part in (leaf.scale, leaf.zero_point)
    )
    if leaf.axis is not None:
        along = [1] * q.ndim
        if not 0 <= leaf.axis < q.ndim or {scale.shape, zero_point.shape} != {
            (q.shape[leaf.axis],)
        }:
            raise FormatError(
                f"has shape {q.shape} and {scale.shape} scales, {zero_point.shape} zero points "
                f"on axis {leaf.axis}, which do not fit together"
            )
        along[leaf.axis] = -1
        scale, zero_point = scale.reshape(along), zero_point.reshape(along)
    centred = (q - zero_point.astype(np.int32)).astype(np.float32)
    with np.errstate(over="ignore"):
        made: np.ndarray = centred * scale.astype(np.float32)
    return made
