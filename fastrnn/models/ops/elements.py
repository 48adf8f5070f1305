"""Element types: ONNX's numbers for those that NumPy has."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.formats.onnx.schema import ELEMENTS

_LACKING = ("string", "bfloat16", "float8", "float6e", "float4", "uint4", "int4", "uint2", "int2")
UNREADABLE = {number: name for number, name in ELEMENTS.items() if name.startswith(_LACKING)}
DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name) for number, name in ELEMENTS.items() if number not in UNREADABLE
}
DTYPES_BY_NAME = {ELEMENTS[number]: dtype for number, dtype in DTYPES.items()}


def dtype_of(number: int) -> np.dtype[Any]:
    """The dtype of ONNX's number for a type; ValueError, with its name, where NumPy has none."""
    if number in DTYPES:
        return DTYPES[number]
    raise ValueError(f"the element type {UNREADABLE.get(number, number)} is not one that NumPy has")
