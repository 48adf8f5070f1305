"""Products of rows with weights: the one place that all of them go through.

BLAS's bits change with the number of rows; a model promises the same bits for any batch, which the
SIMD engine's tiles keep (float32). The BLAS engine, and other types, have NumPy's product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastrnn._kernels import product as kernel
from fastrnn.layers.engines import choose_isa
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array

_MOST_AXES = 6  # of windows that the tiles bring together themselves: windows.h has as many


class Product:
    """y = x W^T + b for rows x, with W (N, K) and b (N,) that do not change.

    Parameters
    ----------
    options : mapping
        engine, isa, threads, as a layer's.
    """

    def __init__(self, weight: Array, bias: Array | None, options: Mapping[str, Any]) -> None:
        self.outputs, self.inputs = weight.shape
        self._tiles: kernel.Product | None = None
        self._threads = options.get("threads", 1)
        if weight.dtype == np.float32 and weight.size and options.get("engine", "auto") != "blas":
            isa = choose_isa(options.get("isa"))
            self._tiles = kernel.Product(isa, weight, bias, options.get("threads", 1))
        else:
            self._weight, self._bias = np.ascontiguousarray(weight).T, bias

    def __call__(self, x: Array) -> Array:
        """X (..., K) to (..., N)."""
        claim((*x.shape[:-1], self.outputs), x.dtype)
        if self._tiles is None:
            y = np.matmul(x, self._weight)
            return y if self._bias is None else y + self._bias
        if x.dtype != np.float32 or x.shape[-1] != self.inputs:
            raise ValueError(f"x is {x.dtype} {x.shape}, expected float32 (..., {self.inputs})")
        rows = x.reshape(-1, self.inputs)  # a view wherever there is one
        if rows.strides[1] != rows.itemsize or rows.strides[0] < 0:
            rows = np.ascontiguousarray(rows)
        return self._tiles.run(rows).reshape(*x.shape[:-1], self.outputs)

    def over(self, windows: Array, axes: int, out: Array) -> list[Callable[[], Any]]:
        """Calls that compute `out` (M, N) from windows, arrays that stay where they are.

        The last `axes` of the windows' axes have K elements, the others M.
        """
        forward = min(windows.strides, default=0) >= 0 and windows.ndim <= _MOST_AXES
        if self._tiles is not None and out.flags.c_contiguous and forward:
            rows = windows.reshape(-1, self.inputs)
            if np.may_share_memory(rows, windows) and rows.strides[1] == rows.itemsize:
                return [self._tiles.over(rows, out)]
            if self._threads > 1:  # which share out a product of all rows, not of a few at a time
                together = rows if rows.flags.owndata else np.array(rows, order="C")
                target = together.reshape(windows.shape)
                return [partial(np.copyto, target, windows), self._tiles.over(together, out)]
            return [self._tiles.over(windows, out, axes)]
        return [lambda: np.copyto(out, self(windows.reshape(-1, self.inputs)))]
