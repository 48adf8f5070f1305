"""What one stream along time keeps, as bytes: of a pool's stream and of a row of a stream alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from fastrnn.errors import StateError
from fastrnn.models.along_time.unrolled import Unrolled
from fastrnn.models.ops.table import Array

_LAYOUT = 8  # bytes of a saved state that say what is in it


def packed(unrolled: Unrolled, phase: int, kept: Mapping[str, Array]) -> bytes:
    """Return what one stream keeps, arrays (1, ...), as bytes."""
    shapes = unrolled.shapes(phase, 1)
    arrays = [kept[key].astype(dtype.newbyteorder("<")) for key, (_, dtype) in shapes.items()]
    numbers = np.array(phase, "<i8").tobytes()
    return _digest(shapes) + numbers + b"".join(array.tobytes() for array in arrays)


def unpacked(unrolled: Unrolled, content: bytes, what: str) -> tuple[int, dict[str, Array]]:
    """Return the phase and the arrays that `packed` was given.

    Raises
    ------
    StateError
        If they are of another version.
    """
    numbers, start = content[_LAYOUT : _LAYOUT + 8], _LAYOUT + 8
    phase = int(np.frombuffer(numbers, "<i8")[0]) if len(numbers) == 8 else -1
    if not 0 <= phase < unrolled.phases:
        raise StateError(f"{what}: a saved state in phase {phase}, which there is not")
    shapes = unrolled.shapes(phase, 1)
    if content[:_LAYOUT] != _digest(shapes):
        raise StateError(f"{what}: a saved state of another version, which keeps other frames")
    wanted = sum(dtype.itemsize * int(np.prod(shape)) for shape, dtype in shapes.values())
    if len(content) != start + wanted:
        raise StateError(
            f"{what}: a saved state with {len(content) - start} bytes of numbers, expected {wanted}"
        )
    kept = {}
    for key, (shape, dtype) in shapes.items():
        count = int(np.prod(shape))
        array = np.frombuffer(content, dtype.newbyteorder("<"), count, start)
        kept[key] = array.astype(dtype).reshape(shape)
        start += array.nbytes
    return phase, kept


def _digest(shapes: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]) -> bytes:
    """What tells one layout of a saved state from another."""
    listed = [(key, shape, dtype.name) for key, (shape, dtype) in shapes.items()]
    return hashlib.blake2b(repr(listed).encode(), digest_size=_LAYOUT).digest()
