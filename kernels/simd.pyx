# cython: language_level=3, autotestdict=False
"""The SIMD engine, for Python: one engine per instruction set that this CPU can run.

Packed float32 weights and fused kernels in C; simd.h is the map.
"""

from cpython.pycapsule cimport PyCapsule_New
from engine cimport FR_ENGINE_CAPSULE, fr_engine


cdef extern from "simd.h":
    ctypedef enum fr_isa:
        FR_ISA_COUNT
    fr_isa fr_isa_best()
    bint fr_isa_supported(fr_isa)
    const char *fr_isa_name(fr_isa)
    const fr_engine *fr_simd_engine(fr_isa)


# Every instruction set this build knows, slowest first.
ISAS = tuple(fr_isa_name(<fr_isa> isa).decode() for isa in range(FR_ISA_COUNT))
# The fastest one that this CPU and its operating system can run.
BEST = fr_isa_name(fr_isa_best()).decode()
# The engines of those that can be run here, by name.
ENGINES = {
    fr_isa_name(<fr_isa> isa).decode(): PyCapsule_New(
        <void *> fr_simd_engine(<fr_isa> isa), FR_ENGINE_CAPSULE, NULL)
    for isa in range(FR_ISA_COUNT) if fr_isa_supported(<fr_isa> isa)
}
