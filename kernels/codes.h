/* What encoding a row of floats as integers takes, whatever the format: see encode.h. */

/* h needs 12 bits and a sign for the error of its rounding to be small beside that of 8-bit weights; 4095 * 127 * 4096
 * and 4095 * 4095 * 128, the sums of the longest chains, are below 2^31. */
#define MOST_CODE 4095

/* A row of smaller numbers counts as zeros: 4095 over them might not be finite. */
#define NEGLIGIBLE 0x1p-100f

static uint32_t float_bits(float a)
{
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}

/* Two bytes a number, in whole vectors. */
static size_t encoded_row_bytes(size_t depth) { return 2 * round_up(depth, VEC_WIDTH); }

/* a[k .. k + VEC_WIDTH), zeros from depth on */
INLINE vec row_part(const float *a, size_t k, size_t depth)
{
    if (depth - k >= VEC_WIDTH)
        return v_loadu(a + k);
    float part[VEC_WIDTH] __attribute__((aligned(ALIGNMENT))) = {0};
    memcpy(part, a + k, (depth - k) * sizeof *part);
    return v_load(part);
}

/* Where a sum begins. Opaque, or clang sets a tile's sums by memset and keeps them in memory for it. */
INLINE vec_int vi_zero(void)
{
    vec_int zero = vi_set1(0);
    KEEP_ORDER(zero);
    return zero;
}

/* Of a row that is not all finite it is the sum of anything, and wraps round. */
INLINE uint32_t lane_sum(vec_int a)
{
    int32_t lanes[VEC_WIDTH] __attribute__((aligned(ALIGNMENT)));
    uint32_t sum = 0;
    vi_store(lanes, a);
    for (size_t i = 0; i < VEC_WIDTH; i++)
        sum += (uint32_t)lanes[i];
    return sum;
}

INLINE uint32_t lane_most(vec_int a)
{
    int32_t lanes[VEC_WIDTH] __attribute__((aligned(ALIGNMENT))), most = 0;
    vi_store(lanes, a);
    for (size_t i = 0; i < VEC_WIDTH; i++)
        most = most < lanes[i] ? lanes[i] : most;
    return (uint32_t)most;
}

/* The bits of the largest magnitude: from those of INFINITY on, not all are finite. */
static uint32_t row_most(const float *a, size_t depth)
{
    vec_int most = vi_set1(0);
    for (size_t k = 0; k < depth; k += VEC_WIDTH)
        most = vi_max(most, vi_bits(v_abs(row_part(a, k, depth))));
    return lane_most(most);
}

/* Of a row that is not all finite. */
static float infinite_scale(const float *a, size_t depth)
{
    size_t infinities = 0;
    for (size_t k = 0; k < depth; k++) {
        if (isnan(a[k]))
            return NAN;
        infinities += isinf(a[k]) != 0;
    }
    return infinities == 1 ? INFINITY : NAN;
}

typedef struct {
    vec scale;
    vec_int start;
} vec_code;

INLINE vec_code spread_code(const row_code *code) { return (vec_code){v_set1(code->scale), vi_set1(code->start)}; }

/* A chain's integers as floats: added to `from`, after the row's and the column's scales, in this order. */
INLINE vec add_codes(vec from, vec_int sum, const char *header, vec_code code)
{
    vec scaled = v_mul(vi_float(vi_add(sum, code.start)), code.scale);
    return v_fma(scaled, v_load((const float *)(header + LINE)), from);
}
