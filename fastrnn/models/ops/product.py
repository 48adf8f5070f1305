"""Products of rows with constant weights: the one place that all of them go through.

BLAS's bits change with the number of rows; a model promises the same bits for any batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
        y = np.matmul(x, self.weight.T, out=out)
        if self.bias is not None:
            y += self.bias
        return y
