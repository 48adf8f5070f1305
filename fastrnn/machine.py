"""`info`: what this installation and this machine offer, as data and in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.layers.engines import available_engines, available_isas, choose_isa
from fastrnn.layers.options import WEIGHT_DTYPES
from fastrnn.version import __version__


def info() -> dict[str, Any]:
    """Describe versions, CPU, engines and BLAS, as plain data.

    Loads SciPy, if it is installed, to ask which BLAS it has.

    Returns
    -------
    dict
        "version", "python", "numpy", "scipy", "platform", "cpu" (its name), "cores" (that this
        process may use), "engines" (per dtype, the one that "auto" takes first), "weight_dtypes"
        (what the SIMD engine stores weights as), "isa" (of it: "chosen" and "available"),
        "blas" (name, version, and "threads", which its library's environment variable sets).
        Without SciPy "scipy" and "blas" are None, and no dtype has the engine "blas".

    Examples
    --------
    >>> fastrnn.info()["isa"]["available"]
    ['generic', ...]
    """
    scipy, blas = _scipy()
    cores = _cores()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": cores,
        "engines": {
            dtype: [e for e in available_engines(np.dtype(dtype)) if scipy or e != "blas"]
            for dtype in ("float32", "float64")
        },
        "weight_dtypes": list(WEIGHT_DTYPES),
        "isa": {"chosen": choose_isa(None), "available": list(available_isas())},
        "blas": blas and {**blas, "threads": _blas_threads() or cores},
    }


def in_words(value: object) -> str:
    """Return a value of `info` as a line of text."""
    if value is None:
        return "not installed"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {in_words(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(in_words, value))
    return str(value)


def _scipy() -> tuple[str | None, dict[str, str] | None]:
    """Return the version of SciPy and the name and version of its BLAS, or None where it is not."""
    try:
        import scipy
    except ImportError:
        return None, None
    blas = scipy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return scipy.__version__, {key: blas.get(key, "unknown") for key in ("name", "version")}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _blas_threads() -> int | None:
    """Threads that the environment allows BLAS, or None if it does not say."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    return None
