"""Products of rows with constant weights: the one place that all of them go through.

The SIMD engine's kernel gives a row the same bits in any company; BLAS, which computes float64 and
where it is asked for, does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._kernels.product import Product as Kernel
from fastrnn.layers.engines import choose_engine, choose_isa
from fastrnn.models.ops.laying import Calls, contiguous, do
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array


class Product:
    """y = x W^T + b for rows x, with W (N, K) and b (N,) that do not change."""

    def __init__(self, weight: Array, bias: Array | None, options: dict[str, Any]) -> None:
        self.outputs, self.inputs = weight.shape
        self._kernel: Kernel | None = None
        if (
            weight.size
            and weight.dtype == np.float32
            and choose_engine(options.get("engine", "auto"), weight.dtype) == "simd"
        ):
            isa = choose_isa(options.get("isa"))
            self._kernel = Kernel(isa, weight, bias, options.get("threads", 1))
        else:
            self._weight, self._bias = np.ascontiguousarray(weight).T, bias

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """X (..., K) to (..., N)."""
        claim((*x.shape[:-1], self.outputs), x.dtype)
        if self._kernel is None:
            return self._by_blas(x, out)
        if x.ndim == 0 or x.shape[-1] != self.inputs or x.dtype != np.float32:
            raise ValueError(f"x is {x.dtype} {x.shape}, expected float32 (..., {self.inputs})")
        rows = np.ascontiguousarray(x).reshape(-1, self.inputs)
        made = None if out is None else out.reshape(-1, self.outputs)
        return self._kernel.run(rows, made).reshape(*x.shape[:-1], self.outputs)

    def _by_blas(self, x: Array, out: Array | None) -> Array:
        y = np.matmul(x, self._weight, out=out)
        if self._bias is not None:
            y += self._bias
        return y

    def lay(self, calls: Calls, x: Array, out: Array | None = None) -> Array:
        """The same into a buffer, `out` if it is given (C-contiguous)."""
        if out is None:
            out = np.empty((*x.shape[:-1], self.outputs), x.dtype)
        if self._kernel is None:
            do(calls, self._by_blas, x, out)
            return out
        if x.ndim != 2:
            x = contiguous(calls, x).reshape(-1, self.inputs)
        do(calls, self._kernel.run, x, out.reshape(-1, self.outputs))
        return out
