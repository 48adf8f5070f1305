/* Checks the SIMD engine's C kernels, on every instruction set this CPU has. Built and run by test_simd_check.py.
 *
 *     simd_check cells [count]         random shapes of every cell, `count` of each
 *     simd_check activation [stride]   sigmoid and tanh of every stride-th float; prints the largest error in ULP
 *
 * Every array ends (or begins) at a page that may not be touched, so that reading or writing past it faults.
 * Prints what it did; the first failure is printed and ends the program with status 1.
 */
#define _DEFAULT_SOURCE
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kernels/simd.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint64_t seed = 1;

static uint32_t random_bits(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static size_t pick(const size_t *from, size_t n) { return from[random_bits() % n]; }

/* uniform in (-scale, scale) */
static float uniform(float scale) { return scale * ((float)random_bits() / 1073741824.0f - 1.0f); }

/* Guarded memory: pages with a forbidden page on either side. */
static struct {
    void *base;
    size_t bytes;
} pages[256];
static size_t page_count;
static int ended;       /* runs that ended early */

static void *guarded_bytes(size_t bytes, int at_end)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (bytes + page - 1) / page * page + (bytes == 0) * page;
    char *base = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + page, inside, PROT_READ | PROT_WRITE) || page_count == COUNT(pages)) {
        printf("cannot map %zu bytes\n", bytes);
        exit(2);
    }
    pages[page_count].base = base;
    pages[page_count++].bytes = inside + 2 * page;
    return base + page + (at_end ? inside - bytes : 0);
}

static void unmap_from(size_t first)
{
    while (page_count > first) {
        page_count--;
        munmap(pages[page_count].base, pages[page_count].bytes);
    }
}

static float *guarded(size_t n) { return guarded_bytes(n * sizeof(float), random_bits() % 4 != 0); }

static float *guarded_copy(const float *from, size_t n) { return memcpy(guarded(n), from, n * sizeof(float)); }

static float *guarded_random(size_t n, float scale)
{
    float *p = guarded(n);
    for (size_t i = 0; i < n; i++)
        p[i] = uniform(scale);
    return p;
}

/* The cells, in double, one row, straight from torch's documentation. */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double dot(const float *w, const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += w[i] * x[i];
    return sum;
}

static double bias(const float *b, size_t i) { return b ? b[i] : 0; }

/* x (I), h (P), c (H): one step */
static void reference_step(const fr_params *p, const double *x, double *h, double *c)
{
    size_t I = p->input_size, H = p->hidden_size, P = p->proj_size ? p->proj_size : H;
    size_t G = p->cell == FR_LSTM ? 4 : p->cell == FR_GRU ? 3 : 1;
    const float *w_ih = p->w_ih, *w_hh = p->w_hh, *b_ih = p->b_ih, *b_hh = p->b_hh, *w_hr = p->w_hr;
    double *a = malloc(G * H * sizeof *a), *b = malloc(G * H * sizeof *b), *out = malloc(H * sizeof *out);
    for (size_t i = 0; i < G * H; i++) {
        a[i] = bias(b_ih, i) + dot(w_ih + i * I, x, I);
        b[i] = bias(b_hh, i) + dot(w_hh + i * P, h, P);
    }
    if (p->cell == FR_GRU && !p->reset_after) {
        double *rh = malloc(H * sizeof *rh);
        for (size_t j = 0; j < H; j++)
            rh[j] = sigmoid(a[j] + b[j]) * h[j];
        for (size_t j = 0; j < H; j++)
            b[2 * H + j] = bias(b_hh, 2 * H + j) + dot(w_hh + (2 * H + j) * P, rh, H);
        free(rh);
    }
    for (size_t j = 0; j < H; j++) {
        if (p->cell == FR_LSTM) {
            c[j] = sigmoid(a[H + j] + b[H + j]) * c[j] + sigmoid(a[j] + b[j]) * tanh(a[2 * H + j] + b[2 * H + j]);
            out[j] = sigmoid(a[3 * H + j] + b[3 * H + j]) * tanh(c[j]);
        } else if (p->cell == FR_GRU) {
            double r = p->reset_after ? sigmoid(a[j] + b[j]) : 1, z = sigmoid(a[H + j] + b[H + j]);
            out[j] = (1 - z) * tanh(a[2 * H + j] + r * b[2 * H + j]) + z * h[j];
        } else {
            out[j] = p->relu ? fmax(a[j] + b[j], 0) : tanh(a[j] + b[j]);
        }
    }
    for (size_t j = 0; j < P; j++)
        h[j] = w_hr ? dot(w_hr + j * H, out, H) : out[j];
    free(a);
    free(b);
    free(out);
}

