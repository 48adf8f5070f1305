"""The records of torch tensors, from what torch's pickles rebuild them from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats.arrays import ELEMENTS, MAX_DIMENSIONS, View
from fastrnn.formats.pickles.inert import DType, Global, Quantized, Storage, Tensor, Unreadable
from fastrnn.formats.source import shown

Args = tuple[Any, ...]

_STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
_OTHER_DTYPES = ("float8_", "float4_", "qint", "quint", "uint", "int", "bits", "complex32")


def element_type(module: str, name: str) -> DType | None:
    """The element type that torch's global `module`.`name` is, or implies; None if it is none."""
    if module == "torch" or module.startswith("torch."):
        if name in _STORAGES:
            return DType(_STORAGES[name])
        if module == "torch" and (name in ELEMENTS or name.startswith(_OTHER_DTYPES)):
            return DType(name)
    return None


def is_int64(value: object) -> bool:
    """Whether it is an int that torch can have written."""
    return type(value) is int and value.bit_length() < 64


def ints(name: str, value: object) -> tuple[int, ...]:
    """A shape or strides; FormatError where `value`, which is called `name`, is none."""
    if not isinstance(value, (tuple, list)) or len(value) > MAX_DIMENSIONS:
        raise FormatError(
            f"a tensor has the {name} {shown(value)}, expected at most {MAX_DIMENSIONS} numbers"
        )
    if not all(map(is_int64, value)):
        raise FormatError(f"a tensor has the {name} {shown(value)}, expected ints of 64 bits")
    return tuple(value)


def tensor(args: Args, dtype: object = None, metadata: object = None) -> Tensor | Unreadable:
    """A tensor from (storage, offset, size, stride)."""
    storage, offset, size, stride = args[:4]
    if isinstance(storage, Unreadable):
        return storage
    if not isinstance(storage, Storage) or not is_int64(offset):
        raise FormatError(
            f"a tensor has the storage {shown(storage)} and the offset {shown(offset)}, "
            "expected a storage of this file and an int"
        )
    if isinstance(metadata, dict) and (metadata.get("conj") or metadata.get("neg")):
        return Unreadable("has its conj or neg bit set")
    name = dtype.name if isinstance(dtype, DType) else storage.dtype
    if name not in ELEMENTS:
        return Unreadable(f"its element type {name} is not one that NumPy has")
    return Tensor(storage, View(name, ints("shape", size), ints("strides", stride), offset))


# What the elements of a quantized storage are kept in.
_INTEGERS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
_PER_TENSOR = ("torch.per_tensor_affine", "torch.per_tensor_symmetric")
_PER_CHANNEL = ("torch.per_channel_affine", "torch.per_channel_symmetric")


def quantized(args: Args) -> Quantized | Unreadable:
    """A quantized tensor from (storage, offset, size, stride, (scheme, scale, zero point...))."""
    storage, offset, size, stride, scheme = args[:5]
    if not isinstance(storage, Storage) or storage.dtype not in _INTEGERS:
        return Unreadable("is quantized in a way that has no scale for each element")
    plain = replace(storage, dtype=_INTEGERS[storage.dtype])
    integers = tensor((plain, offset, size, stride))
    if isinstance(integers, Tensor) and isinstance(scheme, tuple) and len(scheme) >= 3:
        kind, scale, zero_point = scheme[:3]
        name = kind.name if isinstance(kind, Global) else ""
        if name in _PER_TENSOR and isinstance(scale, float) and is_int64(zero_point):
            return Quantized(integers, scale, zero_point)
        channels = isinstance(scale, Tensor) and isinstance(zero_point, Tensor)
        if name in _PER_CHANNEL and channels and len(scheme) > 3 and is_int64(scheme[3]):
            return Quantized(integers, scale, zero_point, scheme[3])
    return Unreadable("is quantized without a scale and a zero point")
