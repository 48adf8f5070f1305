/* fastrnn below Python: streams and pools stepped with plain pointers, without the GIL. docs/c-api.md shows how.
 *
 * Call fr_import() once per source file that includes this, with the GIL. What says "GIL" needs it (or an attached
 * thread state) and sets a Python exception where it fails; all else needs neither and returns an fr_result.
 * fr_api only ever grows at its end: what was compiled against an older header goes on working.
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <Python.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FR_API_VERSION 1
#define FR_API_CAPSULE "fastrnn._C_API"

/* The state of a fastrnn.Stream: B rows. One thread at a time; one that meets another is told FR_BUSY. */
typedef struct fr_stream fr_stream;

/* The streams of a fastrnn.StreamPool, known by ids. Any number of threads, for different streams at once; one that
 * meets another on a stream is told FR_BUSY, and has done nothing. */
typedef struct fr_pool fr_pool;

typedef enum {
    FR_OK = 0,
    FR_BUSY = 1,        /* another call has the stream */
    FR_NULL = 2,        /* a pointer is NULL that may not be */
    FR_UNALIGNED = 3,   /* a pointer or stride is no multiple of the size of a real */
    FR_STRIDE = 4,      /* rows of y lie on one another */
    FR_CLOSED = 5,      /* an id is no open stream */
    FR_TWICE = 6,       /* an id is there twice */
    FR_FULL = 7,        /* all streams are open, and the pool may not grow */
    FR_NO_MEMORY = 8
} fr_result;

typedef enum {
    FR_ITEM = 0,        /* bytes of a real: 4, or 8 of a float64 layer */
    FR_BATCH = 1,       /* B; of a pool 0 */
    FR_INPUT = 2,       /* I */
    FR_OUTPUT = 3,      /* P = proj_size where there is one, else H */
    FR_HIDDEN = 4,      /* H */
    FR_LAYERS = 5,      /* L */
    FR_CELL_STATE = 6,  /* 1 for LSTM, which has c, else 0 */
    FR_CAPACITY = 7,    /* streams that a pool has room for now */
    FR_OPEN = 8         /* and those that are open */
} fr_size;

typedef struct {
    size_t version;     /* FR_API_VERSION: another one has other meanings */
    size_t size;        /* sizeof(fr_api), of the installed fastrnn */
    fr_stream *(*stream_of)(PyObject *stream);
    void (*stream_release)(fr_stream *stream);
    size_t (*stream_size)(const fr_stream *stream, fr_size which);
    fr_result (*stream_step)(fr_stream *stream, const void *x, ptrdiff_t x_stride, void *y, ptrdiff_t y_stride);
    fr_result (*stream_get_state)(fr_stream *stream, void *h, void *c);
    fr_result (*stream_set_state)(fr_stream *stream, const void *h, const void *c);
    fr_result (*stream_reset)(fr_stream *stream);
    fr_pool *(*pool_of)(PyObject *pool);
    void (*pool_release)(fr_pool *pool);
    size_t (*pool_size)(fr_pool *pool, fr_size which);
    fr_result (*pool_open)(fr_pool *pool, int64_t *id);
    fr_result (*pool_close)(fr_pool *pool, int64_t id);
    fr_result (*pool_step)(fr_pool *pool, size_t n, const int64_t *ids, const void *x, ptrdiff_t x_stride, void *y,
                           ptrdiff_t y_stride);
    fr_result (*pool_get_state)(fr_pool *pool, size_t n, const int64_t *ids, void *h, void *c);
    fr_result (*pool_set_state)(fr_pool *pool, size_t n, const int64_t *ids, const void *h, const void *c);
    fr_result (*pool_reset)(fr_pool *pool, size_t n, const int64_t *ids);
} fr_api;

static const fr_api *fr_table = NULL;

/* 0, or -1 with ImportError. GIL. */
static inline int fr_import(void)
{
    const fr_api *api = (const fr_api *)PyCapsule_Import(FR_API_CAPSULE, 0);
    if (!api)
        return -1;
    if (api->version != FR_API_VERSION || api->size < sizeof(fr_api)) {
        PyErr_Format(PyExc_ImportError,
                     "fastrnn: its C API has version %zu and %zu bytes, expected version %d and at least %zu bytes: "
                     "install the fastrnn that this was compiled against, or a later one",
                     api->version, api->size, FR_API_VERSION, sizeof(fr_api));
        return -1;
    }
    fr_table = api;
    return 0;
}