/* One random case: weights, and a ragged batch of sequences. */

typedef struct {
    fr_isa isa;
    const char *cell;
    fr_params p;
    fr_params floats;           /* the same with the weights that p's stand for, as floats */
    size_t T, B, I, H, P;
    ptrdiff_t *rows;            /* (T) or NULL */
    int reverse;
    fr_layer *layer;
    const float *x, *h, *c;     /* (T, B, I), (B, P), (B, H) */
} check_case;

static void fail(const check_case *k, const char *what, size_t row)
{
    printf("%s %s %s I=%zu H=%zu P=%zu T=%zu B=%zu%s%s, row %zu: %s\n", fr_isa_name(k->isa), k->cell,
           (const char *[]){"float32", "int8", "int16"}[k->p.weights], k->I, k->H, k->P,
           k->T, k->B, k->rows ? " ragged" : "", k->reverse ? " reverse" : "", row, what);
    exit(1);
}

/* Steps row m lives. */
static size_t length(const check_case *k, size_t m)
{
    size_t n = 0;
    while (n < k->T && (!k->rows || (size_t)k->rows[n] > m))
        n++;
    return n;
}

/* A run over guarded copies, with scratch full of NaN. x and the results are the caller's. */
static void run(const check_case *k, size_t T, size_t B, const ptrdiff_t *rows, const float *x, float *y,
                size_t y_stride, float *h, float *c)
{
    size_t bytes = k->layer->scratch_bytes(k->layer, T, B);
    void *scratch = memset(guarded_bytes((bytes + 63) / 64 * 64, 1), 0xff, bytes);
    const fr_run r = {.steps = T, .batch = B, .rows = rows, .reverse = k->reverse, .x = x, .y = y, .y_stride = y_stride,
                      .h = h, .c = k->p.cell == FR_LSTM ? c : NULL, .scratch = scratch};
    k->layer->run(k->layer, &r);
}

static int same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof(float)) == 0; }

static void check_reference(const check_case *k, const float *y, size_t stride, size_t m)
{
    size_t n = length(k, m);
    double x[512], h[512], c[512];
    double tolerance = k->p.weights == FR_REAL ? 2e-6 : 1e-3;   /* rows have 12 bits beside integers */
    for (size_t j = 0; j < k->P; j++)
        h[j] = k->h[m * k->P + j];
    for (size_t j = 0; j < k->H; j++)
        c[j] = k->c[m * k->H + j];
    for (size_t i = 0; i < n; i++) {
        size_t t = k->reverse ? n - 1 - i : i;
        for (size_t j = 0; j < k->I; j++)
            x[j] = k->x[(t * k->B + m) * k->I + j];
        reference_step(&k->floats, x, h, c);
        for (size_t j = 0; j < k->P; j++)
            if (!(fabs(y[(t * k->B + m) * stride + j] - h[j]) <= tolerance * (double)(i + 1) * (1 + fabs(h[j]))))
                fail(k, "far from the reference in double", m);
    }
}

