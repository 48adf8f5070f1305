"""What a step is given and gives: arrays in the file's layout, and the same with rows in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.formats import onnx
from fastrnn.models.batch import Batch
from fastrnn.models.inputs import element_dtype
from fastrnn.models.ops.table import Array

_KNOWN = 32  # shapes that are remembered as fitting


class Intake:
    """Checks of a step's inputs.

    Parameters
    ----------
    values : what the file says of each, in order
    batch : where their rows are
    what : begins every error message
    """

    def __init__(self, values: Sequence[onnx.Value], batch: Batch, what: str) -> None:
        self._values = {value.name: value for value in values}
        self._axes = [batch.axes[value.name] for value in values]
        self._dtypes = [element_dtype(value) for value in values]
        self._what = what
        self._known: set[Any] = set()

    def rows(self, args: Sequence[Any], named: Mapping[str, Any], rows: int | None) -> list[Array]:
        """Each input with its rows in front, (B, ...).

        Parameters
        ----------
        rows : B, or None for one row whose arrays have no batch

        Raises
        ------
        TypeError, ValueError
            An input is missing, unknown, or of a type or shape that does not fit.
        """
        given = args if len(args) == len(self._values) and not named else self._named(args, named)
        arrays = [
            x if type(x) is np.ndarray and x.dtype == dtype else self._converted(x, i)
            for i, (x, dtype) in enumerate(zip(given, self._dtypes, strict=True))
        ]
        key = (rows, *[array.shape for array in arrays])
        if key not in self._known:
            self._check(arrays, rows)
            if len(self._known) < _KNOWN:
                self._known.add(key)
        batched = rows is not None
        return [
            from_file(array, axis, batched) for array, axis in zip(arrays, self._axes, strict=True)
        ]

    def shown(self, rows: Sequence[Array], batched: bool) -> list[Array]:
        """The reverse of `rows`."""
        return [to_file(array, axis, batched) for array, axis in zip(rows, self._axes, strict=True)]

    def _named(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        names = list(self._values)
        if len(args) > len(names):
            raise TypeError(
                f"{self._what}: {len(args)} inputs given, expected {len(names)}: {', '.join(names)}"
            )
        given = dict(zip(names, args, strict=False))
        for name in named:
            if name in given or name not in self._values:
                why = "is given twice" if name in given else f"expected {', '.join(names)}"
                raise TypeError(f"{self._what}: input {name!r} {why}")
        given.update(named)
        for name in names:
            if name not in given:
                raise TypeError(
                    f"{self._what}: input {name!r} is missing, expected {', '.join(names)}"
                )
        return [given[name] for name in names]

    def _converted(self, value: Any, place: int) -> Array:
        name, dtype = list(self._values)[place], self._dtypes[place]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise TypeError(f"{self._what}: {name} is no array: {error}") from None
        if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise TypeError(f"{self._what}: {name} has dtype {array.dtype}, expected {dtype}")
        return array.astype(dtype, copy=False)

    def _check(self, arrays: Sequence[Array], rows: int | None) -> None:
        sizes: dict[str, int] = {}
        for array, value, axis in zip(arrays, self._values.values(), self._axes, strict=True):
            want = wanted_shape(value, axis, rows)
            if want is None:
                continue
            fits = array.ndim == len(want) and all(
                sizes.setdefault(n, length) == length
                if isinstance(n, str)
                else n is None or n == length
                for length, n in zip(array.shape, want, strict=True)
            )
            if not fits:
                axes = ", ".join("?" if n is None else str(n) for n in want)
                known = [f", {n} is {sizes[n]}" for n in want if isinstance(n, str) and n in sizes]
                raise ValueError(
                    f"{self._what}: {value.name} is {array.shape}, "
                    f"expected ({axes}){''.join(known)}"
                )


def wanted_shape(
    value: onnx.Value, axis: int | None, rows: int | None
) -> tuple[int | str | None, ...] | None:
    """The shape that a step takes; None: any."""
    if value.shape is None:
        return None
    shape = list(value.shape)
    if axis is None:
        return tuple(shape) if rows is None else (rows, *shape)
    shape[axis : axis + 1] = [] if rows is None else [rows]
    return tuple(shape)


class Outlet:
    """What a step returns: an array, or a dict of them by name where there are several."""

    def __init__(self, names: Sequence[str], batch: Batch) -> None:
        self.names = list(names)
        self._axes = [batch.axes[name] for name in names]

    def answer(self, made: Sequence[Array], batched: bool) -> Any:
        """Arrays (B, ...) in the file's layout."""
        return self.named(self.views(made, batched))

    def views(self, made: Sequence[Array], batched: bool) -> list[Array]:
        """Arrays (B, ...) in the file's layout, in order."""
        return [to_file(array, axis, batched) for array, axis in zip(made, self._axes, strict=True)]

    def named(self, shown: Sequence[Array]) -> Any:
        """Arrays in the file's layout, as a caller gets them."""
        return shown[0] if len(shown) == 1 else dict(zip(self.names, shown, strict=True))

    def rows(self, out: Any, batched: bool) -> Array:
        """A caller's array for the only output, with its rows in front."""
        if len(self.names) != 1:
            raise ValueError(f"out is for models with one output, this has {len(self.names)}")
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out is {type(out).__name__}, expected an array")
        return from_file(out, self._axes[0], batched)


def to_file(array: Array, axis: int | None, batched: bool) -> Array:
    """(B, ...) with its rows where the file has them; without them, the only row."""
    if not batched:
        return array[0]
    return array if not axis else np.moveaxis(array, 0, axis)


def from_file(array: Array, axis: int | None, batched: bool) -> Array:
    """The reverse of `to_file`."""
    if not batched:
        return array[None]
    return array if not axis else np.moveaxis(array, axis, 0)
