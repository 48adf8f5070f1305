/* Vector operations: AVX-512, 16 floats. See vector_generic.h for what each one means. */
#include <immintrin.h>

#define VEC_WIDTH 16
/* Registers would do for 12 rows, but rows 4 KiB apart (I or H a multiple of 1024) share one set of L1, of 8 lines. */
#define FLOAT32_ROWS 6
/* Of 32 registers at most 16 are sums; four rows of weights that are far come faster as two panels side by side. */
#define FLOAT32_TILES(row) row(1, 8, 8) row(2, 6, 6) row(3, 4, 4) row(4, 2, 4) row(5, 2, 2) row(6, 2, 2)
#ifdef AVX512_VNNI
/* two registers a sum and an x: 16 + 2 + 1, 16 + 4 + 1, 18 + 6 + 1, 16 + 2 + 2; GCC stores some of five rows' */
#define INT8_ROWS 4
#define INT8_TILES(row) ONE_ROW(row, 8) row(2, 4, 4) row(3, 3, 3) row(4, 2, 2)
#else
#define INT8_ROWS 6
#define INT8_TILES(row) ONE_ROW(row, 8) row(2, 6, 6) row(3, 4, 4) row(4, 2, 4) row(5, 2, 2) row(6, 2, 2)
#endif
#define INT16_ROWS 6
#define INT16_TILES(row) ONE_ROW(row, 8) row(2, 6, 6) row(3, 4, 4) row(4, 2, 4) row(5, 2, 2) row(6, 2, 2)

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

typedef vec vec_same;
INLINE vec_same v_same(const float *p) { return v_set1(*p); }
INLINE vec v_fma_same(vec_same a, vec b, vec c) { return v_fma(a, b, c); }

INLINE vec v_min(float limit, vec a) { return _mm512_min_ps(_mm512_set1_ps(limit), a); }
INLINE vec v_max(float limit, vec a) { return _mm512_max_ps(_mm512_set1_ps(limit), a); }
INLINE vec v_abs(vec a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm512_or_ps(a, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign)); }

INLINE vec v_infinite_below(vec x, float limit, vec a)
{
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_LT_OQ), _mm512_set1_ps(INFINITY));
}

INLINE vec v_above(vec x, float limit, vec a, vec b)
{
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GT_OQ), a);
}

INLINE vec v_exponent(vec a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}

typedef __m512i vec_int;

INLINE vec_int vi_set1(int a) { return _mm512_set1_epi32(a); }
INLINE vec_int vi_add(vec_int a, vec_int b) { return _mm512_add_epi32(a, b); }
INLINE vec_int vi_max(vec_int a, vec_int b) { return _mm512_max_epi32(a, b); }
INLINE vec_int vi_bits(vec a) { return _mm512_castps_si512(a); }
INLINE vec_int vi_and(vec_int a, vec_int b) { return _mm512_and_si512(a, b); }
INLINE vec_int vi_load(const char *p) { return _mm512_load_si512(p); }
INLINE void vi_store(int *p, vec_int a) { _mm512_store_si512(p, a); }

INLINE vec_int vi_spread(const char *p)
{
    int word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

INLINE void vi_store_halves(char *p, vec_int a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a)); }
INLINE vec_int vi_high_bytes(vec_int a) { return _mm512_srai_epi16(a, 8); }

typedef vec_int vec_sum;
INLINE vec_sum vs_start(vec_int zero) { return zero; }
INLINE vec_int vs_total(vec_sum sum) { return sum; }

#ifdef AVX512_VNNI
INLINE vec_sum vi_madd(vec_sum sum, vec_int a, vec_int b) { return _mm512_dpwssd_epi32(sum, a, b); }

/* sum + the products of each lane's 4 bytes, those of a unsigned */
INLINE vec_int vi_madd_bytes(vec_int sum, vec_int a, vec_int b) { return _mm512_dpbusd_epi32(sum, a, b); }

/* a + 256 b */
INLINE vec_int vi_add_256(vec_int a, vec_int b) { return _mm512_add_epi32(a, _mm512_slli_epi32(b, 8)); }

/* Of every 4 numbers their low bytes, signed, then what is left of them divided by 256. */
INLINE void vi_store_bytes(char *p, vec_int a)
{
    __m128i low = _mm512_cvtepi32_epi8(a);
    __m128i high = _mm512_cvtepi32_epi8(_mm512_srai_epi32(_mm512_add_epi32(a, _mm512_set1_epi32(128)), 8));
    _mm_storeu_si128((__m128i *)p, _mm_unpacklo_epi32(low, high));
    _mm_storeu_si128((__m128i *)(p + 16), _mm_unpackhi_epi32(low, high));
}
#else
INLINE vec_sum vi_madd(vec_sum sum, vec_int a, vec_int b)
{
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
    KEEP_ORDER(sum);
    return sum;
}
#endif
INLINE vec vi_float(vec_int a) { return _mm512_cvtepi32_ps(a); }
INLINE vec_int vi_round(vec a) { return _mm512_cvtps_epi32(a); }