/* Row m on its own, in one run per piece of time: the same bits? */
static void check_alone(const check_case *k, const float *y, size_t stride, const float *h_end, const float *c_end,
                        size_t m, size_t piece)
{
    size_t n = length(k, m);
    float *h = guarded_copy(k->h + m * k->P, k->P), *c = guarded_copy(k->c + m * k->H, k->H);
    for (size_t done = 0; done < n; done += piece) {
        size_t now = n - done < piece ? n - done : piece, first = k->reverse ? n - done - now : done;
        float *x = guarded(now * k->I), *out = guarded(now * k->P);
        for (size_t t = 0; t < now; t++)
            memcpy(x + t * k->I, k->x + ((first + t) * k->B + m) * k->I, k->I * sizeof(float));
        run(k, now, 1, NULL, x, out, k->P, h, c);
        for (size_t t = 0; t < now; t++)
            if (!same(out + t * k->P, y + ((first + t) * k->B + m) * stride, k->P))
                fail(k, "y differs from the row's run alone", m);
    }
    if (!same(h, h_end + m * k->P, k->P) || (k->p.cell == FR_LSTM && !same(c, c_end + m * k->H, k->H)))
        fail(k, "the last state differs from the row's run alone", m);
}

/* With one row's input NaN, infinite or huge: every other row has the same bits. */
static void check_isolated(const check_case *k, const float *h_end, size_t bad)
{
    const float poison[] = {NAN, INFINITY, -INFINITY, 1e30f};
    float *x = guarded_copy(k->x, k->T * k->B * k->I), *h = guarded_copy(k->h, k->B * k->P);
    float *c = guarded_copy(k->c, k->B * k->H);
    for (size_t t = 0; t < k->T; t++)
        for (size_t j = 0; j < k->I; j++)
            x[(t * k->B + bad) * k->I + j] = poison[random_bits() % COUNT(poison)];
    h[bad * k->P] = NAN;
    run(k, k->T, k->B, k->rows, x, NULL, k->P, h, c);
    for (size_t m = 0; m < k->B; m++)
        if (m != bad && !same(h + m * k->P, h_end + m * k->P, k->P))
            fail(k, "a poisoned batch-mate changed it", m);
}

static int sometimes(fr_watch *watch)
{
    (void)watch;
    return random_bits() % 4 == 0;
}

/* A run that is ended early, if it is long enough, or not: x is left alone, the rest may be anything. */
static void check_ended(const check_case *k)
{
    size_t first_page = page_count, bytes = k->layer->scratch_bytes(k->layer, k->T, k->B);
    float *h = guarded_copy(k->h, k->B * k->P), *c = guarded_copy(k->c, k->B * k->H);
    fr_watch watch = {.wants_end = sometimes};
    const fr_run r = {.steps = k->T, .batch = k->B, .rows = k->rows, .reverse = k->reverse, .x = k->x,
                      .y = guarded(k->T * k->B * k->P), .y_stride = k->P, .h = h, .c = k->p.cell == FR_LSTM ? c : NULL,
                      .scratch = guarded_bytes((bytes + 63) / 64 * 64, 1), .watch = &watch};
    k->layer->run(k->layer, &r);
    ended += watch.ended;
    unmap_from(first_page);
}

static void check(check_case *k)
{
    size_t first_page = page_count, stride = k->P + random_bits() % 3, piece = 1 + random_bits() % k->T;
    float *h = guarded_copy(k->h, k->B * k->P), *c = guarded_copy(k->c, k->B * k->H);
    float *y = guarded(k->T * k->B * stride);
    for (size_t i = 0; i < k->T * k->B * stride; i++)
        y[i] = 7;
    run(k, k->T, k->B, k->rows, k->x, y, stride, h, c);
    for (size_t t = 0; t < k->T; t++)
        for (size_t m = 0; m < k->B; m++)
            for (size_t j = t < length(k, m) ? k->P : 0; j < stride; j++)
                if (y[(t * k->B + m) * stride + j] != 7)
                    fail(k, "wrote to y where no row lives, or between rows", m);
    for (size_t m = 0, n = 0; m < k->B && n < 6; m += 1 + random_bits() % (1 + k->B / 4), n++) {
        size_t row_page = page_count;
        check_reference(k, y, stride, m);
        check_alone(k, y, stride, h, c, m, k->T);
        check_alone(k, y, stride, h, c, m, piece);
        unmap_from(row_page);
    }
    check_isolated(k, h, random_bits() % k->B);
    check_ended(k);
    unmap_from(first_page);
}

