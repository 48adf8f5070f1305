/* The SIMD engine: packed float32 weights, one body compiled once per instruction set.
 *
 *   simd_dispatch.c               the table of instruction sets; packing is dispatched from there
 *   cpu.c                         what this CPU and OS can run
 *   simd_{generic,avx2,neon,...}.c  one stub per instruction set: its target region around the bodies
 *   vector_{...}.h                floor 1: the few vector operations of one instruction set
 *   activation.h                  sigmoid and tanh on those
 *   pack.h tile.h cells.h layer.h run.h product.h  floor 2, the bodies: layout, matrix product, gates, layer,
 *                                 sequence; and a linear layer
 *   probe.h                       how fast a core multiplies and reads, for benches
 *
 * On one instruction set a row's h, c and y have the same bits whatever the batch, the row's
 * place in it, its neighbours, the cutting of time into runs, and the alignment of the arrays.
 */
#ifndef FASTRNN_SIMD_H
#define FASTRNN_SIMD_H

#include "engine.h"

/* Slowest first: a CPU's best is the last one it supports. */
typedef enum { FR_ISA_GENERIC, FR_ISA_AVX2, FR_ISA_AVX512, FR_ISA_AVX512VNNI, FR_ISA_NEON, FR_ISA_COUNT } fr_isa;

fr_isa fr_isa_best(void);
int fr_isa_supported(fr_isa isa);       /* compiled in, and this CPU and OS can run it */
const char *fr_isa_name(fr_isa isa);    /* "generic", "avx2", "avx512", "avx512vnni", "neon" */

/* The engine of a supported instruction set; its pack refuses (NULL) other dtypes than FR_FLOAT32. */
const fr_engine *fr_simd_engine(fr_isa isa);

/* Packs copies of the weights for `isa`, which must be supported.
 * NULL when out of memory or when params->dtype is not FR_FLOAT32. */
fr_layer *fr_simd_pack(const fr_params *params, fr_isa isa);

/* The same of a linear layer; NULL when out of memory. */
fr_product *fr_simd_pack_product(const fr_product_params *params, fr_isa isa);

/* As fr_engine's. */
void fr_simd_activate(fr_isa isa, fr_activation kind, const float *x, float *y, size_t n);

/* What one core can do at most, for benches: loops to be timed. */
typedef struct {
    double (*multiply_adds)(size_t rounds);     /* from registers; returns the number of flops */
    double (*multiply_adds_int8)(size_t rounds);    /* the same with int8 weights: multiplications and additions */
    /* Reads n floats, `repeats` times, as one stream or four side by side (streams = 1 or 4).
     * p is aligned to 64 bytes, n a multiple of PROBE_FLOATS. */
    void (*read)(const float *p, size_t n, int streams, size_t repeats);
} fr_probe;

#define PROBE_FLOATS 128    /* reads of all instruction sets come out even */

const fr_probe *fr_simd_probe(fr_isa isa);      /* isa must be supported */

#endif
