/* How near the SIMD engine comes to this machine's limit, one thread.
 *
 *     gcc -O3 -ffp-contract=off -o step bench/step.c kernels/simd*.c kernels/{cpu,team}.c -lm && ./step avx2 lstm
 *
 * Limit of a step = max(packed weight bytes / read bandwidth at that working-set size, flops / FMA peak);
 * of a sequence, the x part (weights read once) plus T times the h part. Bandwidth, peak and the
 * engine are timed in turn, round by round, in CPU time of the thread; printed are medians, of the fraction over the
 * rounds' own. A hyperthread busy beside this one costs the engine up to a quarter, and the FMA peak nothing.
 */
#define _DEFAULT_SOURCE     /* madvise */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../kernels/simd.h"

#define MIN_ROUNDS 7
#define MAX_ROUNDS 101
#define CASE_SECONDS 0.4
#define SAMPLE_SECONDS 1e-4
#define READ_UNIT (PROBE_FLOATS * sizeof(float))

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    fr_layer *layer;
    fr_run run;
    const fr_probe *probe;
    const float *read;      /* timed reads: `bytes` of it */
    size_t bytes;
} work;

static void do_run(work *w) { w->layer->run(w->layer, &w->run); }
static void do_read(work *w) { w->probe->read(w->read, w->bytes / sizeof *w->read, 4, 1); }
static void do_fma(work *w) { w->probe->multiply_adds(2000); }

/* seconds of one call, the caches warmed by one before */
static double once(void (*f)(work *), work *w)
{
    double start = now();
    f(w);
    size_t calls = 1 + (size_t)(SAMPLE_SECONDS / (now() - start + 1e-7));
    f(w);
    start = now();
    for (size_t i = 0; i < calls; i++)
        f(w);
    return (now() - start) / (double)calls;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return v[n / 2];
}

/* in huge pages where it is worth it, as the engine has its weights */
static float *floats(size_t n, float scale)
{
    size_t unit = n * sizeof(float) >= 2 << 20 ? 2 << 20 : 64, bytes = (n * sizeof(float) / unit + 1) * unit;
    float *p = aligned_alloc(unit, bytes);
#if defined(__linux__)
    if (unit > 64)
        madvise(p, bytes, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < n; i++)
        p[i] = scale * ((float)rand() / (float)RAND_MAX - 0.5f);
    return p;
}

static const char *const cells[] = {"lstm", "gru", "rnn"};     /* by fr_cell */

static void measure(fr_isa isa, fr_cell cell, size_t steps, size_t batch, size_t size)
{
    size_t gates = cell == FR_LSTM ? 4 : cell == FR_GRU ? 3 : 1, rows = gates * size;
    float scale = 2 / sqrtf((float)size);
    float *w_ih = floats(rows * size, scale), *w_hh = floats(rows * size, scale), *b = floats(rows, scale);
    fr_params p = {.cell = cell, .reset_after = 1, .input_size = size, .hidden_size = size,
                   .w_ih = w_ih, .w_hh = w_hh, .b_ih = b, .b_hh = b};
    fr_layer *layer = fr_simd_pack(&p, isa);
    float *x = floats(steps * batch * size, 2), *h = floats(batch * size, 1), *c = floats(batch * size, 1);
    float *y = floats(steps * batch * size, 0), *scratch = floats(layer->scratch_bytes(layer, steps, batch) / 4, 0);
    work w = {layer, {.steps = steps, .batch = batch, .x = x, .y = y, .y_stride = size, .h = h, .c = c, .scratch = scratch},
              fr_simd_probe(isa), NULL, 0};
    size_t all = layer->packed_bytes / READ_UNIT * READ_UNIT;
    float *memory = floats(all / 4, 1);
    w.read = memory;
    double flops = 2.0 * (double)(gates * size * size * batch);     /* of the x part, and of the h part */
    double flops_of_fma = w.probe->multiply_adds(2000);
    double fraction[MAX_ROUNDS], time[MAX_ROUNDS], speed[MAX_ROUNDS], bandwidth[MAX_ROUNDS], start = now();
    size_t n = 0;
    for (; n < MIN_ROUNDS || (n < MAX_ROUNDS && now() - start < CASE_SECONDS); n++) {
        double per_flop = once(do_fma, &w) / flops_of_fma, limit;
        w.bytes = all;
        double read = once(do_read, &w);
        if (steps == 1) {
            limit = fmax(read, 2 * flops * per_flop);
        } else {
            limit = fmax(read / 2, (double)steps * flops * per_flop);
            w.bytes = all / 2 / READ_UNIT * READ_UNIT;
            limit += (double)steps * fmax(once(do_read, &w), flops * per_flop);
        }
        time[n] = once(do_run, &w);
        fraction[n] = limit / time[n];
        speed[n] = 1e-9 / per_flop;
        bandwidth[n] = 1e-9 * (double)all / read;
    }
    printf("%-7s %-4s T=%-4zu B=%-4zu H=%-5zu %10.2f us  %5.2f of limit   (%.0f GFLOP/s peak, %.0f GB/s at %zu KB)\n",
           fr_isa_name(isa), cells[cell], steps, batch, size, 1e6 * median(time, n), median(fraction, n),
           median(speed, n), median(bandwidth, n), all / 1024);
    fflush(stdout);
    layer->destroy(layer);
    float *all_arrays[] = {w_ih, w_hh, b, x, h, c, y, scratch, memory};
    for (size_t i = 0; i < sizeof all_arrays / sizeof *all_arrays; i++)
        free(all_arrays[i]);
}

#define GRID(...) {(const size_t[]){__VA_ARGS__}, sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t)}

/* step [isa [cell [T [B [H]]]]]: a 0, or nothing, means the CPU's best ISA, every cell, and the grid's values */
int main(int argc, char **argv)
{
    typedef struct { const size_t *of; size_t count; } grid;
    const grid lengths = GRID(1, 100), sizes = GRID(32, 64, 128, 256, 512, 1024);
    const grid step_batches = GRID(1, 4, 16, 64, 256), sequence_batches = GRID(1, 4, 32);
    const char *asked[] = {"0", "0"};       /* ISA, cell */
    size_t only[3] = {0};                   /* T, B, H */
    for (int i = 1; i < argc && i < 6; i++) {
        if (i < 3)
            asked[i - 1] = argv[i];
        else
            only[i - 3] = strtoul(argv[i], NULL, 10);
    }
    int isa = fr_isa_best();
    if (strcmp(asked[0], "0"))
        for (isa = 0; isa < FR_ISA_COUNT && strcmp(asked[0], fr_isa_name((fr_isa)isa)); isa++)
            ;
    if (isa == FR_ISA_COUNT || !fr_isa_supported((fr_isa)isa)) {
        fprintf(stderr, "no instruction set %s on this CPU\n", asked[0]);
        return 1;
    }
    for (int cell = FR_LSTM; cell <= FR_RNN; cell++) {
        if (strcmp(asked[1], "0") && strcmp(asked[1], cells[cell]))
            continue;
        const grid t = only[0] ? (grid){&only[0], 1} : lengths, h = only[2] ? (grid){&only[2], 1} : sizes;
        for (size_t i = 0; i < t.count; i++) {
            const grid b = only[1] ? (grid){&only[1], 1} : t.of[i] == 1 ? step_batches : sequence_batches;
            for (size_t j = 0; j < b.count; j++)
                for (size_t k = 0; k < h.count; k++)
                    measure((fr_isa)isa, (fr_cell)cell, t.of[i], b.of[j], h.of[k]);
        }
    }
    return 0;
}
