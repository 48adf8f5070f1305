/* Vector operations: GCC/clang vector extensions, 4 floats, any CPU. This file is the specification;
 * another instruction set differs only where it fuses: v_fma and v_fnma round once there, twice here.
 *
 * An instruction set provides VEC_WIDTH, tables of tiles, `vec`, `vec_int` and the operations below.
 *
 * The table of a weight format has a row for each number of rows that its tiles have: (rows, most vectors at once, most
 * where the weights come from memory). A tile holds rows * vectors sums, and the fewer of rows and vectors as operands,
 * and one of the others; where they do not fit into the registers it spills, which tests/test_tile_spills.py finds. */

#define VEC_WIDTH 4
#define FLOAT32_ROWS 4
/* of 16 registers one is the product: 8 + 1 + 1, 8 + 2 + 1, 6 + 2 + 1, 8 + 2 + 1 */
#define FLOAT32_TILES(row) row(1, 8, 8) row(2, 4, 4) row(3, 2, 2) row(4, 2, 2)
/* products of 16 bits take several registers */
#define INT8_ROWS 1
#define INT8_TILES(row) row(1, 2, 2)
#define INT16_ROWS 2
#define INT16_TILES(row) row(1, 2, 2) row(2, 2, 2)

typedef float vec __attribute__((vector_size(16), may_alias));
typedef unsigned vec_bits __attribute__((vector_size(16), may_alias));
typedef int vec_int __attribute__((vector_size(16), may_alias));
typedef float vec_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vec v_load(const float *p) { return *(const vec *)p; }               /* p aligned to the vector */
INLINE vec v_loadu(const float *p) { return *(const vec_unaligned *)p; }    /* any p */
INLINE void v_store(float *p, vec a) { *(vec *)p = a; }
INLINE void v_storeu(float *p, vec a) { *(vec_unaligned *)p = a; }
INLINE vec v_set1(float a) { return (vec){a, a, a, a}; }
INLINE vec v_add(vec a, vec b) { return a + b; }
INLINE vec v_sub(vec a, vec b) { return a - b; }
INLINE vec v_mul(vec a, vec b) { return a * b; }
INLINE vec v_div(vec a, vec b) { return a / b; }
INLINE vec v_fma(vec a, vec b, vec c) { return a * b + c; }
INLINE vec v_fnma(vec a, vec b, vec c) { return c - a * b; }

/* what every column is multiplied by: the float at any p in each lane; a * b + c with it */
typedef vec vec_same;
INLINE vec_same v_same(const float *p) { return v_set1(*p); }
INLINE vec v_fma_same(vec_same a, vec b, vec c) { return v_fma(a, b, c); }

/* mask ? a : b, mask lanes all ones or all zeros */
INLINE vec v_select(vec_bits mask, vec a, vec b)
{
    return (vec)((mask & (vec_bits)a) | (~mask & (vec_bits)b));
}

/* min(limit, a); NaN where a is NaN */
INLINE vec v_min(float limit, vec a) { return v_select((vec_bits)(v_set1(limit) < a), v_set1(limit), a); }

/* max(limit, a); NaN where a is NaN */
INLINE vec v_max(float limit, vec a) { return v_select((vec_bits)(v_set1(limit) > a), v_set1(limit), a); }

INLINE vec v_abs(vec a) { return (vec)((vec_bits)a & 0x7fffffffu); }

/* a with the sign of `sign`; a >= 0 */
INLINE vec v_copysign(vec a, vec sign) { return (vec)((vec_bits)a | ((vec_bits)sign & 0x80000000u)); }

/* infinity where x < limit, else a (also where x is NaN) */
INLINE vec v_infinite_below(vec x, float limit, vec a)
{
    return v_select((vec_bits)(x < v_set1(limit)), v_set1(INFINITY), a);
}

/* x > limit ? a : b */
INLINE vec v_above(vec x, float limit, vec a, vec b) { return v_select((vec_bits)(x > v_set1(limit)), a, b); }

/* the float whose sign and exponent bits are the low 9 bits of a: 2^n from a = 1.5 * 2^23 + 127 + n, -127 < n < 128 */
INLINE vec v_exponent(vec a) { return (vec)((vec_bits)a << 23); }

/* VEC_WIDTH integers of 32 bits */
INLINE vec_int vi_set1(int a) { return (vec_int){a, a, a, a}; }
INLINE vec_int vi_add(vec_int a, vec_int b) { return (vec_int)((vec_bits)a + (vec_bits)b); }
INLINE vec_int vi_max(vec_int a, vec_int b) { return ((a > b) & a) | ((a <= b) & b); }
INLINE vec_int vi_bits(vec a) { return (vec_int)a; }
INLINE vec_int vi_and(vec_int a, vec_int b) { return a & b; }
INLINE vec_int vi_load(const char *p) { return *(const vec_int *)p; }       /* p aligned to the vector */
INLINE void vi_store(int *p, vec_int a) { *(vec_int *)p = a; }

/* 4 bytes from any p in every lane */
INLINE vec_int vi_spread(const char *p)
{
    int word;
    memcpy(&word, p, sizeof word);
    return vi_set1(word);
}

/* the low 16 bits of each lane, to any p */
INLINE void vi_store_halves(char *p, vec_int a)
{
    int16_t halves[VEC_WIDTH] = {(int16_t)a[0], (int16_t)a[1], (int16_t)a[2], (int16_t)a[3]};
    memcpy(p, halves, sizeof halves);
}

/* of each half of a lane the high byte, signed */
INLINE vec_int vi_high_bytes(vec_int a)
{
    return ((vec_int)((vec_bits)a << 16) >> 24 & 0xffff) | (vec_int)((vec_bits)(a >> 24) << 16);
}

/* Sums of such products: a number for each lane, in parts as the instruction set adds them. From zero on; added up. */
typedef vec_int vec_sum;
INLINE vec_sum vs_start(vec_int zero) { return zero; }
INLINE vec_int vs_total(vec_sum sum) { return sum; }

/* sum + the products of each lane's low halves and of its high halves, signed; wraps round */
INLINE vec_sum vi_madd(vec_sum sum, vec_int a, vec_int b)
{
    vec_int a_low = (vec_int)((vec_bits)a << 16) >> 16, b_low = (vec_int)((vec_bits)b << 16) >> 16;
    return vi_add(sum, vi_add(a_low * b_low, (a >> 16) * (b >> 16)));
}
INLINE vec vi_float(vec_int a) { return __builtin_convertvector(a, vec); }

/* the nearest integer, of two the even one; |a| < 2^22, of others anything */
INLINE vec_int vi_round(vec a)
{
    const float magic = 0x1.8p23f;      /* a + magic is rounded to an integer, which its low bits then hold */
    return (vec_int)(a + v_set1(magic)) - (vec_int)v_set1(magic);
}
