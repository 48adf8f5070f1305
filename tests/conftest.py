"""Fixtures and strategies that the test files share."""

from __future__ import annotations

import os
import shutil
from types import ModuleType

# Before NumPy is imported: one thread each, or BLAS and torch spin against one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fastrnn.layers.engines import available_isas

settings.register_profile(
    "fastrnn", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("fastrnn")

# Every engine and every ISA of this CPU, forced: constructor options and the dtype to compute in.
ENGINES = [
    *(
        pytest.param({"engine": "simd", "isa": isa}, "float32", id=f"{isa}-float32")
        for isa in available_isas()
    ),
    *(
        pytest.param({"engine": "blas"}, dtype, id=f"blas-{dtype}")
        for dtype in ("float32", "float64")
    ),
]
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 2e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}

# 1, odd, and around the vector widths of SSE, AVX2 and AVX-512
SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40])


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """The oracle; tests that need it are skipped where it is not installed."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="module", params=["gcc", "clang"])
def compiler(request: pytest.FixtureRequest) -> str:
    """Name of a C compiler; tests are skipped for one that is not installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param}")
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
