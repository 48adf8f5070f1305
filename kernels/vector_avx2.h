/* Vector operations: AVX2 with FMA, 8 floats. See vector_generic.h for what each one means. */
#include <immintrin.h>

#define VEC_WIDTH 8
#define FLOAT32_ROWS 6
/* of 16 registers: 8 + 1 + 1, 12 + 2 + 1, 12 + 3 + 1, 8 + 2 + 1, 10 + 2 + 1, 12 + 2 + 1 */
#define FLOAT32_TILES(row) row(1, 8, 8) row(2, 6, 6) row(3, 4, 4) row(4, 2, 2) row(5, 2, 2) row(6, 2, 2)
/* two registers a weight and an x, the mask, the products */
#define INT8_ROWS 4
#define INT8_TILES(row) ONE_ROW(row, 8) row(2, 4, 4) row(3, 2, 2) row(4, 2, 2)
/* the product */
#define INT16_ROWS 6
#define INT16_TILES(row) ONE_ROW(row, 8) row(2, 6, 6) row(3, 3, 3) row(4, 2, 2) row(5, 2, 2) row(6, 2, 2)

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

typedef vec vec_same;
INLINE vec_same v_same(const float *p) { return v_set1(*p); }
INLINE vec v_fma_same(vec_same a, vec b, vec c) { return v_fma(a, b, c); }

INLINE vec v_min(float limit, vec a) { return _mm256_min_ps(_mm256_set1_ps(limit), a); }
INLINE vec v_max(float limit, vec a) { return _mm256_max_ps(_mm256_set1_ps(limit), a); }
INLINE vec v_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }

INLINE vec v_infinite_below(vec x, float limit, vec a)
{
    return _mm256_blendv_ps(a, _mm256_set1_ps(INFINITY), _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_LT_OQ));
}

INLINE vec v_above(vec x, float limit, vec a, vec b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_GT_OQ));
}

INLINE vec v_exponent(vec a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}

typedef __m256i vec_int;

INLINE vec_int vi_set1(int a) { return _mm256_set1_epi32(a); }
INLINE vec_int vi_add(vec_int a, vec_int b) { return _mm256_add_epi32(a, b); }
INLINE vec_int vi_max(vec_int a, vec_int b) { return _mm256_max_epi32(a, b); }
INLINE vec_int vi_bits(vec a) { return _mm256_castps_si256(a); }
INLINE vec_int vi_and(vec_int a, vec_int b) { return _mm256_and_si256(a, b); }
INLINE vec_int vi_load(const char *p) { return _mm256_load_si256((const vec_int *)p); }
INLINE void vi_store(int *p, vec_int a) { _mm256_store_si256((vec_int *)p, a); }

INLINE vec_int vi_spread(const char *p)
{
    int word;
    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

INLINE void vi_store_halves(char *p, vec_int a)
{
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

INLINE vec_int vi_high_bytes(vec_int a) { return _mm256_srai_epi16(a, 8); }

typedef vec_int vec_sum;
INLINE vec_sum vs_start(vec_int zero) { return zero; }
INLINE vec_int vs_total(vec_sum sum) { return sum; }

INLINE vec_sum vi_madd(vec_sum sum, vec_int a, vec_int b)
{
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
    KEEP_ORDER(sum);
    return sum;
}
INLINE vec vi_float(vec_int a) { return _mm256_cvtepi32_ps(a); }
INLINE vec_int vi_round(vec a) { return _mm256_cvtps_epi32(a); }
