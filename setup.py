"""Build of the compiled core: `kernels/` becomes the package `fastrnn._kernels`.

Everything else is in pyproject.toml. The .pyx files are listed as they are, without cythonize():
setuptools hands them to Cython at build time, and the source distribution carries them.
"""

import os
import shutil
import sys
from collections.abc import Callable
from glob import glob
from importlib.util import find_spec

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No contraction: the same line must give the same bits in every copy of it; FMAs are written out.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-g0"]
FLAGS += ["-Werror=implicit-function-declaration"]  # or a misspelt name shows at import only
ISAS = ["generic", "avx2", "avx512", "avx512vnni", "neon"]
LINK = ["-Wl,-s"] if sys.platform == "linux" else []  # symbols that nobody asks for: a tenth of it
CYTHON = {"cython_c_in_temp": True, "cython_include_dirs": ["kernels"]}
HEADERS = sorted([*glob("kernels/*.h"), "fastrnn/include/fastrnn.h"])


def extension(name: str, *sources: str) -> Extension:
    # These check and call: an eighth less of them, and no slower.
    level = ["-O2"] if name in ("core", "stepper", "product") else []
    return Extension(
        f"fastrnn._kernels.{name}",
        sources=[f"kernels/{source}" for source in (f"{name}.pyx", *sources)],
        depends=HEADERS,
        include_dirs=["kernels", "fastrnn/include", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=[*FLAGS, *level],
        extra_link_args=LINK,
    )


def needing_a_compiler(build: Callable[[build_ext], None]) -> Callable[[build_ext], None]:
    def build_extensions(self: build_ext) -> None:
        """Say what is missing, and how to get it, before the first file fails for lack of it."""
        compiler = getattr(self.compiler, "compiler", None)  # Windows' has none
        headers = [*self.include_dirs, *self.compiler.include_dirs]
        missing = None
        if compiler and not shutil.which(compiler[0]):
            missing = f"a C compiler ({compiler[0]} is not on PATH)"
        elif "CFLAGS" not in os.environ and not any(
            os.path.exists(os.path.join(folder, "Python.h")) for folder in headers
        ):
            missing = "Python's headers (Python.h)"
        if missing:
            sys.exit(
                f"fastrnn is compiled, which needs {missing}: on Debian "
                "`apt install gcc python3-dev`, on Fedora `dnf install gcc python3-devel`, on "
                "Alpine `apk add gcc musl-dev python3-dev`, on macOS `xcode-select --install`."
            )
        build(self)

    return build_extensions


# Not a class of its own: an editable install then writes what Cython makes into kernels/.
build_ext.build_extensions = needing_a_compiler(build_ext.build_extensions)

setup(
    ext_modules=[
        extension("core"),
        extension("stepper"),
        extension("pool", "slots.c"),
        extension("request"),
        extension("product"),
        extension("codes"),
        extension("blas", "gates.c"),
        extension("simd", "simd_dispatch.c", "cpu.c", "team.c", *(f"simd_{isa}.c" for isa in ISAS)),
    ],
    options={"build_ext": CYTHON} if find_spec("Cython") else {},
)
