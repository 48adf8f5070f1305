"""Inputs to try a graph out with: bounded, whatever the file declares of their shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn.formats import onnx
from fastrnn.models.inputs import element_dtype
from fastrnn.models.ops.table import Array

MOST = 64 << 20  # bytes of all inputs of one trial, and of the states of one stream

Place = tuple[str, int]  # an input and one of its axes


class TooLargeError(ValueError):
    """An input is declared larger than anything that is tried."""


def noise(
    values: Iterable[onnx.Value], lengths: Mapping[Place, int], most: float = MOST
) -> list[Array]:
    """Inputs with the open axes of those lengths, else of 1; zeros where they are no real numbers.

    Raises
    ------
    TooLargeError
        They would take more than `most` bytes.
    """
    made = []
    for number, (shape, dtype) in enumerate(_bounded(values, lengths, most)):
        rng = np.random.default_rng([number])
        real = rng.standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)
        made.append(real.astype(dtype))
    return made


def zeros(values: Iterable[onnx.Value], lengths: Mapping[Place, int]) -> list[Array]:
    """Inputs of nothing but zeros; raises as `noise`."""
    return [np.zeros(shape, dtype) for shape, dtype in _bounded(values, lengths, MOST)]


def check_size(what: str, shape: Iterable[Any], nbytes: int, most: float = MOST) -> None:
    """TooLargeError unless what takes `nbytes` may be made to try a graph out."""
    if nbytes > most:
        said = ", ".join("?" if n is None else str(n)[:40] for n in shape)
        raise TooLargeError(
            f"{what} of ({said}) takes {nbytes >> 20} MiB, expected at most {int(most) >> 20} MiB"
        )


def _bounded(
    values: Iterable[onnx.Value], lengths: Mapping[Place, int], most: float
) -> Iterator[tuple[tuple[int, ...], np.dtype[Any]]]:
    """The shapes and dtypes; all are checked before the first is given."""
    found, total = [], 0
    for value in values:
        shape = tuple(
            lengths.get((value.name, i), n if isinstance(n, int) else 1)
            for i, n in enumerate(value.shape or ())
        )
        dtype = element_dtype(value)
        total += math.prod(shape) * max(dtype.itemsize, 8)  # of what the noise is made in
        check_size(f"input {value.name[:80]!r}", shape, total, most)
        found.append((shape, dtype))
    yield from found
