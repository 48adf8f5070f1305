"""What torch's state-dict keys and tensor shapes say about a recurrent stack.

Keys are torch's (`weight_ih_l{k}`, `_reverse`, `weight_hr_l{k}`; the cells' keys without `_l{k}`),
under a prefix such as `encoder.lstm`. Nothing here reads files or packs weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

_PARAMETER = re.compile(
    r"(?:(?P<prefix>.*)\.)?(?:weight|bias)_(?:ih|hh|hr)(?:_l(?P<layer>\d+)(?:_reverse)?)?"
)


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


def stack_parameters(weights: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the recurrent parameters under `prefix`, named as torch's layers name them.

    A cell's names (`weight_ih`) become layer 0's (`weight_ih_l0`).
    """
    prefix = prefix.rstrip(".")
    found = {}
    for key, value in weights.items():
        match = _PARAMETER.fullmatch(key) if isinstance(key, str) else None
        if match and (match["prefix"] or "") == prefix:
            name = key[len(prefix) + 1 :] if prefix else key
            found[name if match["layer"] is not None else f"{name}_l0"] = value
    return found


def stack_prefixes(weights: Mapping[str, Any]) -> list[str]:
    """Return the prefixes under which `weights` holds recurrent parameters, in order."""
    matches = (_PARAMETER.fullmatch(key) for key in weights if isinstance(key, str))
    return list(dict.fromkeys(match["prefix"] or "" for match in matches if match))


def resolve_prefix(weights: Mapping[str, Any], prefix: str) -> str:
    """Return the full prefix of the stack that `prefix` means.

    That is `prefix` itself, or the only stack whose full name ends in it: "lstm" means
    "encoder.lstm", and "" the only stack there is.

    Raises
    ------
    TypeError
        If `weights` is not a mapping or `prefix` not a str.
    ValueError
        If it means none, or more than one.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"weights is {type(weights).__name__}, expected a mapping of names to arrays; "
            "fastrnn.load(path) reads a file, module.state_dict() is a module's"
        )
    if not isinstance(prefix, str):
        raise TypeError(f"prefix is {type(prefix).__name__}, expected a str")
    prefixes = stack_prefixes(weights)
    prefix = prefix.rstrip(".")
    if prefix in prefixes:
        return prefix
    if not prefixes:
        raise ValueError(
            f"no recurrent stack (weight_ih_l0, weight_hh_l0...) among {len(weights)} tensors: "
            + _some(weights)
        )
    chosen = [full for full in prefixes if not prefix or full.endswith(f".{prefix}")]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen and prefixes == [""]:
        raise ValueError(
            f"no recurrent stack under prefix {prefix!r}: there is one, and it has no prefix"
        )
    if not chosen:
        raise ValueError(
            f"no recurrent stack under prefix {prefix!r}, expected one of "
            + ", ".join(map(repr, prefixes))
        )
    raise ValueError(
        f"{len(chosen)} recurrent stacks, say which by its prefix: " + ", ".join(map(repr, chosen))
    )


def _some(weights: Mapping[str, Any], most: int = 8) -> str:
    listed = ", ".join(f"{key} {np.shape(value)}" for key, value in list(weights.items())[:most])
    return listed + (", ..." if len(weights) > most else "")


def infer_config(weights: Mapping[str, Any], prefix: str = "") -> StackConfig:
    """Work out the stack under `prefix` from names and shapes, and check that it is whole.

    Raises
    ------
    ValueError
        If there is none, a tensor is missing, left over, or has a shape that does not fit the rest.
    """
    found = stack_parameters(weights, prefix)
    where = f"{prefix.rstrip('.')}." if prefix else ""
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in found:
            others = [repr(p) for p in stack_prefixes(weights) if p != prefix.rstrip(".")]
            there = f"; recurrent weights are under {', '.join(others)}" if others else ""
            raise ValueError(f"{where}{name} is missing{there}")
    shapes = {name: tuple(np.shape(value)) for name, value in found.items()}
    for name, shape in shapes.items():
        expected = 2 if name.startswith("weight") else 1
        if len(shape) != expected or 0 in shape:
            raise ValueError(
                f"{where}{name} has shape {shape}, expected {expected} dimensions, none 0"
            )
    rows, output_size = shapes["weight_hh_l0"]
    proj = "weight_hr_l0" in shapes
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
    layers = [int(m["layer"]) for m in map(_PARAMETER.fullmatch, found) if m]
    config = StackConfig(
        cell=cells[rows],
        input_size=shapes["weight_ih_l0"][1],
        hidden_size=hidden_size,
        num_layers=min(max(layers) + 1, len(found)),
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
            raise ValueError(f"{where}{name} is missing: expected shape {shape} for {config}")
        if shapes[name] != shape:
            raise ValueError(
                f"{where}{name} has shape {shapes[name]}, expected {shape} for {config}"
            )
    for name in shapes:
        if name not in expected:
            raise ValueError(f"{where}{name} is one too many for {config}")


def common_dtype(values: Mapping[str, Any]) -> np.dtype[Any]:
    """float64 if every tensor is, float32 otherwise: what a layer of these weights computes in."""
    float64 = all(_array(name, value).dtype == np.float64 for name, value in values.items())
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
    frozen = {}
    for name, value in values.items():
        array = _array(f"{where}{name}", value)
        if array.dtype.kind != "f":
            raise TypeError(f"{where}{name} has dtype {array.dtype}, expected floating point")
        with np.errstate(over="ignore"):
            copy = np.array(array, dtype=dtype, order="C", copy=True)
        if not np.isfinite(copy).all():
            what = "NaN" if np.isnan(copy).any() else "infinite values"
            raise ValueError(f"{where}{name} holds {what}, expected finite {np.dtype(dtype).name}")
        copy.flags.writeable = False
        frozen[name] = copy
    return frozen


def _array(name: str, value: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(_off_torch(value))
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, or torch's refusals
        raise TypeError(f"{name} is {type(value).__name__}, expected an array: {error}") from None


def _off_torch(value: Any) -> Any:
    """A torch tensor without its gradient, on the CPU, bfloat16 as float32; others as they are."""
    if not callable(getattr(value, "detach", None)):
        return value
    value = value.detach().cpu()
    return value.float() if str(value.dtype) == "torch.bfloat16" else value
