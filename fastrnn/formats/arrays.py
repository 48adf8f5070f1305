"""From bytes to NumPy arrays: the element types, and views of a storage made into arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastrnn.errors import FormatError
from fastrnn.formats.source import Blob, Budget, shown

MAX_DIMENSIONS = 32
_MAX_BYTES = 1 << 62

# Element type, in torch's name -> (type code without byte order, bytes). bfloat16 is stored as the
# upper half of a float32; it and floats of 8 bits come out as float32, which holds their values.
ELEMENTS: dict[str, tuple[str, int]] = {
    "float16": ("f2", 2),
    "bfloat16": ("u2", 2),
    "float32": ("f4", 4),
    "float64": ("f8", 8),
    "complex64": ("c8", 8),
    "complex128": ("c16", 16),
    "int8": ("i1", 1),
    "int16": ("i2", 2),
    "int32": ("i4", 4),
    "int64": ("i8", 8),
    "uint8": ("u1", 1),
    "uint16": ("u2", 2),
    "uint32": ("u4", 4),
    "uint64": ("u8", 8),
    "bool": ("u1", 1),
    "float8_e4m3fn": ("u1", 1),
    "float8_e5m2": ("u1", 1),
    "float8_e4m3fnuz": ("u1", 1),
    "float8_e5m2fnuz": ("u1", 1),
}

# Bits of the fraction and bias of the exponent, for floats of 8 bits (arXiv:2209.05433, and the
# last two arXiv:2206.02915).
_FLOAT8 = {
    "float8_e4m3fn": (3, 7),
    "float8_e5m2": (2, 15),
    "float8_e4m3fnuz": (3, 8),
    "float8_e5m2fnuz": (2, 16),
}

# The same by NumPy's codes for what NumPy stores: "f4" -> "float32".
NUMPY_ELEMENTS = {code: name for name, (code, _) in ELEMENTS.items()}
NUMPY_ELEMENTS |= {"u1": "uint8", "u2": "uint16", "b1": "bool"}


@dataclass(frozen=True, slots=True)
class View:
    """Which elements of a storage a tensor is made of. `offset` and `strides` count elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


def contiguous(dtype: str, shape: tuple[int, ...], *, fortran: bool = False) -> View:
    """The View of a whole storage in C order, or in Fortran order."""
    strides = []
    step = 1
    for length in shape if fortran else reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return View(dtype, shape, tuple(strides if fortran else reversed(strides)))


def check_shape(shape: tuple[int, ...]) -> None:
    """FormatError unless `shape` is one that an array in memory can have."""
    if len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"has {len(shape)} dimensions, expected at most {MAX_DIMENSIONS}")
    if any(length < 0 for length in shape) or math.prod(n or 1 for n in shape) > _MAX_BYTES // 16:
        raise FormatError(f"has the impossible shape {shown(shape)}")


def nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes that `shape` takes in a file."""
    return math.prod(shape) * ELEMENTS[dtype][1]


def made_dtype(dtype: str) -> np.dtype[Any]:
    """The dtype of the arrays that `build` makes of elements of this type."""
    return np.dtype("float32" if dtype == "bfloat16" or dtype in _FLOAT8 else dtype)


def build(view: View, blob: Blob, budget: Budget, *, byte_order: str = "<") -> np.ndarray:
    """The array that `view` cuts out of `blob`.

    Owned, C-contiguous, in native byte order, of the shape and dtype that `view` names (bfloat16
    as float32). Its bytes, and those read for it, are taken from `budget` first.

    Raises
    ------
    FormatError
        The view does not lie inside the blob, or is larger than the budget.
    """
    check_shape(view.shape)
    if len(view.strides) != len(view.shape) or view.offset < 0 or min(view.strides, default=0) < 0:
        raise FormatError(
            f"has shape {shown(view.shape)} with offset {shown(view.offset)} "
            f"and strides {shown(view.strides)}, which do not fit together"
        )
    code, itemsize = ELEMENTS[view.dtype]
    count = math.prod(view.shape)
    axes = zip(view.shape, view.strides, strict=True)
    # Elements from the first to the last one used, both included.
    span = 1 + sum((n - 1) * step for n, step in axes) if count else 0
    if count and (view.offset + span) * itemsize > blob.size:
        raise FormatError(
            f"has {blob.size} bytes of data, expected {shown((view.offset + span) * itemsize)} "
            f"for {view.dtype} of shape {shown(view.shape)}"
        )
    stored = np.dtype(byte_order + code)
    dense = _is_dense(view)
    widened = made_dtype(view.dtype).itemsize - itemsize and 4
    made = count * (itemsize + widened)
    budget.take(made + (0 if dense else span * itemsize))
    if dense:
        array = np.empty(view.shape, stored)
        _fill(array.reshape(-1), blob, view.offset * itemsize)
    else:
        flat = np.empty(span, stored)
        _fill(flat, blob, view.offset * itemsize)
        strides = tuple(step * itemsize for step in view.strides)
        array = as_strided(flat, view.shape, strides, writeable=False).copy(order="C")
    return _native(array, view.dtype)


def _is_dense(view: View) -> bool:
    if 0 in view.shape:
        return True
    expected = 1
    for length, step in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if length != 1 and step != expected:
            return False
        expected *= length
    return True


def _fill(flat: np.ndarray, blob: Blob, offset: int) -> None:
    if flat.size:
        blob.into(offset, flat.view(np.uint8).data)


def _native(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array in native byte order and in its own type, made in place unless it is widened."""
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    if dtype == "bool":
        truth: np.ndarray = array.view(np.bool_)
        np.not_equal(array, 0, out=truth)
        return truth
    if dtype in _FLOAT8:
        values: np.ndarray = _float8(dtype)[array]
        return values
    if dtype != "bfloat16":
        return array
    wide = array.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


@cache
def _float8(dtype: str) -> np.ndarray:
    """The float32 values of the 256 bytes."""
    fraction_bits, bias = _FLOAT8[dtype]
    byte = np.arange(256)
    exponent = (byte & 0x7F) >> fraction_bits
    fraction = (byte & ((1 << fraction_bits) - 1)) / (1 << fraction_bits)
    normal = exponent > 0
    values = (normal + fraction) * 2.0 ** (np.where(normal, exponent, 1) - bias)
    values = np.where(byte < 128, values, -values)
    if dtype.endswith("uz"):  # no infinities, and NaN in the place of -0
        values[0x80] = np.nan
    elif dtype == "float8_e4m3fn":  # no infinities
        values[[0x7F, 0xFF]] = np.nan
    else:
        values[exponent == 31] = np.nan
        values[[0x7C, 0xFC]] = np.inf, -np.inf
    return values.astype(np.float32)
