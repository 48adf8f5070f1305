/* Vector operations: GCC/clang vector extensions, 4 floats, any CPU. This file is the specification;
 * another instruction set differs only where it fuses: v_fma and v_fnma round once there, twice here.
 *
 * An instruction set provides VEC_WIDTH, TILE_ROWS, TILES, `vec` and the operations below.
 *
 * TILES has a row for each number of rows up to TILE_ROWS: (rows, most vectors at once, most where the weights come
 * from memory). A tile holds rows * vectors sums, and the fewer of rows and vectors as operands, and one of the others;
 * where they do not fit into the registers it spills, which tests/test_tile_spills.py finds. */

#define VEC_WIDTH 4
#define TILE_ROWS 4
/* of 16 registers one is the product: 8 + 1 + 1, 8 + 2 + 1, 6 + 2 + 1, 8 + 2 + 1 */
#define TILES(row) row(1, 8, 8) row(2, 4, 4) row(3, 2, 2) row(4, 2, 2)

typedef float vec __attribute__((vector_size(16), may_alias));
typedef unsigned vec_bits __attribute__((vector_size(16)));
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

/* the float whose sign and exponent bits are the low 9 bits of a: 2^n from a = 1.5 * 2^23 + 127 + n, -127 < n < 128 */
INLINE vec v_exponent(vec a) { return (vec)((vec_bits)a << 23); }
