/* The engine's bodies, in order, for the instruction set whose vector_*.h and macros stand before this:
 *
 *     ISA(name)   the name with the instruction set's suffix, for what simd_dispatch.c's table holds
 */
#include "activation.h"
#include "pack.h"
#include "format.h"
#include "codes.h"
#include "format_float32.h"
#include "format_int8.h"
#include "format_int16.h"
#include "block.h"
#include "cells.h"
#include "layer.h"
#include "run.h"
#include "product.h"
#include "probe.h"

fr_layer *ISA(fr_simd_pack)(const fr_params *params)
{
    simd_layer *l = params->dtype == FR_FLOAT32 ? calloc(1, sizeof *l) : NULL;
    if (!l)
        return NULL;
    shape_layer(l, params);
    size_t bytes = layer_bytes(l);
    l->base = (fr_layer){scratch_bytes, run_layer, destroy_layer, unpack_layer, bytes};
    l->weights = allocate_weights(bytes);
    if (!l->weights) {
        free(l);
        return NULL;
    }
    pack_layer(l, params);
    return &l->base;
}

/* A loop of its own for each function, and the same for what is left over. */
#define ACTIVATE(function)                                      \
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)                  \
        v_storeu(y + i, function(v_loadu(x + i)));              \
    v_storeu(rest, function(v_loadu(rest)))

void ISA(fr_simd_activate)(fr_activation kind, const float *x, float *y, size_t n)
{
    size_t i = 0, left = n % VEC_WIDTH;
    float rest[VEC_WIDTH] = {0};
    memcpy(rest, x + n - left, left * sizeof *x);
    switch (kind) {
    case FR_SIGMOID: ACTIVATE(v_sigmoid); break;
    case FR_TANH: ACTIVATE(v_tanh); break;
    case FR_ERF: ACTIVATE(v_erf); break;
    case FR_GELU: ACTIVATE(v_gelu); break;
    }
    memcpy(y + n - left, rest, left * sizeof *y);
}
