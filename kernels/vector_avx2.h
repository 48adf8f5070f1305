/* Vector operations: AVX2 with FMA, 8 floats. See vector_generic.h for what each one means. */
#include <immintrin.h>

#define VEC_WIDTH 8
#define TILE_ROWS 6
/* of 16 registers: 8 + 1 + 1, 12 + 2 + 1, 12 + 3 + 1, 8 + 2 + 1, 10 + 2 + 1, 12 + 2 + 1 */
#define TILES(row) row(1, 8, 8) row(2, 6, 6) row(3, 4, 4) row(4, 2, 2) row(5, 2, 2) row(6, 2, 2)

typedef __m256 vec;

INLINE vec v_load(const float *p) { return _mm256_load_ps(p); }
INLINE vec v_loadu(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vec a) { _mm256_store_ps(p, a); }
INLINE void v_storeu(float *p, vec a) { _mm256_storeu_ps(p, a); }
INLINE vec v_set1(float a) { return _mm256_set1_ps(a); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vec v_min(float limit, vec a) { return _mm256_min_ps(_mm256_set1_ps(limit), a); }
INLINE vec v_max(float limit, vec a) { return _mm256_max_ps(_mm256_set1_ps(limit), a); }
INLINE vec v_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }

INLINE vec v_infinite_below(vec x, float limit, vec a)
{
    return _mm256_blendv_ps(a, _mm256_set1_ps(INFINITY), _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_LT_OQ));
}

INLINE vec v_exponent(vec a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}
