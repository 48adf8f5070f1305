/* What fastrnn.h promises of a pool that needs no Python: a Pool's own slots, under their own claims. */
#ifndef FASTRNN_CAPI_POOL_H
#define FASTRNN_CAPI_POOL_H

#include "capi_rows.h"
#include "slots.h"

/* Part of a Pool, which `owner` is: all it points to is the Pool's. */
struct fr_pool {
    void *owner;
    const fr_stack *stack;
    fr_slots *slots;
};

static inline fr_result capi_result(fr_slots_result result)
{
    switch (result) {
    case FR_POOL_OK: return FR_OK;
    case FR_POOL_FULL: return FR_FULL;
    case FR_POOL_NO_MEMORY: return FR_NO_MEMORY;
    case FR_POOL_CLOSED: return FR_CLOSED;
    case FR_POOL_BUSY: return FR_BUSY;
    case FR_POOL_TWICE: break;
    }
    return FR_TWICE;
}

static size_t capi_pool_size(fr_pool *pool, fr_size which)
{
    switch (which) {
    case FR_CAPACITY: return fr_slots_capacity(pool->slots);
    case FR_OPEN: return fr_slots_open_count(pool->slots);
    default: return capi_stack_size(pool->stack, which);
    }
}

static fr_result capi_pool_open(fr_pool *pool, int64_t *id)
{
    return id ? capi_result(fr_slots_open(pool->slots, id)) : FR_NULL;
}

static fr_result capi_pool_close(fr_pool *pool, int64_t id) { return capi_result(fr_slots_close(pool->slots, id)); }

/* The n streams, claimed, in *w, until capi_give_back. */
static inline fr_result capi_take(fr_pool *pool, size_t n, const int64_t *ids, fr_workspace **w)
{
    if (!ids)
        return FR_NULL;
    for (;;) {
        size_t room = fr_slots_capacity(pool->slots), bad;
        size_t count = n <= room ? n : room + 1;        /* one of so many is there twice, or is none */
        *w = fr_slots_enter(pool->slots, count);
        if (!*w)
            return FR_NO_MEMORY;
        memcpy((*w)->ids, ids, count * sizeof *ids);
        fr_slots_result result = fr_slots_claim(pool->slots, *w, count, &bad);
        if (result == FR_POOL_OK && count == n)
            return FR_OK;
        if (result == FR_POOL_OK)                       /* the pool has grown since */
            fr_slots_release(*w, count);
        fr_slots_leave(*w);
        if (result != FR_POOL_OK)
            return capi_result(result);
    }
}

static inline void capi_give_back(fr_workspace *w, size_t n)
{
    fr_slots_release(w, n);
    fr_slots_leave(w);
}

/* As capi_take, where h and, of an LSTM, c are needed. */
static inline fr_result capi_take_states(fr_pool *pool, size_t n, const int64_t *ids, const void *h, const void *c,
                                         fr_workspace **w)
{
    return !h || (!c && pool->stack->has_cell_state) ? FR_NULL : capi_take(pool, n, ids, w);
}

/* Whether some rows of y would be written where others of x are still to be read. */
static inline int capi_overlap(const void *x, size_t x_bytes, const void *y, size_t y_bytes)
{
    uintptr_t a = (uintptr_t)x, b = (uintptr_t)y;
    return (a != b || x_bytes != y_bytes) && a < b + y_bytes && b < a + x_bytes;
}

static fr_result capi_pool_step(fr_pool *pool, size_t n, const int64_t *ids, const void *x, ptrdiff_t x_stride, void *y,
                                ptrdiff_t y_stride)
{
    const fr_stack *s = pool->stack;
    size_t x_bytes = s->input_size * s->item, y_bytes = s->output_size * s->item;
    fr_workspace *w;
    if (n == 0)
        return FR_OK;
    fr_result wrong = capi_check_rows(s, n, x, x_stride, y, y_stride);
    if (!wrong)
        wrong = capi_take(pool, n, ids, &w);
    if (wrong)
        return wrong;
    int apart = n > 1 && (x_stride != (ptrdiff_t)x_bytes || y_stride != (ptrdiff_t)y_bytes);
    fr_run run = {.steps = 1, .batch = n, .x = x, .y = y, .states = w->states, .scratch = w->scratch};
    apart = apart || capi_overlap(x, n * x_bytes, y, n * y_bytes);
    if (apart) {
        if (!fr_slots_set_apart(pool->slots, w)) {
            capi_give_back(w, n);
            return FR_NO_MEMORY;
        }
        capi_copy_rows(w->apart, (ptrdiff_t)x_bytes, x, x_stride, n, x_bytes);
        run.x = w->apart;
        run.y = (char *)w->apart + w->rows * x_bytes;
    }
    fr_stack_run(s, &run);
    if (apart)
        capi_copy_rows(y, y_stride, run.y, (ptrdiff_t)y_bytes, n, y_bytes);
    capi_give_back(w, n);
    return FR_OK;
}

static fr_result capi_pool_get_state(fr_pool *pool, size_t n, const int64_t *ids, void *h, void *c)
{
    fr_workspace *w;
    if (n == 0)
        return FR_OK;
    fr_result wrong = capi_take_states(pool, n, ids, h, c, &w);
    if (wrong)
        return wrong;
    fr_slots_copy_out(pool->slots, w, n, h, c);
    capi_give_back(w, n);
    return FR_OK;
}

static fr_result capi_pool_set_state(fr_pool *pool, size_t n, const int64_t *ids, const void *h, const void *c)
{
    fr_workspace *w;
    if (n == 0)
        return FR_OK;
    fr_result wrong = capi_take_states(pool, n, ids, h, c, &w);
    if (wrong)
        return wrong;
    fr_slots_copy_in(pool->slots, w, n, h, c);
    capi_give_back(w, n);
    return FR_OK;
}

static fr_result capi_pool_reset(fr_pool *pool, size_t n, const int64_t *ids)
{
    fr_workspace *w;
    if (n == 0)
        return FR_OK;
    fr_result wrong = capi_take(pool, n, ids, &w);
    if (wrong)
        return wrong;
    fr_slots_reset(pool->slots, w, n);
    capi_give_back(w, n);
    return FR_OK;
}

#endif
