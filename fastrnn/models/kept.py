"""States of streams: arrays with their rows in front, and as callers see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import StateError
from fastrnn.formats import onnx
from fastrnn.models.batch import Batch, lone_shape
from fastrnn.models.inputs import element_dtype
from fastrnn.models.intake import from_file, to_file
from fastrnn.models.ops.table import Array
from fastrnn.models.trial import check_size


class StateTypes:
    """The states of one stream: names, shapes, dtypes, and where the file has the batch.

    Raises ValueError where the file leaves open an axis other than the batch's, or where the
    states of one stream are larger than any file needs (64 MiB).
    """

    def __init__(self, values: Sequence[onnx.Value], batch: Batch) -> None:
        self.names = [value.name for value in values]
        self.axes = [batch.axes[value.name] for value in values]
        self.shapes: list[tuple[int, ...]] = []
        for value, axis in zip(values, self.axes, strict=True):
            shape = lone_shape(value, axis)
            if value.shape is None or not all(isinstance(n, int) for n in shape):
                raise ValueError(
                    f"state {value.name!r} is {value.shape}, expected a number for all axes but "
                    "the batch's"
                )
            self.shapes.append(shape)
        self.dtypes = [element_dtype(value) for value in values]
        total = 0
        for name, shape, dtype in zip(self.names, self.shapes, self.dtypes, strict=True):
            total += math.prod(shape) * dtype.itemsize
            check_size(f"state {name[:80]!r}", shape, total)

    def zeros(self, rows: int) -> list[Array]:
        """The states of so many streams, (B, ...)."""
        return [
            np.zeros((rows, *shape), dtype)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        ]

    def shown(self, states: Sequence[Array], batched: bool) -> Any:
        """An array in the file's layout, or a dict of them by name."""
        made = [to_file(one, axis, batched) for one, axis in zip(states, self.axes, strict=True)]
        return made[0] if len(made) == 1 else dict(zip(self.names, made, strict=True))

    def taken(self, value: Any, rows: int | None, what: str) -> list[Array]:
        """What a caller gives as `shown` returns it, (B, ...); ValueError or TypeError."""
        if len(self.names) == 1 and not isinstance(value, Mapping):
            value = {self.names[0]: value}
        if not isinstance(value, Mapping) or set(value) != set(self.names):
            came = (
                ", ".join(map(repr, value)) if isinstance(value, Mapping) else type(value).__name__
            )
            raise ValueError(
                f"{what}: state is {came}, expected a dict of {', '.join(map(repr, self.names))}"
            )
        made = []
        for name, axis, zero in zip(self.names, self.axes, self.zeros(rows or 1), strict=True):
            array = np.asarray(value[name])
            wanted = to_file(zero, axis, rows is not None).shape
            if array.dtype.kind not in "fiub" or not np.can_cast(
                array.dtype, zero.dtype, "same_kind"
            ):
                raise TypeError(f"{what}: state {name} has dtype {array.dtype}, not {zero.dtype}")
            if array.shape != wanted:
                raise ValueError(f"{what}: state {name} is {array.shape}, expected {wanted}")
            made.append(from_file(array.astype(zero.dtype), axis, rows is not None))
        return made

    def packed(self, states: Sequence[Array]) -> bytes:
        """One stream's states (1, ...) as bytes, little-endian, in order."""
        return b"".join(
            state.astype(state.dtype.newbyteorder("<"), copy=False).tobytes() for state in states
        )

    def unpacked(self, content: bytes, what: str) -> list[Array]:
        """The reverse of `packed`; StateError for another length."""
        states = self.zeros(1)
        expected = sum(state.nbytes for state in states)
        if len(content) != expected:
            raise StateError(
                f"{what}: a saved state with {len(content)} bytes of numbers, expected {expected}"
            )
        start = 0
        for state in states:
            little = state.dtype.newbyteorder("<")
            state[...] = np.frombuffer(content, little, state.size, start).reshape(state.shape)
            start += state.nbytes
        return states


def row_numbers(rows: npt.ArrayLike | None, count: int, what: str) -> Any:
    """An index of rows of a batch; IndexError for one that there is not."""
    if rows is None:
        return slice(None)
    try:
        index = np.asarray(rows)
        if index.ndim == 0 and index.dtype.kind == "b":
            raise IndexError("one bool for all rows")
        return np.arange(count)[index]
    except (IndexError, ValueError) as error:
        raise IndexError(f"{what}: reset rows for a batch of {count}: {error}") from None
