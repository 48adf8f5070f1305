"""Element types: ONNX's numbers for those that NumPy has."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.formats.onnx.schema import ELEMENTS

UNREADABLE = {
    number: name
    for number, name in ELEMENTS.items()
    if name in ("string", "bfloat16")
    or name.startswith(("float4", "float6", "float8"))
    or name in ("uint4", "int4", "uint2", "int2")
}
DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name) for number, name in ELEMENTS.items() if number not in UNREADABLE
}


def dtype_of(number: int) -> np.dtype[Any]:
    """The dtype of ONNX's number for a type; ValueError, with its name, where NumPy has none."""
    if number in DTYPES:
        return DTYPES[number]
    raise ValueError(f"the element type {UNREADABLE.get(number, number)} is not one that NumPy has")
