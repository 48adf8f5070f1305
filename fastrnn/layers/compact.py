"""Weights as small integers: rows of codes, and for each row a scale that they are multiplied by.

A matrix (rows, columns) is codes (rows, columns) of int8 or int16 and float32 scales (rows,). In a
state dict the codes have the matrix's name, and the scales that name and "_scale".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# What codes are at most in magnitude. int16: 13 bits, so that sums of products stay exact in 32.
LARGEST = {"int8": 127, "int16": 4095}
SCALE = "_scale"
# Rows of smaller weights become zeros: the reciprocal of their scale might not be finite.
NEGLIGIBLE = 2.0**-100
_AT_ONCE = 1 << 16  # weights, so that what is made on the way stays in a cache


def quantised(matrix: Array, weight_dtype: str) -> tuple[Array, Array]:
    """Return the codes and scales of a finite float32 matrix.

    The largest weight of a row gets the largest code; codes are rounded to nearest.
    """
    largest = LARGEST[weight_dtype]
    codes = np.empty(matrix.shape, weight_dtype)
    scale = np.empty(len(matrix), np.float32)
    step = max(1, _AT_ONCE // matrix.shape[1])
    for first in range(0, len(matrix), step):
        rows = matrix[first : first + step]
        peak = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
        peak[peak < NEGLIGIBLE] = 0
        inverse = np.divide(largest, peak, out=np.zeros_like(peak), where=peak > 0)
        scale[first : first + step] = peak / largest
        rounded = rows * inverse.astype(np.float32)[:, None]
        codes[first : first + step] = np.rint(rounded, out=rounded)
    return codes, scale


def scaled(codes: Array, scale: Array) -> Array:
    """Return the float32 matrix that codes and scales stand for.

    Raises
    ------
    ValueError
        If they are not such: it says in what.
    """
    largest = LARGEST.get(codes.dtype.name)
    if largest is None:
        raise ValueError(f"codes of {codes.dtype}, expected {' or '.join(LARGEST)}")
    if codes.ndim != 2 or scale.shape != codes.shape[:1]:
        raise ValueError(f"scales of shape {scale.shape} do not fit codes of shape {codes.shape}")
    if codes.size and not -largest <= int(codes.min()) <= int(codes.max()) <= largest:
        raise ValueError(f"codes of {codes.dtype} beyond {largest} in magnitude")
    with np.errstate(over="ignore", invalid="ignore"):
        scale = scale.astype(np.float32)
        if not (scale >= 0).all() or not np.isfinite(scale * np.float32(largest)).all():
            raise ValueError("scales that are negative or not finite")
    made: Array = codes * scale[:, None]
    return made


def in_floats(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """A stack's parameters, codes and scales made matrices: read-only arrays."""
    made = {}
    for name, array in parameters.items():
        if name.endswith(SCALE):
            continue
        if name + SCALE in parameters:
            array = scaled(array, parameters[name + SCALE])
        array.flags.writeable = False
        made[name] = array
    return made