/* The cells. */
static const struct {
    const char *name;
    fr_params p;
    int projected;
} cells[] = {
    {"lstm", {.cell = FR_LSTM}, 0},
    {"lstm projected", {.cell = FR_LSTM}, 1},
    {"gru", {.cell = FR_GRU, .reset_after = 1}, 0},
    {"gru reset before", {.cell = FR_GRU}, 0},
    {"rnn tanh", {.cell = FR_RNN}, 0},
    {"rnn relu", {.cell = FR_RNN, .relu = 1}, 0},
};

/* Around the vector, panel, block and chain widths, the tiles' rows, and the group of rows. */
static const size_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 65, 100, 127, 128, 129, 130, 200, 257};
static const size_t batches[] = {1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 17, 23, 25, 32, 48, 49, 96, 97, 130, 193};

/* The weights w (rows, depth) as the integers of p.weights, and their scales; w is made what they stand for. */
static const void *integers(const fr_params *p, float *w, size_t rows, size_t depth, const float **scales)
{
    const float largest = p->weights == FR_INT8 ? 127 : 4095;
    float *scale = guarded(rows);
    int8_t *bytes = guarded_bytes(rows * depth * (p->weights == FR_INT8 ? 1 : 2), 1);
    for (size_t i = 0; i < rows; i++) {
        float peak = 0;
        for (size_t j = 0; j < depth; j++)
            peak = fmaxf(peak, fabsf(w[i * depth + j]));
        scale[i] = random_bits() % 50 ? peak / largest : 0;
        for (size_t j = 0; j < depth; j++) {
            float code = scale[i] ? rintf(w[i * depth + j] / scale[i]) : largest;
            if (p->weights == FR_INT8)
                bytes[i * depth + j] = (int8_t)code;
            else
                ((int16_t *)bytes)[i * depth + j] = (int16_t)code;
            w[i * depth + j] = scale[i] * code;
        }
    }
    *scales = scale;
    return bytes;
}

static void check_random(fr_isa isa, size_t cell)
{
    size_t first_page = page_count;
    check_case k = {.isa = isa, .cell = cells[cell].name, .p = cells[cell].p};
    k.I = pick(sizes, COUNT(sizes));
    k.H = pick(sizes, COUNT(sizes));
    k.P = cells[cell].projected ? 1 + random_bits() % k.H : k.H;
    k.B = pick(batches, COUNT(batches));
    k.T = k.B > 13 ? 1 + random_bits() % 3 : 1 + random_bits() % 40;
    k.reverse = random_bits() % 2;
    size_t gates = k.p.cell == FR_LSTM ? 4 : k.p.cell == FR_GRU ? 3 : 1, n = gates * k.H;
    int biased = random_bits() % 4 != 0;
    k.p.input_size = k.I;
    k.p.hidden_size = k.H;
    float *w_ih = guarded_random(n * k.I, 1 / sqrtf((float)k.I)), *w_hr = NULL;
    float *w_hh = guarded_random(n * k.P, 1 / sqrtf((float)k.P));
    k.p.w_ih = w_ih;
    k.p.w_hh = w_hh;
    k.p.b_ih = biased ? guarded_random(n, 1) : NULL;
    k.p.b_hh = biased ? guarded_random(n, 1) : NULL;
    if (cells[cell].projected) {
        k.p.proj_size = k.P;
        k.p.w_hr = w_hr = guarded_random(k.P * k.H, 1 / sqrtf((float)k.H));
    }
    k.floats = k.p;
    k.p.weights = k.floats.weights = random_bits() % 3;
    if (k.p.weights != FR_REAL) {
        k.p.w_ih = integers(&k.p, w_ih, n, k.I, &k.p.scale_ih);
        k.p.w_hh = integers(&k.p, w_hh, n, k.P, &k.p.scale_hh);
        if (w_hr)
            k.p.w_hr = integers(&k.p, w_hr, k.P, k.H, &k.p.scale_hr);
    }
    if (random_bits() % 2) {
        k.rows = guarded_bytes(k.T * sizeof *k.rows, 1);
        for (size_t t = 0, live = k.B; t < k.T; t++) {
            live -= random_bits() % 3 == 0 ? random_bits() % (live + 1) : 0;
            k.rows[t] = (ptrdiff_t)live;
        }
    }
    k.x = guarded_random(k.T * k.B * k.I, 2);
    k.h = guarded_random(k.B * k.P, 1);
    k.c = guarded_random(k.B * k.H, 1);
    k.p.threads = 1 + random_bits() % 3;
    k.layer = fr_simd_pack(&k.p, isa);
    if (!k.layer)
        fail(&k, "out of memory", 0);
    check(&k);
    k.layer->destroy(k.layer);
    unmap_from(first_page);
}

