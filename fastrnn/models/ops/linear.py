"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.models.ops.product import Product
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array, are_constant, op, prepares


@op("MatMul", 1)
def matmul(x: Array, y: Array) -> Array:
    """The matrix product, as NumPy's."""
    if x.ndim and y.ndim:
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        claim((*batch, *x.shape[-2:-1], *(y.shape[-1:] if y.ndim > 1 else ())), x.dtype)
    return np.matmul(x, y)


@prepares(matmul)
def prepare_matmul(known: Sequence[Any], options: dict[str, Any]) -> Any:
    """A product with constant weights on its right."""
    weight = known[1]
    if not are_constant(weight) or weight.ndim != 2 or weight.dtype.kind != "f":
        return None
    return Linear(weight.T, None, options)


class Linear:
    """The product of x (..., K) with constant weights (N, K), plus a bias (N,)."""

    def __init__(self, weight: Array, bias: Array | None, options: dict[str, Any]) -> None:
        self.product = Product(weight, bias, options)

    def __call__(self, x: Array, *_: Any) -> Array:
        """X (..., K) to (..., N)."""
        if not x.ndim:
            raise ValueError("x has no axes")
        return self.product(x)

    def over(self, given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
        """Calls that compute `results` from `given`."""
        out = results[0].reshape(-1, self.product.outputs)
        if not np.may_share_memory(out, results[0]):
            return None
        return self.product.over(given[0], 1, out)


@op("Gemm", 7)
def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Alpha * A B + beta * C, either matrix transposed."""
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"matrices of {a.shape} and {b.shape}")
    a, b = a.T if transA else a, b.T if transB else b
    claim((a.shape[0], b.shape[1]), a.dtype)
    y = a @ b
    if alpha != 1:
        y = (y * y.dtype.type(alpha)).astype(y.dtype, copy=False)
    if c is None or beta == 0:
        return y
    return y + (c if beta == 1 else (c * c.dtype.type(beta)).astype(c.dtype, copy=False))


@prepares(gemm)
def prepare_gemm(
    known: Sequence[Any],
    options: dict[str, Any],
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Any:
    """A product with constant weights and bias."""
    weight = known[1]
    bias = known[2] if len(known) > 2 and are_constant(known[2]) else None
    if not are_constant(weight) or weight.ndim != 2 or weight.dtype.kind != "f":
        return None
    weight = weight if transB else weight.T
    if bias is not None:
        bias = bias * bias.dtype.type(beta)
        if bias.size not in (1, len(weight)) or bias.shape[-1:] not in ((1,), (len(weight),), ()):
            return None  # a row for each row of A
        bias = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), len(weight)))
    scaled = weight if alpha == 1 else weight * weight.dtype.type(alpha)
    linear = Linear(scaled, bias, options)
    if not transA and (bias is not None or len(known) < 3 or known[2] is None):
        return linear

    def multiply(a: Array, _: Array, c: Array | None = None) -> Array:
        y = linear(a.T if transA else a)
        return y if c is None or bias is not None else y + c.dtype.type(beta) * c

    return multiply


@op("Einsum", 12)
def einsum(*operands: Array, equation: str) -> Array:
    """Einstein's sum, as NumPy's."""
    sizes: dict[str, int] = {}
    equation = equation.replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    for term, operand in zip(terms, operands, strict=False):
        if "." not in term:
            sizes.update(zip(term, operand.shape, strict=False))
    if "->" in equation and "." not in equation:
        claim([sizes.get(letter, 1) for letter in equation.partition("->")[2]], operands[0].dtype)
    else:  # no longer than all of its operands' axes
        claim([n for operand in operands for n in operand.shape], operands[0].dtype)
    return np.einsum(equation, *operands)


@prepares(einsum)
def prepare_einsum(known: Sequence[Any], options: dict[str, Any], *, equation: str) -> Any:
    """A product, where a constant matrix is summed over the last axis of rows."""
    found = rows_by_matrix(equation)
    if found is None or len(known) != 2:
        return None
    rows, number, columns = found
    weight = known[1 - number]
    if not are_constant(weight) or weight.ndim != 2 or weight.dtype.kind != "f":
        return None
    return EinsumProduct(weight.T if columns[0] == rows[-1] else weight, rows, number, options)


def rows_by_matrix(equation: str) -> tuple[str, int, str] | None:
    """The axes of rows, which operand they are, and the other's two axes; None: it is no such sum.

    "bth,hk->btk" and "kh,bth->btk" are: only the last axis of the rows becomes another.
    """
    terms, arrow, made = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or not arrow or "." in equation:
        return None
    for number, rows in enumerate(operands):
        columns, new = operands[1 - number], made[-1:]
        others = len({*rows, new}) == len(rows) + 1
        if others and made[:-1] == rows[:-1] and columns in (rows[-1:] + new, new + rows[-1:]):
            return rows, number, columns
    return None


class EinsumProduct(Linear):
    """Rows, whose axes have the letters `rows`, by a matrix; they are operand `number`."""

    def __init__(self, weight: Array, rows: str, number: int, options: dict[str, Any]) -> None:
        super().__init__(weight, None, options)
        self._rows, self._number = rows, number

    def __call__(self, *operands: Array) -> Array:
        """The sum."""
        x = operands[self._number]
        if x.ndim != len(self._rows) or x.shape[-1] != self.product.inputs:
            raise ValueError(
                f"rows are {x.shape}, expected {len(self._rows)} axes ({', '.join(self._rows)}), "
                f"the last of {self.product.inputs}"
            )
        return self.product(x)

    def over(self, given: Sequence[Any], results: Sequence[Array]) -> list[Any] | None:
        """Calls that compute `results` from `given`."""
        return super().over([given[self._number]], results)
