"""Products of rows with constant weights: the one place that all of them go through.

BLAS's bits change with the number of rows; a model promises the same bits for any batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.models.ops.laying import Calls, do
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array


class Product:
    """y = x W^T + b for rows x, with W (N, K) and b (N,) that do not change."""

    def __init__(self, weight: Array, bias: Array | None, options: dict[str, Any]) -> None:
        self.weight = np.ascontiguousarray(weight)
        self.bias = bias

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """X (..., K) to (..., N)."""
        claim((*x.shape[:-1], len(self.weight)), x.dtype)
        y = np.empty((*x.shape[:-1], len(self.weight)), x.dtype) if out is None else out
        _rows(x.reshape(-1, x.shape[-1]), self.weight, y.reshape(-1, y.shape[-1]))
        if self.bias is not None:
            y += self.bias
        return y

    def lay(self, calls: Calls, x: Array, out: Array | None = None) -> Array:
        """The same into a buffer, `out` if it is given; x (..., K) is C-contiguous."""
        if out is None:
            out = np.empty((*x.shape[:-1], len(self.weight)), x.dtype)
        rows, made = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1])
        do(calls, _rows, rows, self.weight, made)
        if self.bias is not None:
            do(calls, np.add, made, self.bias, made)
        return out


def _rows(x: Array, weight: Array, out: Array) -> None:
    """One row after another: the same bits for any number of them."""
    for row, made in zip(x, out, strict=True):
        np.dot(weight, row, out=made)
