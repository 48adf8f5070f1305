"""Saved states: bytes that carry one stream's state from one process or machine to another.

16 bytes    b"fastrnn state 1\\n", the version in it
32 bytes    the fingerprint of the model, SHA-256
L*(P+H)     reals, little-endian, in the model's dtype: of each layer h, then for LSTM c
16 bytes    BLAKE2b of all that precedes
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import StateError

Array = npt.NDArray[Any]

MAGIC = b"fastrnn state 1\n"
FAMILY = MAGIC[:14]  # of every version
FINGERPRINT, DIGEST = 32, 16  # bytes


def save_state(fingerprint: bytes, h: Array, c: Array | None) -> bytes:
    """One stream's h (L, P) and, for LSTM, c (L, H), as bytes."""
    reals = h if c is None else np.concatenate([h, c], axis=1)
    little = reals.astype(reals.dtype.newbyteorder("<"), copy=False)
    return seal(fingerprint, little.tobytes())


def seal(fingerprint: bytes, content: bytes) -> bytes:
    """Content of one model's making, in the form above."""
    body = MAGIC + fingerprint + content
    return body + _digest(body)


def load_state(
    data: bytes, fingerprint: bytes, h_shape: tuple[int, int], c_shape: tuple[int, int] | None,
    dtype: npt.DTypeLike, what: str,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Return the h (L, P) and c (L, H) that `data` holds.

    Raises
    ------
    StateError
        If it is damaged, of another version or of another model.
    TypeError
        If it is not bytes.
    """
    reals = unseal(data, fingerprint, what)
    layers, width = h_shape[0], h_shape[1] + (c_shape[1] if c_shape else 0)
    little = np.dtype(dtype).newbyteorder("<")
    size = layers * width * little.itemsize
    if len(reals) != size:
        raise StateError(f"{what}: a saved state with {len(reals)} bytes of reals, expected {size}")
    state = np.frombuffer(reals, little).reshape(layers, width).astype(dtype)
    return state[:, : h_shape[1]], state[:, h_shape[1] :] if c_shape else None


def state_shapes(stack: Any) -> tuple[tuple[int, int], tuple[int, int] | None, Any]:
    """The h_shape, c_shape and dtype of one stream, as `load_state` wants them."""
    c_shape = (stack.num_layers, stack.hidden_size) if stack.has_cell_state else None
    return (stack.num_layers, stack.output_size), c_shape, stack.dtype


def each_row(data: Any, batch: int | None, what: str) -> Sequence[Any]:
    """The saved states that a stream's `load` was given, by row; batch None: one, by itself.

    TypeError or ValueError unless there is one for each row.
    """
    if batch is None:
        return [data]
    if not isinstance(data, (list, tuple)):
        raise TypeError(f"{what}: state is {type(data).__name__}, expected a list")
    if len(data) != batch:
        raise ValueError(f"{what}: {len(data)} states, expected {batch}")
    return data


def unseal(data: bytes, fingerprint: bytes, what: str) -> bytes:
    """The content that `seal` was given. Raises as `load_state`."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"{what}: state is {type(data).__name__}, expected what save returned")
    data = bytes(data)
    if not data.startswith(FAMILY):
        raise StateError(f"{what}: {len(data)} bytes that are not a saved state")
    if not data.startswith(MAGIC):
        raise StateError(f"{what}: a saved state of another version, expected {MAGIC[14:15]!r}")
    body, digest = data[:-DIGEST], data[-DIGEST:]
    if len(body) < len(MAGIC) + FINGERPRINT or not hmac.compare_digest(_digest(body), digest):
        raise StateError(f"{what}: a damaged saved state: its checksum differs")
    theirs = body[len(MAGIC) : len(MAGIC) + FINGERPRINT]
    if theirs != fingerprint:
        raise StateError(
            f"{what}: a saved state of another model, {theirs.hex()[:16]}..., "
            f"expected {fingerprint.hex()[:16]}..."
        )
    return body[len(MAGIC) + FINGERPRINT :]


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST).digest()
