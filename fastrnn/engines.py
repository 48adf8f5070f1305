"""Where `engine=` is chosen, and what this machine offers.

An engine packs the weights of a stack and runs it. Engines are imported when first used: the
BLAS engine is what loads SciPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import Stack
from fastrnn.weights import StackConfig

ENGINES = ("auto", "simd", "blas")


def available_engines(dtype: npt.DTypeLike) -> tuple[str, ...]:
    """Return the engines built that compute in `dtype`, the one that "auto" takes first."""
    return ("blas",)


def choose_engine(engine: str, dtype: npt.DTypeLike) -> str:
    """Return the engine that `engine` means for `dtype`: "auto" takes the fastest one built.

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


def pack(
    engine: str,
    config: StackConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    reset_after: bool = True,
    nonlinearity: str = "tanh",
) -> Stack:
    """Pack `weights`, named and shaped as `config.shapes()` says, for a chosen engine."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    layers = [
        tuple(weights.get(f"{name}{suffix}") for name in names) for suffix in config.suffixes()
    ]
    return Stack(
        import_module(f"fastrnn._kernels.{engine}").ENGINE,
        config.cell,
        layers,
        bidirectional=config.bidirectional,
        reset_after=reset_after,
        relu=nonlinearity == "relu",
    )


def check_dtype(dtype: npt.DTypeLike, what: str) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype, or raise ValueError unless it is float32 or float64."""
    checked = np.dtype(dtype)
    if checked not in (np.float32, np.float64):
        raise ValueError(f"{what}: dtype={checked.name}, expected float32 or float64")
    return checked
