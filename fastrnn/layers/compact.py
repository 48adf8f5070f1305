"""Weights as small integers: rows of codes, and for each row a scale that they are multiplied by.

A matrix (rows, columns) is codes (rows, columns) of int8 or int16 and float32 scales (rows,). In a
state dict the codes have the matrix's name, and the scales that name and "_scale".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.codes import quantised as codes_of

Array = npt.NDArray[Any]

# What codes are at most in magnitude. int16: 13 bits, so that sums of products stay exact in 32.
LARGEST = {"int8": 127, "int16": 4095}
SCALE = "_scale"


def quantised(matrix: Array, weight_dtype: str) -> tuple[Array, Array]:
    """Return the codes and scales of a finite, C-contiguous float32 matrix.

    The largest weight of a row gets the largest code; the errors of a row add up to less than one.
    """
    codes = np.empty(matrix.shape, weight_dtype)
    scale = np.empty(len(matrix), np.float32)
    codes_of(matrix, codes, scale, LARGEST[weight_dtype])
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
