# cython: language_level=3, autotestdict=False
# cython: freethreading_compatible=True
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
    ctypedef struct fr_probe:
        double (*multiply_adds)(size_t) noexcept nogil
        double (*multiply_adds_int8)(size_t) noexcept nogil
        void (*read)(const float *, size_t, int, size_t) noexcept nogil
    size_t PROBE_FLOATS
    const fr_probe *fr_simd_probe(fr_isa)


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


cdef const fr_probe *probe_of(str isa) except NULL:
    if isa not in ENGINES:
        raise ValueError(f"isa={isa!r}, expected one of " + ", ".join(map(repr, ENGINES)))
    return fr_simd_probe(<fr_isa> <int> ISAS.index(isa))


def multiply_adds(str isa, size_t rounds, str weights="float32"):
    """Multiply and add in registers, `rounds` times; return the number of operations.

    Of floats, or of weights of "int8" with what rows are encoded as.
    """
    cdef const fr_probe *probe = probe_of(isa)
    cdef double operations
    cdef bint integers = weights == "int8"
    if not integers and weights != "float32":
        raise ValueError(f"weights={weights!r}, expected 'float32' or 'int8'")
    with nogil:
        operations = (probe.multiply_adds_int8 if integers else probe.multiply_adds)(rounds)
    return operations


def read_memory(str isa, const float[::1] memory, int streams=1, size_t repeats=1):
    """Read all of `memory`, `repeats` times, as one stream or as 4 side by side.

    Aligned to 64 bytes; its length is a multiple of 128.
    """
    cdef const fr_probe *probe = probe_of(isa)
    cdef size_t n = memory.shape[0]
    if n == 0 or n % PROBE_FLOATS or (<size_t> &memory[0]) % 64:
        raise ValueError(f"memory has {n} floats, expected a multiple of 128, aligned to 64 bytes")
    if streams != 1 and streams != 4:
        raise ValueError(f"streams={streams}, expected 1 or 4")
    with nogil:
        probe.read(&memory[0], n, streams, repeats)
