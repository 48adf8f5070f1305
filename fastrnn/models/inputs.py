"""What a model takes and gives, and the checks of what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import onnx
from fastrnn.formats.source import shown
from fastrnn.models.graph import Graph
from fastrnn.models.ops.elements import DTYPES_BY_NAME
from fastrnn.models.ops.table import Array


def element_dtype(value: onnx.Value) -> np.dtype[Any]:
    """The dtype of an input or output; FormatError where it is no tensor of a type NumPy has."""
    if value.kind != "tensor" or value.element is None:
        kind = "of no known type" if value.kind == "tensor" else f"a {value.kind}"
        raise FormatError(f"{value.name[:80]!r} is {kind}, expected a tensor")
    try:
        return DTYPES_BY_NAME[value.element]
    except KeyError:
        raise FormatError(
            f"{value.name[:80]!r} has the element type {value.element}, which NumPy lacks"
        ) from None


Shapes = Mapping[str, Sequence[int | str | None]]


def with_shapes(graph: Graph, shapes: Shapes) -> Graph:
    """A graph that says more of its inputs' shapes; ValueError where the file says otherwise."""
    values = {value.name: value for value in graph.inputs}
    for name, said in shapes.items():
        if name not in values:
            raise ValueError(
                f"load_model: shapes has {shown(name)}, expected one of {', '.join(values)}"
            )
        shape = tuple(said)
        own = values[name].shape
        if own is None:
            own = (None,) * len(shape)
        if len(own) != len(shape) or any(
            isinstance(n, int) and new not in (n, None) for n, new in zip(own, shape, strict=True)
        ):
            raise ValueError(f"load_model: shapes of {name!r} is {shape}, in the file {own}")
        more = tuple(n if new is None else new for n, new in zip(own, shape, strict=True))
        values[name] = replace(values[name], shape=more)
    return replace(graph, inputs=tuple(values.values()))


def fixed_arrays(graph: Graph, fixed: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of inputs that the caller fixes; ValueError for one that there is not."""
    inputs = {value.name: value for value in graph.inputs}
    made = {}
    for name, value in fixed.items():
        if name not in inputs:
            raise ValueError(
                f"load_model: fixed has {shown(name)}, expected one of {', '.join(inputs)}"
            )
        array = np.asarray(value, element_dtype(inputs[name]))
        shape = inputs[name].shape
        if (
            shape is not None
            and array.size == 1
            and all(n in (1, None) or isinstance(n, str) for n in shape)
        ):
            array = array.reshape((1,) * len(shape))
        made[name] = array
    return made


class Signature:
    """The inputs and outputs of a graph, and how a caller's arrays become the former."""

    def __init__(self, graph: Graph) -> None:
        self.inputs = {value.name: value for value in graph.inputs}
        self.outputs = {name: graph.declared[name] for name in graph.outputs}
        self._names = tuple(self.inputs)
        self._dtypes = {name: element_dtype(value) for name, value in self.inputs.items()}

    def ready(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, list[Array]]:
        """The shapes and the inputs where they need no conversion; otherwise None and nothing.

        Shapes that a model has run before need no further check.
        """
        if len(args) + len(named) != len(self._names):
            return None, []
        if named:
            try:
                args = [*args, *(named[name] for name in self._names[len(args) :])]
            except KeyError:
                return None, []
        for value, dtype in zip(args, self._dtypes.values(), strict=True):
            if type(value) is not np.ndarray or value.dtype != dtype:
                return None, []
        return tuple([value.shape for value in args]), list(args)

    def arrays(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Array]:
        """The inputs in the file's order; raises as `Model` says."""
        names = list(self.inputs)
        if len(args) > len(names):
            raise TypeError(
                f"Model: {len(args)} inputs given, expected {len(names)}: {', '.join(names)}"
            )
        given = dict(zip(names, args, strict=False))
        for name in named:
            if name in given or name not in self.inputs:
                what = "is given twice" if name in given else f"expected {', '.join(names)}"
                raise TypeError(f"Model: input {name!r} {what}")
        given.update(named)
        missing = [name for name in names if name not in given]
        if missing:
            raise TypeError(f"Model: input {missing[0]!r} is missing, expected {', '.join(names)}")
        sizes: dict[str, int] = {}
        return [self._array(name, given[name], sizes) for name in names]

    def _array(self, name: str, value: Any, sizes: dict[str, int]) -> Array:
        dtype = self._dtypes[name]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise TypeError(f"Model: {name} is no array: {error}") from None
        if array.dtype != dtype:
            if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
                raise TypeError(f"Model: {name} has dtype {array.dtype}, expected {dtype}")
            array = array.astype(dtype)
        shape = self.inputs[name].shape
        if shape is not None:
            fits = array.ndim == len(shape) and all(
                _fits(length, want, sizes) for length, want in zip(array.shape, shape, strict=True)
            )
            if not fits:
                known = {
                    axis: sizes[axis] for axis in shape if isinstance(axis, str) and axis in sizes
                }
                more = "".join(f", {axis} is {length}" for axis, length in known.items())
                want = ", ".join("?" if n is None else str(n) for n in shape)
                raise ValueError(f"Model: {name} is {array.shape}, expected ({want}){more}")
        return array


def _fits(length: int, want: int | str | None, sizes: dict[str, int]) -> bool:
    if isinstance(want, str):
        return sizes.setdefault(want, length) == length
    return want is None or want == length
