/* Weights of 13 bits as int16, a scale a row; see encode.h for what they are multiplied by. A line is 2 k's. */

#define FORMAT(name) name##_int16
#define FORMAT_ITEM 2
#define FORMAT_FLIP 0
#define FORMAT_SWAP 0
#define FORMAT_OFFSET 0u
#define FORMAT_HEADER 2
#define FORMAT_CHAIN 64         /* 128 k's: a sum of weights of at most 4095 is below 2^31 */
#define FORMAT_ROWS INT16_ROWS
#define FORMAT_TILES INT16_TILES
#define FORMAT_UNROLL UNROLL_INTEGERS
#define FORMAT_INPUT 4

typedef vec_int FORMAT(weight), FORMAT(input);
typedef vec_sum FORMAT(sum);

INLINE vec_int FORMAT(load)(const char *p) { return vi_load(p); }
INLINE vec_int FORMAT(spread)(const char *p) { return vi_spread(p); }
INLINE vec_sum FORMAT(zero)(void) { return vs_start(vi_zero()); }
INLINE vec_sum FORMAT(madd)(vec_sum sum, vec_int weight, vec_int a) { return vi_madd(sum, weight, a); }
INLINE void FORMAT(put)(char *to, vec_int a) { vi_store_halves(to, a); }
INLINE vec_int FORMAT(offset)(vec_int a) { (void)a; return vi_set1(0); }

typedef vec_code FORMAT(code);

INLINE vec_code FORMAT(decode)(const row_code *codes, size_t i) { return spread_code(codes + i); }

INLINE vec FORMAT(add)(vec from, FORMAT(sum) sum, const char *header, vec_code code)
{
    return add_codes(from, vs_total(sum), header, code);
}

#include "encode.h"
#include "tile.h"
