"""How a layer computes: the options that every layer, cell and loader takes, each written once.

A new one is a key of `Options`, its default, its lines in DESCRIPTIONS, and what `decide` makes of
it in `Computation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn.layers.compact import LARGEST
from fastrnn.layers.engines import choose_engine, choose_isa
from fastrnn.layers.habits import ARGUMENTS

if TYPE_CHECKING:
    from typing_extensions import Self as Self
    from typing_extensions import Unpack as Unpack

MOST_THREADS = 1024
WEIGHT_DTYPES = ("float32", *sorted(LARGEST, key=LARGEST.__getitem__, reverse=True))


class ModelOptions(TypedDict, total=False):
    """What whole models take by keyword: how recurrent layers and products compute."""

    engine: str
    isa: str | None
    threads: int
    weight_dtype: str | None


class Options(ModelOptions, total=False):
    """What a layer's constructor takes by keyword, beside torch's own arguments."""

    dtype: npt.DTypeLike | None


class LayerOptions(Options, total=False):
    """The same, and what the tensors of a state dict do not say."""

    batch_first: bool
    reset_after: bool
    nonlinearity: str


DEFAULTS: dict[str, Any] = {
    "dtype": None,
    "engine": "auto",
    "isa": None,
    "threads": 1,
    "weight_dtype": None,
}

DESCRIPTIONS = {
    "dtype": """\
dtype : float32, float64 or None
    What is computed in and returned. None: float32; where there are weights, float64 if every
    tensor is.""",
    "engine": """\
engine : {"auto", "simd", "blas"}
    "auto" is "simd" for float32 and "blas" for float64.""",
    "isa": """\
isa : str or None
    The SIMD engine's instruction set, such as "avx2". None: FASTRNN_ISA, or the fastest here.""",
    "threads": """\
threads : int
    At most so many for one call; the SIMD engine's only. Small cells stay on one.""",
    "weight_dtype": """\
weight_dtype : "float32", "int16", "int8" or None
    What weights are stored as, the SIMD engine's only: int8 takes a quarter of the memory and its
    traffic, int16 half. Sums are exact, so that a stream depends on no other. None: as in the file,
    or else the dtype computed in.""",
}

CELL_DEFAULTS: dict[str, Any] = {"batch_first": False, "reset_after": True, "nonlinearity": "tanh"}

CELL_DESCRIPTION = """\
batch_first : bool
    As in the model: tensors do not say.
reset_after : bool
    GRU only, as in its constructor: tensors do not say.
nonlinearity : {"tanh", "relu"}
    RNN only, as in its constructor: tensors do not say."""

Documented = TypeVar("Documented", bound=Callable[..., Any])


@dataclass(frozen=True)
class Computation:
    """The options of one layer, checked and decided."""

    asked: Mapping[str, Any]  # what `decide` was given
    dtype: np.dtype[Any]
    engine: str  # "simd" or "blas"
    isa: str | None  # None on the BLAS engine, which has none
    threads: int
    weight_dtype: str  # "int8", "int16", or dtype's name

    def here(self, what: str) -> Computation:
        """Return the same on this machine, whose instruction sets may be others."""
        return decide(what, self.asked)


def decide(what: str, options: Mapping[str, Any]) -> Computation:
    """Check `options`, fill in defaults, and choose engine and instruction set.

    Raises
    ------
    TypeError
        For an option that there is not.
    ValueError
        For a value that an option does not take, or that the others or this CPU do not allow.
    """
    for name in options:
        if name in ARGUMENTS:
            raise TypeError(f"{what}: {ARGUMENTS[name]}")
        if name not in DEFAULTS:
            raise TypeError(
                f"{what}: unknown argument {name!r}, expected one of {', '.join(DEFAULTS)}"
            )
    chosen = {**DEFAULTS, **options}
    stored = check_weight_dtype(chosen["weight_dtype"], what)
    dtype = check_dtype(chosen["dtype"], what)
    if stored is not None and dtype != np.float32:
        raise ValueError(
            f"{what}: weight_dtype={stored!r}, but a layer of {dtype.name} has its weights in it"
        )
    engine = choose_engine(chosen["engine"], dtype)
    isa, threads = chosen["isa"], check_integer(what, "threads", chosen["threads"], 1)
    if isa is not None and engine != "simd":
        raise ValueError(f"{what}: isa={isa!r}, but the {engine} engine has no ISA")
    if threads > MOST_THREADS:
        raise ValueError(f"{what}: threads={threads}, expected at most {MOST_THREADS}")
    if threads > 1 and engine != "simd":
        raise ValueError(
            f"{what}: threads={threads}, but the {engine} engine leaves threads to "
            "BLAS: set OPENBLAS_NUM_THREADS"
        )
    if stored in LARGEST and engine != "simd":
        raise ValueError(
            f"{what}: weight_dtype={stored!r}, but only the SIMD engine multiplies integers"
        )
    isa = choose_isa(isa) if engine == "simd" else None
    return Computation(dict(options), dtype, engine, isa, threads, stored or dtype.name)


def check_dtype(dtype: npt.DTypeLike | None, what: str) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype, None as float32; ValueError unless it is one of the two."""
    checked = np.dtype(np.float32 if dtype is None else dtype)
    if checked not in (np.float32, np.float64):
        raise ValueError(f"{what}: dtype={dtype}, expected float32 or float64")
    return checked


def check_weight_dtype(value: Any, what: str) -> str | None:
    """Return the name of `value`, None as None; ValueError unless weights are stored so."""
    if value is None:
        return None
    try:
        name = str(np.dtype(value).name)
    except TypeError:
        name = str(value)
    if name in WEIGHT_DTYPES:
        return name
    few = "4" in name and "float" not in name and "64" not in name
    why = ": weights of 4 bits need a model that was trained for them" if few else ""
    raise ValueError(
        f"{what}: weight_dtype={value!r}, expected {', '.join(map(repr, WEIGHT_DTYPES))} or None"
        + why
    )


def check_integer(what: str, name: str, value: Any, least: int) -> int:
    """Return `value` as an int; ValueError unless it is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{what}: {name}={value!r}, expected an integer >= {least}")
    return int(value)


def takes_options(documented: Documented) -> Documented:
    """Spell `**options` out in the signature and docstring of a function or class, for `help`.

    In the docstring, a line `{options}` is replaced by what the options are.
    """
    is_class = isinstance(documented, type)
    function: Any = inspect.getattr_static(documented, "__init__") if is_class else documented
    signature = inspect.signature(function)
    annotation = str(signature.parameters["options"].annotation)
    defaults = dict(DEFAULTS)
    if "ModelOptions" in annotation:
        del defaults["dtype"]
    text = "\n".join(DESCRIPTIONS[name] for name in defaults)
    if "LayerOptions" in annotation:
        defaults, text = {**CELL_DEFAULTS, **defaults}, f"{CELL_DESCRIPTION}\n{text}"
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    spelled = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in defaults.items()
    ]
    function.__signature__ = signature.replace(parameters=[*own, *spelled])
    if "{options}" in (documented.__doc__ or ""):  # no docstrings under -OO
        before, _, after = str(documented.__doc__).partition("{options}")
        indent = before[before.rfind("\n") + 1 :]
        documented.__doc__ = before + text.replace("\n", f"\n{indent}") + after
    return documented
