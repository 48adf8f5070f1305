"""The choice of engine and ISA: visible, forced, and refused when it cannot be."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn._kernels import simd
from fastrnn.layers.engines import available_engines, available_isas, choose_engine, choose_isa
from fastrnn.layers.weights import StackConfig


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_auto_is_simd_for_float32_and_blas_for_float64():
    assert choose_engine("auto", "float32") == "simd"
    assert choose_engine("auto", "float64") == "blas"
    assert available_engines("float32") == ("simd", "blas")
    assert fastrnn.LSTM(3, 4).engine == "simd"
    assert fastrnn.LSTM(3, 4, dtype="float64").engine == "blas"
    with pytest.raises(ValueError, match="engine='simd' does not compute in float64, expected"):
        fastrnn.LSTM(3, 4, dtype="float64", engine="simd")


def test_every_cpu_has_the_generic_isa_and_the_best_is_the_default():
    assert available_isas()[0] == "generic"
    assert available_isas()[-1] == simd.BEST
    assert set(available_isas()) <= set(simd.ISAS)
    assert fastrnn.GRU(3, 4, isa="generic").isa == "generic"
    assert fastrnn.GRU(3, 4, engine="blas").isa is None


def test_the_isas_are_those_that_linux_says_this_cpu_has():
    """A compiler's own question answered no to everything under zig: wheels ran the generic kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        pytest.skip("no /proc/cpuinfo")
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    avx2 = {"avx2", "fma", "f16c"}
    avx512 = avx2 | {"avx512f", "avx512vl", "avx512bw", "avx512dq"}
    expected = {"generic"}
    expected |= {"avx2"} if avx2 <= flags else set()
    expected |= {"avx512"} if avx512 <= flags else set()
    expected |= {"avx512vnni"} if avx512 | {"avx512_vnni"} <= flags else set()
    expected |= {"neon"} if platform.machine() in ("aarch64", "arm64") else set()
    assert set(available_isas()) == expected


def test_isa_is_forced_by_the_environment():
    code = "import fastrnn; print(fastrnn.info()['isa']['chosen'], fastrnn.LSTM(3, 4).isa)"
    for isa in available_isas():
        assert python(code, FASTRNN_ISA=isa).stdout.split() == [isa, isa]
    assert python(code, FASTRNN_ISA="").stdout.split() == [simd.BEST, simd.BEST]


def test_an_isa_that_cannot_run_is_refused():
    with pytest.raises(ValueError, match="isa='sse9': there is none of that name, expected one of"):
        fastrnn.LSTM(3, 4, isa="sse9")
    with pytest.raises(ValueError, match="isa='generic', but the blas engine has no ISA"):
        fastrnn.LSTM(3, 4, engine="blas", isa="generic")
    failed = python("import fastrnn; fastrnn.LSTM(3, 4)", FASTRNN_ISA="sse9")
    assert "ValueError: FASTRNN_ISA='sse9': there is none of that name" in failed.stderr


@pytest.mark.skipif(
    set(available_isas()) == set(simd.ISAS), reason="this CPU runs every ISA of the build"
)
def test_an_isa_beyond_this_cpu_is_refused():
    beyond = next(isa for isa in simd.ISAS if isa not in available_isas())
    with pytest.raises(ValueError, match=f"isa='{beyond}': this CPU cannot run it"):
        choose_isa(beyond)


def test_scipy_is_loaded_only_by_the_blas_engine():
    code = """
import sys, numpy, fastrnn
weights = {k: numpy.zeros(s) for k, s in fastrnn.layers.weights.StackConfig("GRU", 3, 4).shapes().items()}
fastrnn.GRU.from_state_dict(weights, dtype="float32")(numpy.zeros((2, 3)))
print("scipy" in sys.modules)
fastrnn.GRU.from_state_dict(weights, engine="blas")
print("scipy" in sys.modules)
"""
    assert python(code).stdout.split() == ["False", "True"]


WITHOUT_SCIPY = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "scipy":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import numpy, fastrnn
"""


def test_without_scipy_the_simd_engine_runs():
    code = """
weights = {k: numpy.ones(s, "f") for k, s in fastrnn.layers.weights.StackConfig("GRU", 3, 4).shapes().items()}
layer = fastrnn.GRU.from_state_dict(weights)
print(layer.engine, layer(numpy.ones((2, 3), "f"))[0].shape, layer.stream().step(numpy.ones(3, "f")).shape)
from fastrnn.cli import main
main(["info"])
main(["demo", "--json"])
"""
    done = python(WITHOUT_SCIPY + code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("simd (2, 4) (4,)")
    assert re.search(r"^ *scipy +not installed$", done.stdout, re.M)
    assert re.search(r"^ *blas +not installed$", done.stdout, re.M)


def test_without_scipy_info_lists_no_engine_that_needs_it():
    code = "found = fastrnn.info(); print(found['engines'], found['scipy'], found['blas'])"
    done = python(WITHOUT_SCIPY + code)
    assert done.stdout.strip() == "{'float32': ['simd'], 'float64': []} None None", done.stderr


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("fastrnn.GRU.from_state_dict(weights, dtype='float64')", "engine='blas', which alone"),
        ("fastrnn.GRU.from_state_dict(weights, engine='blas')", "engine='blas', which alone"),
        (
            "from fastrnn.models.ops.elementwise import erf; erf(numpy.ones(2, 'f'))",
            "the operator Erf needs SciPy",
        ),
    ],
)
def test_what_needs_scipy_says_so_in_a_sentence(code, what):
    weights = """
weights = {k: numpy.ones(s) for k, s in fastrnn.layers.weights.StackConfig("GRU", 3, 4).shapes().items()}
"""
    failed = python(WITHOUT_SCIPY + weights + code)
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: {what}")
    assert last.endswith("needs SciPy, which is not installed: pip install scipy")


def test_the_source_tree_without_its_core_says_so(tmp_path):
    import shutil
    from pathlib import Path

    shutil.copytree(
        Path(fastrnn.__file__).parent,
        tmp_path / "fastrnn",
        ignore=shutil.ignore_patterns("_kernels"),
    )
    failed = python(
        f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
sys.path = [{str(tmp_path)!r}] + [p for p in sys.path if "site-packages" not in p]
import fastrnn
"""
    )
    assert (
        "ImportError: fastrnn: this is the source tree, without its compiled core" in failed.stderr
    )


def test_engines_agree(rng):
    config = StackConfig("GRU", 20, 70, num_layers=2, bidirectional=True)
    weights = reference.random_weights(config, rng)
    x = rng.standard_normal((60, 7, 20)).astype(np.float32)
    blas, _ = fastrnn.GRU.from_state_dict(weights, engine="blas")(x)
    for isa in available_isas():
        y, _ = fastrnn.GRU.from_state_dict(weights, isa=isa)(x)
        np.testing.assert_allclose(y, blas, rtol=0, atol=3e-6)
