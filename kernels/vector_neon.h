/* Vector operations: NEON of AArch64, 4 floats. See vector_generic.h for what each one means. */
#include <arm_neon.h>

#define VEC_WIDTH 4
#define FLOAT32_ROWS 5
/* of 32 registers: 8 + 1 + 1, 12 + 2 + 1, 12 + 3 + 1, 16 + 4 + 1, 20 + 4 + 1; six rows, 24 + 4 + 1, spill */
#define FLOAT32_TILES(row) row(1, 8, 8) row(2, 6, 6) row(3, 4, 4) row(4, 4, 4) row(5, 4, 4)
#define INT8_ROWS 4
/* two registers a sum, a weight and an x, the mask: 12 + 2 + 2, 16 + 2 + 4, 12 + 4 + 2, 16 + 4 + 2 */
#define INT8_TILES(row) row(1, 6, 6) row(2, 4, 4) row(3, 2, 2) row(4, 2, 2)
#define INT16_ROWS 6
/* two registers a sum: 16 + 1 + 1, 16 + 2 + 1, 18 + 3 + 1, 16 + 2 + 1, 20 + 2 + 1, 24 + 2 + 1 */
#define INT16_TILES(row) row(1, 8, 8) row(2, 4, 4) row(3, 3, 3) row(4, 2, 2) row(5, 2, 2) row(6, 2, 2)

typedef float32x4_t vec;

INLINE vec v_load(const float *p) { return vld1q_f32(p); }
INLINE vec v_loadu(const float *p) { return vld1q_f32(p); }
INLINE void v_store(float *p, vec a) { vst1q_f32(p, a); }
INLINE void v_storeu(float *p, vec a) { vst1q_f32(p, a); }
INLINE vec v_set1(float a) { return vdupq_n_f32(a); }
INLINE vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
INLINE vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
INLINE vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
INLINE vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
INLINE vec v_fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }

#if defined(__clang__)
/* In one lane, with which fmla multiplies: unlike a load to all lanes, this one takes an offset. Opaque, or clang makes
 * it the other; GCC makes this one a load and a copy. */
typedef float vec_same;

INLINE vec_same v_same(const float *p)
{
    float a = *p;
    KEEP_ORDER(a);
    return a;
}

INLINE vec v_fma_same(vec_same a, vec b, vec c) { return vfmaq_n_f32(c, b, a); }
#else
typedef vec vec_same;
INLINE vec_same v_same(const float *p) { return vld1q_dup_f32(p); }
INLINE vec v_fma_same(vec_same a, vec b, vec c) { return vfmaq_f32(c, a, b); }
#endif

INLINE vec v_min(float limit, vec a) { return vminq_f32(vdupq_n_f32(limit), a); }
INLINE vec v_max(float limit, vec a) { return vmaxq_f32(vdupq_n_f32(limit), a); }
INLINE vec v_abs(vec a) { return vabsq_f32(a); }
INLINE vec v_copysign(vec a, vec sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, a); }

INLINE vec v_infinite_below(vec x, float limit, vec a)
{
    return vbslq_f32(vcltq_f32(x, vdupq_n_f32(limit)), vdupq_n_f32(INFINITY), a);
}

INLINE vec v_above(vec x, float limit, vec a, vec b) { return vbslq_f32(vcgtq_f32(x, vdupq_n_f32(limit)), a, b); }

INLINE vec v_exponent(vec a) { return vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(a), 23)); }

typedef int32x4_t vec_int;

INLINE vec_int vi_set1(int a) { return vdupq_n_s32(a); }
INLINE vec_int vi_add(vec_int a, vec_int b) { return vaddq_s32(a, b); }
INLINE vec_int vi_max(vec_int a, vec_int b) { return vmaxq_s32(a, b); }
INLINE vec_int vi_bits(vec a) { return vreinterpretq_s32_f32(a); }
INLINE vec_int vi_and(vec_int a, vec_int b) { return vandq_s32(a, b); }
INLINE vec_int vi_load(const char *p) { return vreinterpretq_s32_s8(vld1q_s8((const int8_t *)p)); }
INLINE void vi_store(int *p, vec_int a) { vst1q_s32(p, a); }

INLINE vec_int vi_spread(const char *p)
{
    int word;
    memcpy(&word, p, sizeof word);
    return vdupq_n_s32(word);
}

INLINE void vi_store_halves(char *p, vec_int a) { vst1_s8((int8_t *)p, vreinterpret_s8_s16(vmovn_s32(a))); }

INLINE vec_int vi_high_bytes(vec_int a)
{
    return vreinterpretq_s32_s16(vshrq_n_s16(vreinterpretq_s16_s32(a), 8));
}

/* of the first two lanes, and of the last two, the products of low and high halves side by side: a widening
 * multiplication adds to four neighbours, and neighbours are added once, at the end */
typedef struct { vec_int first, last; } vec_sum;

INLINE vec_sum vs_start(vec_int zero) { return (vec_sum){zero, zero}; }
INLINE vec_int vs_total(vec_sum sum) { return vpaddq_s32(sum.first, sum.last); }

INLINE vec_sum vi_madd(vec_sum sum, vec_int a, vec_int b)
{
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    sum.first = vmlal_s16(sum.first, vget_low_s16(x), vget_low_s16(y));
    sum.last = vmlal_high_s16(sum.last, x, y);
    KEEP_ORDER(sum.first);
    KEEP_ORDER(sum.last);
    return sum;
}
INLINE vec vi_float(vec_int a) { return vcvtq_f32_s32(a); }
INLINE vec_int vi_round(vec a) { return vcvtnq_s32_f32(a); }
