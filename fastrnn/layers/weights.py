"""What the names and shapes of a stack's parameters say about it.

Names are those of torch's layers: `weight_ih_l{k}`, `_reverse`, `weight_hr_l{k}`. Whole state dicts
are statedict's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.layers.compact import SCALE, quantised
from fastrnn.layers.folding import Folded
from fastrnn.layers.values import dtype_of, is_later, to_array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

_LAYER = re.compile(r"(?:weight|bias)_(?:ih|hh|hr)_l([0-9]+)(?:_reverse)?")


@dataclass(frozen=True)
class StackConfig:
    """One recurrent stack, in the words of torch's constructor."""

    cell: str  # "LSTM", "GRU" or "RNN"
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0

    @property
    def directions(self) -> int:
        """1, or 2 if bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of one direction's h: proj_size where there is one, else hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    def suffixes(self) -> Iterator[str]:
        """Yield `_l0`, `_l0_reverse`, `_l1`...: the order in which layers are packed."""
        for layer in range(self.num_layers):
            yield f"_l{layer}"
            if self.bidirectional:
                yield f"_l{layer}_reverse"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Torch's parameter names and their shapes, in torch's order."""
        rows = GATES[self.cell] * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for index, suffix in enumerate(self.suffixes()):
            first_layer = index < self.directions
            width = self.input_size if first_layer else self.directions * self.output_size
            shapes[f"weight_ih{suffix}"] = (rows, width)
            shapes[f"weight_hh{suffix}"] = (rows, self.output_size)
            if self.bias:
                shapes[f"bias_ih{suffix}"] = (rows,)
                shapes[f"bias_hh{suffix}"] = (rows,)
            if self.proj_size:
                shapes[f"weight_hr{suffix}"] = (self.proj_size, self.hidden_size)
        return shapes

    def __str__(self) -> str:
        options = {
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "bidirectional": (self.bidirectional, False),
            "proj_size": (self.proj_size, 0),
        }
        said = "".join(f", {k}={v}" for k, (v, default) in options.items() if v != default)
        return f"{self.cell}({self.input_size}, {self.hidden_size}{said})"


def infer_config(found: Mapping[str, Any], where: str = "") -> StackConfig:
    """Work out the stack that `found` are the parameters of, and check that it is whole.

    Names are torch's layers'; `where` is what stands before them in messages.

    Raises
    ------
    ValueError
        If a tensor is missing, left over, or has a shape that does not fit the rest.
    """
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in found:
            raise ValueError(f"{where}{name} is missing")
    shapes = {name: tuple(np.shape(value)) for name, value in found.items()}
    for name, shape in shapes.items():
        expected = 2 if name.startswith("weight") else 1
        if len(shape) != expected or 0 in shape:
            raise ValueError(
                f"{where}{name} has shape {shape}, expected {expected} dimensions, none 0"
            )
    rows, output_size = shapes["weight_hh_l0"]
    proj = "weight_hr_l0" in shapes
    projections = [name for name in shapes if name.startswith("weight_hr")]
    if projections and not proj:
        raise ValueError(
            f"{where}weight_hr_l0 is missing" + _because("weight_hr_l0", projections, where)
        )
    hidden_size = shapes["weight_hr_l0"][1] if proj else output_size
    cells = {
        gates * hidden_size: cell for cell, gates in GATES.items() if cell == "LSTM" or not proj
    }
    if rows not in cells:
        raise ValueError(
            f"{where}weight_hh_l0 has shape {shapes['weight_hh_l0']}, expected "
            + " or ".join(f"{want} rows ({cell})" for want, cell in cells.items())
        )
    if proj and output_size >= hidden_size:
        raise ValueError(
            f"{where}weight_hr_l0 has shape {shapes['weight_hr_l0']}, "
            "expected fewer rows than columns"
        )
    config = StackConfig(
        cell=cells[rows],
        input_size=shapes["weight_ih_l0"][1],
        hidden_size=hidden_size,
        num_layers=min(max(map(_layer_of, found)) + 1, len(found)),
        bias="bias_ih_l0" in shapes or "bias_hh_l0" in shapes,
        bidirectional=any(name.endswith("_reverse") for name in found),
        proj_size=output_size if proj else 0,
    )
    check_shapes(config, shapes, where)
    return config


