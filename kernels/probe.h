/* What one core can do with this instruction set's vectors: the limit that the kernels are measured against. */

#define PROBE_SUMS 12   /* independent sums: enough to hide the latency, few enough for 16 registers */
#define PROBE_SUMS_INT8 8
#define PROBE_READS 8   /* vectors in flight */

static volatile float probe_sink;   /* keeps results, and so their computation, alive */

/* Multiplies and adds, `rounds` times; returns the number of flops. */
static double probe_multiply_adds(size_t rounds)
{
    vec sum[PROBE_SUMS], a = v_set1(1.0f - 1e-7f * probe_sink), b = v_set1(1e-9f);
    UNROLL
    for (int i = 0; i < PROBE_SUMS; i++)
        sum[i] = v_mul(b, v_set1((float)i));
    for (size_t k = 0; k < rounds; k++) {
        UNROLL
        for (int i = 0; i < PROBE_SUMS; i++)
            sum[i] = v_fma(sum[i], a, b);
    }
    UNROLL
    for (int i = 1; i < PROBE_SUMS; i++)
        sum[0] = v_add(sum[0], sum[i]);
    float out[VEC_WIDTH];
    v_storeu(out, sum[0]);
    probe_sink = out[0] * 1e-30f;
    return 2.0 * PROBE_SUMS * VEC_WIDTH * (double)rounds;
}

/* The same with int8 weights, already decoded. */
static double probe_multiply_adds_int8(size_t rounds)
{
    char line[16 * WORD] __attribute__((aligned(ALIGNMENT)));
    memset(line, (int)probe_sink, sizeof line);
    sum_int8 sum[PROBE_SUMS_INT8];
    weight_int8 weight = load_int8(line);
    input_int8 a = spread_int8(line);
    UNROLL
    for (int i = 0; i < PROBE_SUMS_INT8; i++)
        sum[i] = zero_int8();
    for (size_t k = 0; k < rounds; k++) {
        UNROLL
        for (int i = 0; i < PROBE_SUMS_INT8; i++) {
            sum[i] = madd_int8(sum[i], weight, a);
            other_int8(&weight);
        }
    }
    vec_int all = total_int8(sum[0]);
    UNROLL
    for (int i = 1; i < PROBE_SUMS_INT8; i++)
        all = vi_add(all, total_int8(sum[i]));
    probe_sink = (float)lane_sum(all) * 1e-30f;
    return 2.0 * 4 * PROBE_SUMS_INT8 * VEC_WIDTH * (double)rounds;
}

/* The `streams` parts of p (n floats) side by side, as the panels of gates are read. */
INLINE void probe_streams(const float *p, size_t n, int streams)
{
    const int each = PROBE_READS / streams;
    const size_t part = n / (size_t)streams;
    vec sum[PROBE_READS];
    UNROLL
    for (int i = 0; i < PROBE_READS; i++)
        sum[i] = v_set1(0.0f);
    for (const float *end = p + part; p < end; p += each * VEC_WIDTH) {
        UNROLL
        for (int i = 0; i < PROBE_READS; i++)
            sum[i] = v_add(sum[i], v_load(p + (size_t)(i / each) * part + (i % each) * VEC_WIDTH));
    }
    UNROLL
    for (int i = 1; i < PROBE_READS; i++)
        sum[0] = v_add(sum[0], sum[i]);
    float out[VEC_WIDTH];
    v_storeu(out, sum[0]);
    probe_sink = out[0];
}

static void probe_read(const float *p, size_t n, int streams, size_t repeats)
{
    for (size_t i = 0; i < repeats; i++) {
        if (streams == 1)
            probe_streams(p, n, 1);
        else
            probe_streams(p, n, 4);
    }
}

const fr_probe ISA(fr_simd_probe) = {probe_multiply_adds, probe_multiply_adds_int8, probe_read};
