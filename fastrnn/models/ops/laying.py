"""Helpers for operators that lay out buffers and the calls that fill them (`table.lays`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.models.ops.table import Array

Calls = list[tuple[Callable[..., Any], tuple[Any, ...]]]


def do(calls: Calls, function: Callable[..., Any], *arguments: Any) -> None:
    """Call now, so that buffers have values, and whenever the calls are run again."""
    function(*arguments)
    calls.append((function, arguments))


def copy(calls: Calls, target: Array, source: Array) -> None:
    """Copy `source` into `target`, again and again."""
    do(calls, np.copyto, target, source)


def contiguous(calls: Calls, x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """X itself if it is C-contiguous and of that dtype, else a buffer with its elements."""
    if x.flags.c_contiguous and (dtype is None or x.dtype == dtype):
        return x
    buffer = np.empty(x.shape, dtype or x.dtype)
    copy(calls, buffer, x)
    return buffer
