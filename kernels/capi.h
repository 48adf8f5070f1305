/* What fastrnn.h promises of a stream that needs no Python: a Stepper's own run, under its own claim. */
#ifndef FASTRNN_CAPI_H
#define FASTRNN_CAPI_H

#include "capi_rows.h"
#include "claim.h"

/* Part of a Stepper, which `owner` is: all it points to is the Stepper's. */
struct fr_stream {
    void *owner;
    const fr_stack *stack;
    fr_run *one;            /* one step of all rows; its h is (L, B, P), its c (L, B, H) or NULL */
    char *busy;
    const void *h_0, *c_0;  /* what reset goes back to; NULL: zeros */
    char *rows;             /* (B, I): x whose rows lie apart */
};

static size_t capi_stream_size(const fr_stream *stream, fr_size which)
{
    return which == FR_BATCH ? stream->one->batch : capi_stack_size(stream->stack, which);
}

static fr_result capi_stream_step(fr_stream *stream, const void *x, ptrdiff_t x_stride, void *y, ptrdiff_t y_stride)
{
    const fr_stack *s = stream->stack;
    size_t batch = stream->one->batch, x_bytes = s->input_size * s->item, y_bytes = s->output_size * s->item;
    fr_result wrong = capi_check_rows(s, batch, x, x_stride, y, y_stride);
    if (wrong)
        return wrong;
    if (!fr_claim(stream->busy))
        return FR_BUSY;
    stream->one->x = x;
    if (batch > 1 && x_stride != (ptrdiff_t)x_bytes) {
        capi_copy_rows(stream->rows, (ptrdiff_t)x_bytes, x, x_stride, batch, x_bytes);
        stream->one->x = stream->rows;
    }
    fr_stack_run(s, stream->one);
    const char *last = (const char *)stream->one->h + (s->num_layers - 1) * batch * y_bytes;
    capi_copy_rows(y, y_stride, last, (ptrdiff_t)y_bytes, batch, y_bytes);
    fr_release(stream->busy);
    return FR_OK;
}

static inline size_t capi_h_bytes(const fr_stream *stream)
{
    const fr_stack *s = stream->stack;
    return s->num_layers * stream->one->batch * s->output_size * s->item;
}

static inline size_t capi_c_bytes(const fr_stream *stream)
{
    const fr_stack *s = stream->stack;
    return s->has_cell_state ? s->num_layers * stream->one->batch * s->hidden_size * s->item : 0;
}

static fr_result capi_stream_get_state(fr_stream *stream, void *h, void *c)
{
    if (!h || (!c && stream->stack->has_cell_state))
        return FR_NULL;
    if (!fr_claim(stream->busy))
        return FR_BUSY;
    memcpy(h, stream->one->h, capi_h_bytes(stream));
    if (stream->stack->has_cell_state)
        memcpy(c, stream->one->c, capi_c_bytes(stream));
    fr_release(stream->busy);
    return FR_OK;
}

static fr_result capi_stream_set_state(fr_stream *stream, const void *h, const void *c)
{
    if (!h || (!c && stream->stack->has_cell_state))
        return FR_NULL;
    if (!fr_claim(stream->busy))
        return FR_BUSY;
    memcpy(stream->one->h, h, capi_h_bytes(stream));
    if (stream->stack->has_cell_state)
        memcpy(stream->one->c, c, capi_c_bytes(stream));
    fr_release(stream->busy);
    return FR_OK;
}

static fr_result capi_stream_reset(fr_stream *stream)
{
    if (!fr_claim(stream->busy))
        return FR_BUSY;
    if (stream->h_0)
        memcpy(stream->one->h, stream->h_0, capi_h_bytes(stream));
    else
        memset(stream->one->h, 0, capi_h_bytes(stream));
    if (stream->c_0)
        memcpy(stream->one->c, stream->c_0, capi_c_bytes(stream));
    else if (stream->stack->has_cell_state)
        memset(stream->one->c, 0, capi_c_bytes(stream));
    fr_release(stream->busy);
    return FR_OK;
}

#endif
