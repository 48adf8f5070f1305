/* The table of instruction sets, and the choice among them. */
#include "simd.h"

#include "cpu.h"
#include "simd_isa.h"

static int always(void) { return 1; }

typedef struct {
    fr_engine engine;   /* its name is the instruction set's */
    int (*supported)(void);
    const fr_probe *probe;
} isa_row;

/* Adding one: a stub, a vector_*.h, an answer in cpu.c, and a row here. Slowest first. */
#define ROW(isa, supported) \
    {{#isa, fr_simd_pack_##isa, fr_simd_pack_product_##isa, fr_simd_activate_##isa}, supported, &fr_simd_probe_##isa}
#define NOT_HERE(isa) {{#isa, 0, 0, 0}, 0, 0}

static const isa_row isas[FR_ISA_COUNT] = {
    [FR_ISA_GENERIC] = ROW(generic, always),
#if defined(__x86_64__)
    [FR_ISA_AVX2] = ROW(avx2, fr_cpu_has_avx2),
    [FR_ISA_AVX512] = ROW(avx512, fr_cpu_has_avx512),
    [FR_ISA_AVX512VNNI] = ROW(avx512vnni, fr_cpu_has_avx512vnni),
#else
    [FR_ISA_AVX2] = NOT_HERE(avx2),
    [FR_ISA_AVX512] = NOT_HERE(avx512),
    [FR_ISA_AVX512VNNI] = NOT_HERE(avx512vnni),
#endif
#if defined(__aarch64__)
    [FR_ISA_NEON] = ROW(neon, always),
#else
    [FR_ISA_NEON] = NOT_HERE(neon),
#endif
};

const char *fr_isa_name(fr_isa isa) { return isas[isa].engine.name; }

int fr_isa_supported(fr_isa isa) { return isas[isa].supported && isas[isa].supported(); }

fr_isa fr_isa_best(void)
{
    int isa = FR_ISA_COUNT - 1;
    while (!fr_isa_supported((fr_isa)isa))
        isa--;
    return (fr_isa)isa;
}

const fr_engine *fr_simd_engine(fr_isa isa) { return &isas[isa].engine; }

fr_layer *fr_simd_pack(const fr_params *params, fr_isa isa)
{
    return isas[isa].engine.pack(params);
}

fr_product *fr_simd_pack_product(const fr_product_params *params, fr_isa isa)
{
    return isas[isa].engine.pack_product(params);
}

void fr_simd_activate(fr_isa isa, fr_activation kind, const float *x, float *y, size_t n)
{
    isas[isa].engine.activate(kind, x, y, n);
}

const fr_probe *fr_simd_probe(fr_isa isa) { return isas[isa].probe; }
