/* What each stub exports to simd_dispatch.c's table. */
#ifndef FASTRNN_SIMD_ISA_H
#define FASTRNN_SIMD_ISA_H

#include "simd.h"

fr_layer *fr_simd_pack_generic(const fr_params *params);
fr_product *fr_simd_pack_product_generic(const fr_product_params *params);
void fr_simd_activate_generic(fr_activation kind, const float *x, float *y, size_t n);
extern const fr_probe fr_simd_probe_generic;

fr_layer *fr_simd_pack_avx2(const fr_params *params);
fr_product *fr_simd_pack_product_avx2(const fr_product_params *params);
void fr_simd_activate_avx2(fr_activation kind, const float *x, float *y, size_t n);
extern const fr_probe fr_simd_probe_avx2;

fr_layer *fr_simd_pack_avx512(const fr_params *params);
fr_product *fr_simd_pack_product_avx512(const fr_product_params *params);
void fr_simd_activate_avx512(fr_activation kind, const float *x, float *y, size_t n);
extern const fr_probe fr_simd_probe_avx512;

fr_layer *fr_simd_pack_avx512vnni(const fr_params *params);
fr_product *fr_simd_pack_product_avx512vnni(const fr_product_params *params);
void fr_simd_activate_avx512vnni(fr_activation kind, const float *x, float *y, size_t n);
extern const fr_probe fr_simd_probe_avx512vnni;

fr_layer *fr_simd_pack_neon(const fr_params *params);
fr_product *fr_simd_pack_product_neon(const fr_product_params *params);
void fr_simd_activate_neon(fr_activation kind, const float *x, float *y, size_t n);
extern const fr_probe fr_simd_probe_neon;

#endif
