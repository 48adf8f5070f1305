"""Parameters that are kept in parts: what the parts are called, and how they make the parameter.

Torch's transforms replace a parameter of a module by others, from which it is computed before each
forward pass: W is then W_g and W_v under weight_norm, W_orig and W_mask once pruned, and so on; in
the newer form the parts are under parametrizations.W. The forms here are those that have one
meaning in eval mode. Sums and norms are made in float64 and rounded once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.layers.compact import SCALE, scaled
from fastrnn.layers.values import dtype_of, to_array

Array = npt.NDArray[Any]

_PARAMETER = r"(?:weight|bias)_(?:ih|hh)(?:_l[0-9]+(?:_reverse)?)?|weight_hr_l[0-9]+(?:_reverse)?"
_PLAIN = rf"(?P<plain>{_PARAMETER})(?P<suffix>_g|_v|_u|_orig|_mask|_raw|_scale)?"
_PARAMETRIZED = (
    rf"parametrizations\.(?P<parametrized>{_PARAMETER})\.(?P<part>original[01]?|0\._[uv])"
)
# Of torch's dynamically quantized modules: a cell's, and those of one layer and direction. The last
# index says weight or bias; the latter has biases of its own, beside those packed with the weights.
# TorchScript has the same objects without a tuple around their state.
_PACKED = (
    r"_packed_weight_(?P<cell>ih|hh)\.state\.(?:0\.)?(?P<cell_part>[01])"
    r"|_all_weight_values\.(?P<index>[0-9]{1,6})\.param\.state\.(?:0\.)?"
    r"(?:4\.(?P<layer>[01])\.state\.(?:0\.)?(?P<layer_part>[01])|1\.(?P<bias>[01]))"
)
_NAME = re.compile(rf"(?:(?P<prefix>.*)\.)?(?:{_PLAIN}|{_PARAMETRIZED}|{_PACKED})", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """What a tensor's name says: under `prefix` it is `part` of `parameter`; "" is all of it.

    Parameters of a module's packed cells end in "_#K", K being the index of the cell.
    """

    prefix: str
    parameter: str
    part: str = ""


def parse(name: str) -> Part | None:
    """What `name` says; None if it is no name of a recurrent parameter or of a part of one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    prefix = match["prefix"] or ""
    if match["cell"]:
        return Part(prefix, f"{_KINDS[match['cell_part']]}_{match['cell']}", "packed")
    if match["index"]:
        of, suffix = match["layer"] or match["bias"], f"_#{int(match['index'])}"
        if match["bias"]:
            return Part(prefix, f"bias_{_OF[of]}{suffix}", "unpacked")
        return Part(prefix, f"{_KINDS[match['layer_part']]}_{_OF[of]}{suffix}", "packed")
    parameter = match["plain"] or match["parametrized"]
    return Part(prefix, parameter, match["suffix"] or match["part"] or "")


_KINDS = {"0": "weight", "1": "bias"}
_OF = {"0": "ih", "1": "hh"}


@dataclass(frozen=True)
class Form:
    """A parameter in parts. `make` is given their arrays in this order; the first has its shape."""

    kind: str
    parts: tuple[str, ...]
    make: Callable[..., Array]
    kinds: str = "f"  # of the first part's dtype


