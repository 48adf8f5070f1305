"""A model's example: inputs and the answer to them, kept in the metadata of its file.

Whoever has the file can check it again, anywhere, without what it was made from.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats.source import shown

KEY = "fastrnn.example"
MOST_BYTES = 1 << 18  # of an example's arrays
TOLERANCE = 2e-5  # of `difference`

_TYPES = {
    np.dtype(name).name
    for name in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """Inputs and outputs by name."""

    inputs: Arrays
    outputs: Arrays

    @property
    def nbytes(self) -> int:
        """The size of its arrays."""
        return sum(array.nbytes for part in (self.inputs, self.outputs) for array in part.values())

    def as_text(self) -> str:
        """Return what `read` reads: arrays as type, shape and bytes (C order, little endian)."""
        parts = {"inputs": self.inputs, "outputs": self.outputs}
        return json.dumps(
            {part: {name: _pack(a) for name, a in arrays.items()} for part, arrays in parts.items()}
        )


def read(metadata: Mapping[str, str]) -> Example | None:
    """Return the example in the metadata of a file, None where it has none.

    Raises
    ------
    FormatError
        If it is damaged.
    """
    if KEY not in metadata:
        return None
    try:
        parts = json.loads(metadata[KEY])
        inputs, outputs = (
            {str(name): _unpack(name, entry) for name, entry in parts[part].items()}
            for part in ("inputs", "outputs")
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(f"the metadata {KEY} is damaged: {error}") from None
    return Example(inputs, outputs)


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Return how far an output is from what is expected of it.

    The largest absolute difference, as a part of the largest absolute value of the whole output:
    single values near 0 are what is left of larger ones that cancelled out, and have their error.
    inf for another shape or type, for NaN or infinities elsewhere, and for integers or truth
    values that are not equal.
    """
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return math.inf
    if got.dtype.kind != "f":
        return 0.0 if np.array_equal(got, expected) else math.inf
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
        return math.inf
    got, expected = got[finite].astype(np.float64), expected[finite].astype(np.float64)
    if not np.isfinite(got).all():
        return math.inf
    off, scale = (float(np.abs(a).max(initial=0)) for a in (got - expected, expected))
    return off / scale if scale else math.inf if off else 0.0


def largest(got: Arrays, expected: Arrays) -> tuple[float, str]:
    """Return the largest `difference` of all outputs, and the name of that output."""
    return max(
        (difference(np.asarray(got[name]), array), name) if name in got else (math.inf, name)
        for name, array in expected.items()
    )


def _pack(array: np.ndarray) -> list[Any]:
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return [array.dtype.name, list(array.shape), base64.b64encode(data.tobytes()).decode()]


def _unpack(name: str, entry: Any) -> np.ndarray:
    dtype, shape, text = entry
    if dtype not in _TYPES:
        raise ValueError(f"{shown(name)} has the type {dtype!r:.40}")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError(f"{shown(name)} has no shape")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{shown(name)}: {error}") from None
    stored = np.dtype(dtype).newbyteorder("<")
    if math.prod(shape) * stored.itemsize != len(data):
        raise ValueError(f"{shown(name)} has {len(data)} bytes, expected {shape} of {dtype}")
    return np.frombuffer(data, stored).astype(dtype).reshape(shape)
