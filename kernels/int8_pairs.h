/* int8 products where integers of 16 bits are multiplied in pairs, exactly. A word of 4 k's is stored as bytes 0 2 1 3,
 * k's 0 and 1 as w + 128: so an `and` and a shift make two words of pairs, without crossing lanes. */

#define INT8_FLIP 0x00008080u
#define INT8_SWAP 1

typedef vec_sum sum_int8;
typedef struct { vec_int first, second; } weight_int8, input_int8;     /* k's 0 and 1; 2 and 3 */

INLINE weight_int8 load_int8(const char *p)
{
    vec_int w = vi_load(p);
    return (weight_int8){vi_and(w, vi_set1(0x00ff00ff)), vi_high_bytes(w)};
}

INLINE input_int8 spread_int8(const char *p) { return (input_int8){vi_spread(p), vi_spread(p + WORD)}; }
INLINE sum_int8 zero_int8(void) { return vs_start(vi_zero()); }

INLINE sum_int8 madd_int8(sum_int8 sum, weight_int8 w, input_int8 a)
{
    return vi_madd(vi_madd(sum, w.first, a.first), w.second, a.second);
}

/* To the compiler, another weight: for probe.h. */
INLINE void other_int8(weight_int8 *w)
{
    KEEP_ORDER(w->first);
    KEEP_ORDER(w->second);
}

INLINE vec_int total_int8(sum_int8 sum) { return vs_total(sum); }
INLINE void put_int8(char *to, vec_int a) { vi_store_halves(to, a); }

INLINE vec_int offset_int8(vec_int a)
{
    static const int32_t mask[16] __attribute__((aligned(ALIGNMENT))) = {-1, -1, 0, 0, -1, -1, 0, 0,
                                                                        -1, -1, 0, 0, -1, -1, 0, 0};
    return vi_and(a, vi_load((const char *)mask));
}