def _weight_norm(v: Array, g: Array) -> Array:
    """G * v / |v|, the norm over every axis but one, or over all (arXiv:1602.07868)."""
    if g.shape == ():
        axes = tuple(range(v.ndim))
    else:
        kept = [
            axis
            for axis in range(v.ndim)
            if g.shape == tuple(n if i == axis else 1 for i, n in enumerate(v.shape))
        ]
        if not kept:
            raise ValueError(f"g of shape {g.shape} does not fit v of shape {v.shape}")
        axes = tuple(axis for axis in range(v.ndim) if axis != kept[0])
    norm = np.sqrt(np.square(v, dtype=np.float64).sum(axes, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        made: Array = g * (v / norm)
    return made


def _spectral_norm(weight: Array, u: Array, v: Array) -> Array:
    """W / (u' W v), u and v as the last power iteration left them (arXiv:1802.05957)."""
    if weight.ndim != 2 or {u.shape, v.shape} != {(n,) for n in weight.shape}:
        raise ValueError(f"u {u.shape} and v {v.shape} do not fit the shape {weight.shape}")
    matrix = weight.astype(np.float64)
    # Along the other dimension, dim=1, u and v change places. Of a square matrix their lengths do
    # not say it; but training left u nearly W v, up to its length, or then W' v.
    crossed = u.shape != weight.shape[:1]
    if weight.shape[0] == weight.shape[1]:
        crossed = _aligned(u, matrix.T @ v) > 0.99 > _aligned(u, matrix @ v)
    if crossed:
        matrix = matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        made: Array = weight / (u @ (matrix @ v))
    return made


def _aligned(a: Array, b: Array) -> float:
    return abs(float(a @ b)) / max(float(np.linalg.norm(b)), np.finfo(np.float64).tiny)


def _pruned(weight: Array, mask: Array) -> Array:
    if mask.shape != weight.shape:
        raise ValueError(f"a mask of shape {mask.shape} does not fit the shape {weight.shape}")
    return weight * mask


def _masked(weight: Array, mask: Array) -> Array:
    if not np.isin(mask, (0, 1)).all():
        raise ValueError("a mask holds other values than 0 and 1")
    return _pruned(weight, mask)


def _first(value: Array, *_: Array) -> Array:
    return value


def _both(value: Array, again: Array) -> Array:
    if not np.array_equal(value, again):
        raise ValueError("expected the same values twice")
    return value


FORMS = (
    Form("weight_norm", ("_v", "_g"), _weight_norm),
    Form("weight_norm", ("original1", "original0"), _weight_norm),
    Form("spectral_norm", ("_orig", "_u", "_v"), _spectral_norm),
    Form("spectral_norm", ("original", "0._u", "0._v"), _spectral_norm),
    Form("pruning", ("_orig", "_mask"), _pruned),
    Form("mask", ("", "_mask"), _masked),
    Form("weight drop", ("_raw",), _first),
    # The copy that the last training step dropped out is no part of the model.
    Form("weight drop", ("_raw", ""), _first),
    Form("compact", ("", SCALE), scaled, "i"),
    Form("dynamic quantization", ("packed",), _first),
    Form("dynamic quantization", ("packed", "unpacked"), _both),
    # A cell has biases of its own, too, which it never uses.
    Form("dynamic quantization", ("packed", ""), _first),
)
_BY_PARTS = {frozenset(form.parts): form for form in FORMS}


class Folded:
    """A parameter that is made of its parts whenever its array is asked for."""

    def __init__(self, form: Form, names: Mapping[str, str], weights: Mapping[str, Any]) -> None:
        self.kind = form.kind
        self._kinds = form.kinds
        self.names = [names[part] for part in form.parts]
        self._make = form.make
        self._values = [weights[name] for name in self.names]
        self.shape = tuple(np.shape(self._values[0]))
        float64 = dtype_of(self.names[0], self._values[0]) == np.float64
        self.dtype = np.dtype(np.float64 if float64 else np.float32)

    @property
    def codes_dtype(self) -> str | None:
        """Of compact weights, the dtype of their codes."""
        return dtype_of(self.names[0], self._values[0]).name if self.kind == "compact" else None

    def parts(self) -> list[Array]:
        """The arrays that it is made of."""
        arrays: list[Array] = []
        for name, value in zip(self.names, self._values, strict=True):
            array = to_array(name, value)
            kinds = "f" if arrays else self._kinds
            if array.dtype.kind not in ("biuf" if name.endswith("_mask") else kinds):
                raise TypeError(f"{name} has dtype {array.dtype}, expected floating point")
            arrays.append(array)
        return arrays

    def array(self) -> Array:
        """Make it: an owned array, another at each call."""
        arrays = self.parts()
        try:
            made = self._make(*arrays)
        except ValueError as error:
            raise ValueError(f"{' and '.join(self.names)}: {error}") from None
        return np.array(made, self.dtype, order="C", copy=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.array() if dtype is None else self.array().astype(dtype, copy=False)


def fold(parameter: str, names: Mapping[str, str], weights: Mapping[str, Any]) -> Any:
    """The value of a parameter of which `weights` has the parts `names` (part to full name).

    Raises
    ------
    ValueError
        If these are no form that is known; it names them.
    """
    if names.keys() == {""}:
        return weights[names[""]]
    form = _BY_PARTS.get(frozenset(names))
    if form is not None and form.kinds != "f":  # a scale of floats is another form
        first = names[form.parts[0]]
        form = form if dtype_of(first, weights[first]).kind in form.kinds else None
    if form is not None:
        return Folded(form, names, weights)
    raise ValueError(
        f"{', '.join(names.values())}: no form of {parameter} that is known here"
        + _expected(names)
        + saved_plain(next(iter(names.values())))
    )


def saved_plain(name: str) -> str:
    """What to do where `name` is of a parametrization that is not known; "" where it is of none."""
    if "parametrizations." not in name:
        return ""
    return (
        "; torch.nn.utils.parametrize.remove_parametrizations(module, tensor_name) before saving "
        "leaves the parameter that it makes"
    )


def _expected(names: Mapping[str, str]) -> str:
    """What would have to be beside the parts that are there, for the forms that have them."""
    part, name = next(iter(names.items()))
    stem = name.removesuffix(part)
    missing = [
        " and ".join(stem + other for other in form.parts if other not in names)
        for form in FORMS
        if names.keys() < set(form.parts)
    ]
    return f", expected {' or '.join(missing)} with it" if missing else ""


def layer_names(
    values: Mapping[str, Any], where: str, bidirectional: bool | None = None
) -> dict[str, str]:
    """How torch's layers name the parameters of `values`: those of a cell are those of layer 0.

    Raises
    ------
    ValueError
        If some are named as a layer's and others as a cell's, or if `values` are two packed cells
        that can be two layers or two directions, and `bidirectional` does not say which.
    """
    packed = [name for name in values if "#" in name]
    layer = [name for name in values if "_l" in name]
    cell = [name for name in values if "#" not in name and "_l" not in name]
    kinds = [names for names in (cell, layer, packed) if names]
    if len(kinds) > 1:
        raise ValueError(f"{where}{kinds[0][0]} and {where}{kinds[1][0]} are not of one module")
    if cell:
        return {name: f"{name}_l0" for name in values}
    if not packed:
        return {name: name for name in values}
    directions = _directions(values, where, bidirectional)
    named = {}
    for name in values:
        stem, _, index = name.partition("#")
        layer_index, direction = divmod(int(index), directions)
        named[name] = f"{stem}l{layer_index}{'_reverse' if direction else ''}"
    return named


def _directions(values: Mapping[str, Any], where: str, bidirectional: bool | None) -> int:
    """How many directions packed cells are of: the input of layer 1 is as wide as all of h."""
    if bidirectional is not None:
        return 1 + bidirectional
    inputs = [np.shape(value) for name, value in values.items() if name.startswith("weight_ih_#")]
    states = [np.shape(value) for name, value in values.items() if name.startswith("weight_hh_#")]
    if len(inputs) < 2 or not states or any(len(shape) != 2 for shape in (*inputs, *states)):
        return 1
    hidden_size = states[0][1]
    if len(inputs) > 2:
        return 2 if inputs[2][1] == 2 * hidden_size else 1
    if inputs[1][1] != hidden_size:
        return 2
    if inputs[0][1] != hidden_size:
        return 1
    raise ValueError(
        f"{where}_all_weight_values.1 can be a second layer or the other direction, and nothing in "
        "the file says which: give it to load_state_dict of a layer that is made for it"
    )