def check_shapes(config: StackConfig, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise ValueError unless `shapes` are just the parameters of `config`."""
    expected = config.shapes()
    for name, shape in expected.items():
        if name not in shapes:
            raise ValueError(
                f"{where}{name} is missing: expected shape {shape} for {config}"
                + _because(name, shapes, where)
            )
        if shapes[name] != shape:
            raise ValueError(
                f"{where}{name} has shape {shapes[name]}, expected {shape} for {config}"
            )
    for name in shapes:
        if name not in expected:
            raise ValueError(f"{where}{name} is one too many for {config}")


def _because(missing: str, found: Iterable[str], where: str) -> str:
    """Which tensor that is there wants one that is missing: a neighbour, or the last of a kind."""
    kind, _, cell = missing.partition("_l")
    alike = [name for name in found if name.startswith(kind[:6]) and name != missing]
    for wanted in (
        [name for name in alike if name.partition("_l")[2] == cell],
        [name for name in alike if name.endswith("_reverse") and cell.endswith("_reverse")],
        sorted(alike, key=_layer_of),
    ):
        if wanted:
            return f", as {where}{wanted[-1]} is there"
    return ""


def _layer_of(name: str) -> int:
    match = _LAYER.fullmatch(name)
    return int(match[1]) if match else -1


def common_dtype(values: Mapping[str, Any]) -> np.dtype[Any]:
    """float64 if every tensor is, float32 otherwise: what a layer of these weights computes in."""
    float64 = all(dtype_of(name, value) == np.float64 for name, value in values.items())
    return np.dtype(np.float64 if float64 else np.float32)


def freeze(
    values: Mapping[str, Any], dtype: npt.DTypeLike, where: str
) -> dict[str, npt.NDArray[Any]]:
    """Private, read-only, C-contiguous copies of `values` in `dtype`.

    Raises
    ------
    TypeError
        If a value is not an array of real floating-point numbers.
    ValueError
        If a value is NaN or infinite, or becomes so in `dtype`.
    """
    return {name: _frozen(f"{where}{name}", value, dtype) for name, value in values.items()}


def check_values(values: Mapping[str, Any], dtype: npt.DTypeLike, where: str) -> None:
    """Raise as `freeze` would, and keep nothing."""
    for name, value in values.items():
        _frozen(f"{where}{name}", value, dtype)


def freeze_compact(
    values: Mapping[str, Any], weight_dtype: str, where: str
) -> dict[str, npt.NDArray[Any]]:
    """Codes and scales of the matrices among `values`, and float32 of the rest; else as `freeze`.

    Values that are such codes already are taken as they are.
    """
    frozen = {}
    for name, value in values.items():
        if not name.startswith("weight"):
            frozen[name] = _frozen(f"{where}{name}", value, np.float32)
        elif isinstance(value, Folded) and value.codes_dtype == weight_dtype:
            value.array()  # raises for codes or scales that are none
            codes, scale = value.parts()
            frozen[name] = np.ascontiguousarray(codes)
            frozen[name + SCALE] = scale.astype(np.float32)
        else:
            matrix = _frozen(f"{where}{name}", value, np.float32)
            frozen[name], frozen[name + SCALE] = quantised(matrix, weight_dtype)
    return frozen


def stored_dtype(values: Mapping[str, Any]) -> str | None:
    """The dtype of the codes, if all matrices among a stack's parameters are codes of one."""
    dtypes = {
        value.codes_dtype if isinstance(value, Folded) else None
        for name, value in values.items()
        if name.startswith("weight")
    }
    return dtypes.pop() if len(dtypes) == 1 else None


def _frozen(name: str, value: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    array = to_array(name, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating point")
    owned = is_later(value) and array.dtype == dtype and array.flags.c_contiguous
    with np.errstate(over="ignore"):
        copy = array if owned else np.array(array, dtype=dtype, order="C", copy=True)
    if not np.isfinite(copy).all():
        what = "NaN" if np.isnan(copy).any() else "infinite values"
        raise ValueError(f"{name} holds {what}, expected finite {np.dtype(dtype).name}")
    copy.flags.writeable = False
    return copy
