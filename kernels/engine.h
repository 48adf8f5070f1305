/* The seam between the Cython boundary (core.pyx) and the engines (blas.pyx, simd.h).
 *
 * An engine packs the weights of one layer and one direction into an object that begins
 * with `fr_layer`, and runs it over a whole sequence through `fr_layer.run`. Everything
 * above (stacking, directions, checking, the GIL) is written once, in core.pyx.
 *
 * A layer is immutable after packing: any number of threads may run it at once, each
 * with its own `fr_run`. Buffers hold `real`: float for FR_FLOAT32, double for FR_FLOAT64.
 * They are aligned to the size of `real` only, and may hold NaN, infinities or denormals.
 */
#ifndef FASTRNN_ENGINE_H
#define FASTRNN_ENGINE_H

#include <stddef.h>

typedef enum { FR_LSTM, FR_GRU, FR_RNN } fr_cell;
typedef enum { FR_FLOAT32, FR_FLOAT64 } fr_dtype;

/* How weights are stored. FR_REAL: in the dtype that is computed in. The others, of the SIMD engine, are integers with
 * a scale for each output row: of at most 127 (int8), of at most 4095 (int16). */
typedef enum { FR_REAL, FR_INT8, FR_INT16 } fr_weights;

/* One layer, one direction, as torch names and lays it out. G gates: LSTM 4 (i, f, g, o),
 * GRU 3 (r, z, n), RNN 1. P = proj_size where there is one, else hidden_size. */
typedef struct {
    fr_cell cell;
    fr_dtype dtype;
    int reset_after;       /* GRU: 1 = reset gate after the product (torch), 0 = before it */
    int relu;              /* RNN: 1 = relu, 0 = tanh */
    size_t input_size;     /* I >= 1 */
    size_t hidden_size;    /* H >= 1 */
    size_t proj_size;      /* LSTM only; 0 = none */
    size_t threads;        /* at most so many for one run; 0 and 1: the caller's alone. SIMD engine only. */
    fr_weights weights;
    const void *w_ih;      /* (G*H, I), as `weights` says */
    const void *w_hh;      /* (G*H, P) */
    const void *b_ih;      /* (G*H), or NULL for zeros */
    const void *b_hh;      /* (G*H), or NULL for zeros */
    const void *w_hr;      /* (P, H), or NULL without projection */
    const float *scale_ih, *scale_hh, *scale_hr;    /* (G*H), (G*H), (P): what a row's integers are times; else NULL */
} fr_params;

/* Whoever may want a long run to end early: asked between pieces of its work, by the thread that called it. A run that
 * was ended leaves states, y and gates undefined. */
typedef struct fr_watch fr_watch;
struct fr_watch {
    int (*wants_end)(fr_watch *watch);
    size_t work;                /* multiply-adds since it was asked */
    int ended;
};

/* From one question to the next: 10 us to 1 ms. */
#ifndef FR_WATCH_WORK       /* the tests set it to 64 */
#define FR_WATCH_WORK ((size_t)1 << 20)
#endif

/* Whether the run has been ended: for any thread of it. */
static inline int fr_ended(const fr_watch *w) { return w && __atomic_load_n(&w->ended, __ATOMIC_RELAXED); }

/* Whether it is to end now that its caller's thread has done `work` more multiply-adds. */
static inline int fr_ends(fr_watch *w, size_t work)
{
    if (!w)
        return 0;
    w->work += work;
    if (w->work >= FR_WATCH_WORK && !w->ended) {
        w->work = 0;
        __atomic_store_n(&w->ended, w->wants_end(w), __ATOMIC_RELAXED);
    }
    return w->ended;
}

/* One sequence through one layer in one direction. Row m of x at step t starts at
 * x + (t*batch + m)*I; of y at y + (t*batch + m)*y_stride. */
typedef struct {
    size_t steps;               /* T >= 1 */
    size_t batch;               /* B >= 1 */
    const ptrdiff_t *rows;      /* (T) non-increasing, each 0..B: only rows [0, rows[t]) live at step t.
                                   NULL: every row lives at every step. */
    int reverse;                /* 1: t runs from T-1 down to 0 */
    const void *x;              /* (T, B, I) */
    void *y;                    /* (T, B, P) with rows y_stride apart, or NULL if nobody wants it.
                                   Rows past rows[t] are left untouched. */
    size_t y_stride;            /* in reals, >= P */
    void *h;                    /* (B, P): the initial state in, each row's last state out */
    void *c;                    /* (B, H): the same for LSTM, NULL otherwise */
    void *const *states;        /* (B), or NULL. Not NULL: h and c are not used, and row m's h begins h_at reals
                                   into states[m], its c c_at reals into it; no two are the same. */
    size_t h_at, c_at;
    void *gates;                /* (T, B, G*H): activated gates out, or NULL. BLAS engine only. */
    void *scratch;              /* scratch_bytes(layer, T, B) bytes, aligned to 64 */
    fr_watch *watch;            /* or NULL */
} fr_run;

typedef struct fr_layer fr_layer;
struct fr_layer {
    size_t (*scratch_bytes)(const fr_layer *layer, size_t steps, size_t batch);
    void (*run)(const fr_layer *layer, const fr_run *run);
    void (*destroy)(fr_layer *layer);
    void (*unpack)(const fr_layer *layer, const fr_params *to);     /* writes what was packed. SIMD engine only. */
    size_t packed_bytes;        /* what one step of one row reads: the packed weights */
};

/* A linear layer: y = w x + bias, float32. */
typedef struct {
    size_t depth;           /* K >= 1 */
    size_t units;           /* N >= 1 */
    size_t threads;         /* as in fr_params */
    fr_weights weights;
    const void *w;          /* (N, K) */
    const float *scale;     /* (N), or NULL */
    const float *bias;      /* (N), or NULL for zeros */
} fr_product_params;

/* Its packed weights: immutable, as a layer. */
typedef struct fr_product fr_product;
struct fr_product {
    size_t (*scratch_bytes)(const fr_product *product, size_t rows);
    /* y (rows, N) of x (rows, K), whose rows begin x_stride floats apart and may overlap. Scratch is aligned to 64. */
    void (*run)(const fr_product *product, const float *x, size_t x_stride, size_t rows, float *y, void *scratch);
    void (*destroy)(fr_product *product);
    size_t packed_bytes;
};

typedef enum { FR_SIGMOID, FR_TANH, FR_ERF, FR_GELU } fr_activation;

/* What an engine hands to core.pyx and product.pyx, in a PyCapsule named FR_ENGINE_CAPSULE. Packing copies the weights. */
typedef struct {
    const char *name;
    fr_layer *(*pack)(const fr_params *params);     /* NULL: out of memory, or not this dtype or these weights */
    /* SIMD engine only: */
    fr_product *(*pack_product)(const fr_product_params *params);   /* NULL: out of memory */
    /* y = f(x) of n floats, with the cells' own code; y may be x. */
    void (*activate)(fr_activation kind, const float *x, float *y, size_t n);
} fr_engine;

#define FR_ENGINE_CAPSULE "fastrnn.engine"

#endif