/* The state of a fastrnn.Stream, shared with it, until fr_stream_release. NULL: an exception is set. GIL, both. */
static inline fr_stream *fr_stream_of(PyObject *stream) { return fr_table->stream_of(stream); }
static inline void fr_stream_release(fr_stream *stream) { fr_table->stream_release(stream); }

static inline size_t fr_stream_size(const fr_stream *stream, fr_size which)
{
    return fr_table->stream_size(stream, which);
}

/* One time step: x (B, I) to y (B, P), the last layer's h. The reals of a row lie side by side, strides are bytes from
 * row to row: of x any, of y at least a row, either way. y may be x. Allocates nothing. */
static inline fr_result fr_stream_step(fr_stream *stream, const void *x, ptrdiff_t x_stride, void *y,
                                       ptrdiff_t y_stride)
{
    return fr_table->stream_step(stream, x, x_stride, y, y_stride);
}

/* Copies of h (L, B, P) and c (L, B, H) out and in, contiguous; c is not looked at where there is none. */
static inline fr_result fr_stream_get_state(fr_stream *stream, void *h, void *c)
{
    return fr_table->stream_get_state(stream, h, c);
}
static inline fr_result fr_stream_set_state(fr_stream *stream, const void *h, const void *c)
{
    return fr_table->stream_set_state(stream, h, c);
}

/* Every row begins anew, as Stream.reset() lets it. */
static inline fr_result fr_stream_reset(fr_stream *stream) { return fr_table->stream_reset(stream); }

/* The streams of a fastrnn.StreamPool, shared with it, until fr_pool_release. NULL: an exception is set. GIL, both. */
static inline fr_pool *fr_pool_of(PyObject *pool) { return fr_table->pool_of(pool); }
static inline void fr_pool_release(fr_pool *pool) { fr_table->pool_release(pool); }

/* What layer.pool(capacity, grow) makes, until fr_pool_release. NULL: an exception is set. GIL. */
static inline fr_pool *fr_pool_new(PyObject *layer, Py_ssize_t capacity, int grow)
{
    PyObject *made = PyObject_CallMethod(layer, "pool", "nO", capacity, grow ? Py_True : Py_False);
    fr_pool *pool = made ? fr_pool_of(made) : NULL;
    Py_XDECREF(made);
    return pool;
}

static inline size_t fr_pool_size(fr_pool *pool, fr_size which) { return fr_table->pool_size(pool, which); }

/* A new stream where streams begin. Allocates where the pool grows. */
static inline fr_result fr_pool_open(fr_pool *pool, int64_t *id) { return fr_table->pool_open(pool, id); }
static inline fr_result fr_pool_close(fr_pool *pool, int64_t id) { return fr_table->pool_close(pool, id); }

/* One time step of n streams, each once: x (n, I) to y (n, P), as of fr_stream_step. y may be x. Allocates nothing once
 * as many threads as now were in it at once, and their rows lay as now. */
static inline fr_result fr_pool_step(fr_pool *pool, size_t n, const int64_t *ids, const void *x, ptrdiff_t x_stride,
                                     void *y, ptrdiff_t y_stride)
{
    return fr_table->pool_step(pool, n, ids, x, x_stride, y, y_stride);
}

/* Copies of h (L, n, P) and c (L, n, H) out and in, as of fr_stream_get_state. */
static inline fr_result fr_pool_get_state(fr_pool *pool, size_t n, const int64_t *ids, void *h, void *c)
{
    return fr_table->pool_get_state(pool, n, ids, h, c);
}
static inline fr_result fr_pool_set_state(fr_pool *pool, size_t n, const int64_t *ids, const void *h, const void *c)
{
    return fr_table->pool_set_state(pool, n, ids, h, c);
}

/* n streams begin anew. */
static inline fr_result fr_pool_reset(fr_pool *pool, size_t n, const int64_t *ids)
{
    return fr_table->pool_reset(pool, n, ids);
}

#ifdef __cplusplus
}
#endif
#endif
