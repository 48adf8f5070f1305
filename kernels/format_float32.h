/* Weights as float32: a line is one k, and a row is the caller's floats, read to exactly `depth` of them. */

#define FORMAT(name) name##_float32
#define FORMAT_ITEM 4
#define FORMAT_FLIP 0
#define FORMAT_SWAP 0
#define FORMAT_HEADER 1
/* The error of one chain grows with its length: against float64 over 1000 steps, GRU and RNN with 512 units in one
 * chain made 1.5 times torch's rms error, in chains of 128 0.9 times. Costs 1 to 3 % of time. */
#define FORMAT_CHAIN 128
#define FORMAT_ROWS FLOAT32_ROWS
#define FORMAT_TILES FLOAT32_TILES
#define FORMAT_UNROLL UNROLL_SOME
#define FORMAT_INPUT 4

typedef vec FORMAT(weight), FORMAT(sum);
typedef vec_same FORMAT(input);

INLINE vec FORMAT(load)(const char *p) { return v_load((const float *)p); }
INLINE vec_same FORMAT(spread)(const char *p) { return v_same((const float *)p); }
INLINE vec FORMAT(zero)(void) { return v_set1(0.0f); }
INLINE vec FORMAT(madd)(vec sum, vec weight, vec_same x) { return v_fma_same(x, weight, sum); }

typedef int FORMAT(code);   /* a row is what it is */

INLINE int FORMAT(decode)(const row_code *codes, size_t i)
{
    (void)codes, (void)i;
    return 0;
}

INLINE vec FORMAT(add)(vec from, vec sum, const char *header, int code)
{
    (void)header, (void)code;
    return v_add(from, sum);
}

#include "tile.h"
