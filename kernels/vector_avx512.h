/* Vector operations: AVX-512, 16 floats. See vector_generic.h for what each one means. */
#include <immintrin.h>

#define VEC_WIDTH 16
/* Registers would do for 12 rows, but rows 4 KiB apart (I or H a multiple of 1024) share one set of L1, of 8 lines. */
#define TILE_ROWS 6
/* Of 32 registers at most 16 are sums; four rows of weights that are far come faster as two panels side by side. */
#define TILES(row) row(1, 8, 8) row(2, 6, 6) row(3, 4, 4) row(4, 2, 4) row(5, 2, 2) row(6, 2, 2)

typedef __m512 vec;

INLINE vec v_load(const float *p) { return _mm512_load_ps(p); }
INLINE vec v_loadu(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vec a) { _mm512_store_ps(p, a); }
INLINE void v_storeu(float *p, vec a) { _mm512_storeu_ps(p, a); }
INLINE vec v_set1(float a) { return _mm512_set1_ps(a); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vec v_min(float limit, vec a) { return _mm512_min_ps(_mm512_set1_ps(limit), a); }
INLINE vec v_max(float limit, vec a) { return _mm512_max_ps(_mm512_set1_ps(limit), a); }
INLINE vec v_abs(vec a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm512_or_ps(a, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign)); }

INLINE vec v_infinite_below(vec x, float limit, vec a)
{
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_LT_OQ), _mm512_set1_ps(INFINITY));
}

INLINE vec v_exponent(vec a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}
