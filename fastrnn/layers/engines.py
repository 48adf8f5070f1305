"""Where `engine=` and `isa=` are chosen.

An engine packs the weights of a stack and runs it. The SIMD engine comes in one form for each
instruction set (ISA). FASTRNN_ISA, read from the environment at import, chooses for layers that do
not say; if it cannot be had, the first of them refuses. The BLAS engine is imported when first
used: it is what loads SciPy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn._kernels import simd
from fastrnn._kernels.core import Stack
from fastrnn.errors import without_scipy
from fastrnn.layers.compact import SCALE
from fastrnn.layers.weights import StackConfig

ENGINES = ("auto", "simd", "blas")
FORCED_ISA = os.environ.get("FASTRNN_ISA")


def available_engines(dtype: npt.DTypeLike) -> tuple[str, ...]:
    """Return the engines that compute in `dtype`, the one that "auto" takes first."""
    return ("simd", "blas") if np.dtype(dtype) == np.float32 else ("blas",)


def available_isas() -> tuple[str, ...]:
    """Return the instruction sets that this CPU and its operating system can run, slowest first."""
    return tuple(simd.ENGINES)


def choose_engine(engine: str, dtype: npt.DTypeLike) -> str:
    """Return the engine that `engine` means for `dtype`: "auto" takes the fastest one.

    Raises
    ------
    ValueError
        For an unknown engine, or one that does not compute in `dtype`.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r}, expected one of {', '.join(map(repr, ENGINES))}")
    available = available_engines(dtype)
    if engine != "auto" and engine not in available:
        raise ValueError(
            f"engine={engine!r} does not compute in {np.dtype(dtype).name}, expected 'auto' or "
            + ", ".join(map(repr, available))
        )
    return available[0] if engine == "auto" else engine


def choose_isa(isa: str | None) -> str:
    """Return the instruction set that `isa` means: None takes FASTRNN_ISA, or else the fastest.

    Raises
    ------
    ValueError
        For one that is unknown, or that this CPU cannot run.
    """
    chosen, what = (isa, "isa") if isa is not None else (FORCED_ISA or simd.BEST, "FASTRNN_ISA")
    if chosen not in simd.ENGINES:
        known = "this CPU cannot run it" if chosen in simd.ISAS else "there is none of that name"
        raise ValueError(
            f"{what}={chosen!r}: {known}, expected one of " + ", ".join(map(repr, simd.ENGINES))
        )
    return chosen


def _blas_capsule() -> object:
    try:
        from fastrnn._kernels.blas import ENGINE
    except ModuleNotFoundError as error:
        raise without_scipy("engine='blas', which alone computes in float64,") from error
    return ENGINE


def parameter_names(suffix: str) -> tuple[str, ...]:
    """The names of a layer and direction's parameters, in the order that `Stack` takes them."""
    matrices = [f"weight_{kind}{suffix}" for kind in ("ih", "hh", "hr")]
    biases = [f"bias_{kind}{suffix}" for kind in ("ih", "hh")]
    return (*matrices[:2], *biases, matrices[2], *(name + SCALE for name in matrices))


def unpack(stack: Stack, config: StackConfig) -> dict[str, npt.NDArray[Any]]:
    """The parameters that the SIMD engine packed, in torch's order, scales behind their codes."""
    packed: dict[str, npt.NDArray[Any] | None] = {}
    for index, suffix in enumerate(config.suffixes()):
        packed.update(zip(parameter_names(suffix), stack.unpack(index), strict=True))
    names = (part for name in config.shapes() for part in (name, name + SCALE))
    return {name: array for name in names if (array := packed.get(name)) is not None}


def pack(
    isa: str | None,
    config: StackConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    threads: int = 1,
    reset_after: bool = True,
    nonlinearity: str = "tanh",
) -> Stack:
    """Pack `weights`, named and shaped as `config.shapes()` says, codes with their scales.

    For the SIMD engine with `isa`, or for the BLAS engine if that is None.
    """
    capsule = simd.ENGINES[isa] if isa is not None else _blas_capsule()
    layers = [tuple(map(weights.get, parameter_names(suffix))) for suffix in config.suffixes()]
    return Stack(
        capsule,
        config.cell,
        layers,
        bidirectional=config.bidirectional,
        reset_after=reset_after,
        relu=nonlinearity == "relu",
        threads=threads,
    )
