/* int8 products where unsigned bytes are multiplied with signed ones, 4 at a time and exactly: nothing to decode.
 * Weights are stored as w + 128. A row's number is 256 * high + low, both signed bytes, and has a sum of each. */

#define INT8_FLIP 0x80808080u
#define INT8_SWAP 0

typedef vec_int weight_int8;
typedef struct { vec_int low, high; } sum_int8, input_int8;

INLINE weight_int8 load_int8(const char *p) { return vi_load(p); }
INLINE input_int8 spread_int8(const char *p) { return (input_int8){vi_spread(p), vi_spread(p + WORD)}; }
INLINE sum_int8 zero_int8(void) { return (sum_int8){vi_zero(), vi_zero()}; }

INLINE sum_int8 madd_int8(sum_int8 sum, weight_int8 w, input_int8 a)
{
    return (sum_int8){vi_madd_bytes(sum.low, w, a.low), vi_madd_bytes(sum.high, w, a.high)};
}

/* To the compiler, another weight: for probe.h. */
INLINE void other_int8(weight_int8 *w) { KEEP_ORDER(*w); }

INLINE vec_int total_int8(sum_int8 sum) { return vi_add_256(sum.low, sum.high); }
INLINE void put_int8(char *to, vec_int a) { vi_store_bytes(to, a); }
INLINE vec_int offset_int8(vec_int a) { return a; }
