/* Rows of floats as integers of at most MOST_CODE in magnitude, for formats whose weights are integers. A template:
 * a format_*.h includes it, before tile.h, and defines also
 *
 *     FORMAT(put)(to, a)       VEC_WIDTH integers to 2 * VEC_WIDTH bytes, as FORMAT(spread) reads them
 *     FORMAT(offset)(a)        what of them to sum up, times -FORMAT_OFFSET, for row_code.start
 *
 * Each row has a scale of its own, so that no other row changes it. Not finite numbers leave it: a row with a NaN, or
 * more than one infinity, gets NaN as its scale, and so gives NaN. One infinity outweighs whatever else there is: it
 * becomes 1 or -1, everything else 0, and the scale infinite: what it is multiplied by gives infinities of their
 * signs, and NaN where it is 0, as in floats. */

#define FORMAT_ENCODES

static size_t FORMAT(encoded_bytes)(size_t depth, size_t rows)
{
    size_t chain = FORMAT_CHAIN * (WORD / FORMAT_ITEM), chains = (depth + chain - 1) / chain;
    return rows * (encoded_row_bytes(depth) + chains * sizeof(row_code));
}

/* a * inverse, rounded to the nearest integer, into `to`; the bits of the largest magnitude of a. */
INLINE uint32_t FORMAT(encode_finite)(const float *a, size_t depth, float scale, float inverse, char *to,
                                      row_code *codes)
{
    const size_t chain = FORMAT_CHAIN * (WORD / FORMAT_ITEM);
    vec_int most = vi_set1(0);
    for (size_t k = 0; k < depth; codes++) {
        size_t end = smaller(k + chain, depth);
        vec_int sum = vi_set1(0);
        for (; k < end; k += VEC_WIDTH) {
            vec part = row_part(a, k, depth);
            vec_int code = vi_round(v_mul(part, v_set1(inverse)));
            most = vi_max(most, vi_bits(v_abs(part)));
            sum = vi_add(sum, FORMAT(offset)(code));
            FORMAT(put)(to + 2 * k, code);
        }
        *codes = (row_code){scale, (int32_t)(0u - FORMAT_OFFSET * lane_sum(sum))};
    }
    return lane_most(most);
}

static void FORMAT(encode_infinite)(const float *a, size_t depth, char *to, row_code *codes)
{
    float signs[VEC_WIDTH] __attribute__((aligned(ALIGNMENT))), scale = infinite_scale(a, depth);
    const size_t chain = FORMAT_CHAIN * (WORD / FORMAT_ITEM);
    for (size_t k = 0; k < depth; codes++) {
        size_t end = smaller(k + chain, depth), infinities = 0;
        vec_int sum = vi_set1(0);
        for (; k < end; k += VEC_WIDTH) {
            for (size_t i = 0; i < VEC_WIDTH; i++) {
                signs[i] = k + i < depth && isinf(a[k + i]) ? copysignf(1.0f, a[k + i]) : 0.0f;
                infinities += signs[i] != 0.0f;
            }
            vec_int code = vi_round(v_load(signs));
            sum = vi_add(sum, FORMAT(offset)(code));
            FORMAT(put)(to + 2 * k, code);
        }
        /* a chain without it gives 0 */
        *codes = (row_code){isnan(scale) || infinities ? scale : 0.0f, (int32_t)(0u - FORMAT_OFFSET * lane_sum(sum))};
    }
}

static operand FORMAT(encode)(const float *a, size_t lda, size_t rows, size_t depth, float least, char *to)
{
    const size_t chain = FORMAT_CHAIN * (WORD / FORMAT_ITEM), chains = (depth + chain - 1) / chain;
    size_t stride = encoded_row_bytes(depth);
    row_code *codes = (row_code *)(to + rows * stride);
    for (size_t m = 0; m < rows; m++) {
        const float *row = a + m * lda;
        char *out = to + m * stride;
        row_code *code = codes + m * chains;
        uint32_t most;
        if (least > 0.0f) {     /* nearly always no number is larger */
            most = FORMAT(encode_finite)(row, depth, least / MOST_CODE, MOST_CODE / least, out, code);
            if (most <= float_bits(least))
                continue;
        } else {
            most = row_most(row, depth);
        }
        float largest = bits_float(most);
        if (most >= float_bits(INFINITY))
            FORMAT(encode_infinite)(row, depth, out, code);
        else if (largest < NEGLIGIBLE)
            FORMAT(encode_finite)(row, depth, 0.0f, 0.0f, out, code);
        else
            FORMAT(encode_finite)(row, depth, largest / MOST_CODE, MOST_CODE / largest, out, code);
    }
    return (operand){to, stride, codes, chains};
}