/* Error of got in units of the last place of the float nearest to want. Where that is below FLT_MIN, so may got be. */
static double ulps(float got, double want)
{
    if (isnan(want))
        return isnan(got) ? 0 : INFINITY;
    if (got == want || (fabs(want) < FLT_MIN && fabsf(got) <= FLT_MIN))
        return 0;
    return fabs(got - want) / ldexp(1, ilogb(want) - 23);
}

static int check_activation(fr_isa isa, int is_tanh, uint64_t stride)
{
    static float x[4096] __attribute__((aligned(64))), y[4096] __attribute__((aligned(64)));
    double worst = 0;
    float at = 0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
        for (size_t i = 0; i < COUNT(x); i++, bits += stride) {
            uint32_t b = (uint32_t)(bits < UINT32_MAX ? bits : UINT32_MAX);
            memcpy(&x[i], &b, 4);
        }
        fr_simd_activate(isa, is_tanh, x, y, COUNT(x));
        for (size_t i = 0; i < COUNT(x); i++) {
            double error = ulps(y[i], is_tanh ? tanh(x[i]) : sigmoid(x[i]));
            if (error > worst)
                worst = error, at = x[i];
            if (is_tanh && fabsf(x[i]) < FLT_MIN && memcmp(&x[i], &y[i], 4)) {
                printf("%s: tanh of the subnormal or zero %a is %a\n", fr_isa_name(isa), x[i], y[i]);
                return 1;
            }
        }
    }
    const float edge[16] __attribute__((aligned(64))) = {INFINITY, -INFINITY, NAN, 0.0f, -0.0f};
    const float right[2][5] = {{1, 0, NAN, 0.5f, 0.5f}, {1, -1, NAN, 0.0f, -0.0f}};
    fr_simd_activate(isa, is_tanh, edge, y, 16);
    for (size_t i = 0; i < 5; i++)
        if (isnan(edge[i]) ? !isnan(y[i]) : y[i] != right[is_tanh][i] || signbit(y[i]) != signbit(right[is_tanh][i])) {
            printf("%s: %s(%g) is %g\n", fr_isa_name(isa), is_tanh ? "tanh" : "sigmoid", edge[i], y[i]);
            return 1;
        }
    printf("%s: %s within %.2f ULP, at %a\n", fr_isa_name(isa), is_tanh ? "tanh" : "sigmoid", worst, at);
    return worst > 2.5;
}

int main(int argc, char **argv)
{
    int activation = argc > 1 && strcmp(argv[1], "activation") == 0, failed = 0;
    uint64_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : activation ? 4099 : 40;
    for (int isa = 0; isa < FR_ISA_COUNT; isa++) {
        if (!fr_isa_supported((fr_isa)isa)) {
            printf("%s: not supported here\n", fr_isa_name((fr_isa)isa));
            continue;
        }
        if (activation) {
            failed |= check_activation((fr_isa)isa, 0, number) | check_activation((fr_isa)isa, 1, number);
            continue;
        }
        for (size_t cell = 0; cell < COUNT(cells); cell++)
            for (uint64_t i = 0; i < number; i++)
                check_random((fr_isa)isa, cell);
        printf("%s: %zu cells, %zu cases each, %d ended early\n", fr_isa_name((fr_isa)isa), COUNT(cells),
               (size_t)number, ended);
    }
    return failed;
}
