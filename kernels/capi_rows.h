/* What fastrnn.h promises of any rows of reals, of a stream or of a pool. */
#ifndef FASTRNN_CAPI_ROWS_H
#define FASTRNN_CAPI_ROWS_H

#include <stdint.h>
#include <string.h>

#include "fastrnn.h"
#include "stack.h"

/* The partial fr_api that stepper.pyx makes, for pool.pyx to complete. */
#define FR_STREAMS_CAPSULE "fastrnn.streams"

/* What is the same for all who step a stack; 0 for the rest. */
static inline size_t capi_stack_size(const fr_stack *s, fr_size which)
{
    switch (which) {
    case FR_ITEM: return s->item;
    case FR_INPUT: return s->input_size;
    case FR_OUTPUT: return s->output_size;
    case FR_HIDDEN: return s->hidden_size;
    case FR_LAYERS: return s->num_layers;
    case FR_CELL_STATE: return s->has_cell_state != 0;
    default: return 0;
    }
}

/* Whether neither the pointer nor the stride splits a real. */
static inline int capi_aligned(const fr_stack *s, const void *at, ptrdiff_t stride)
{
    return (((uintptr_t)at | (uintptr_t)stride) & (s->item - 1)) == 0;
}

/* Whether a step may read x (rows, I) and write y (rows, P). */
static inline fr_result capi_check_rows(const fr_stack *s, size_t rows, const void *x, ptrdiff_t x_stride,
                                        const void *y, ptrdiff_t y_stride)
{
    ptrdiff_t y_bytes = (ptrdiff_t)(s->output_size * s->item);
    if (!x || !y)
        return FR_NULL;
    if (!capi_aligned(s, x, x_stride) || !capi_aligned(s, y, y_stride))
        return FR_UNALIGNED;
    return rows > 1 && y_stride < y_bytes && y_stride > -y_bytes ? FR_STRIDE : FR_OK;
}

/* Rows of `bytes` each, from one distance to another. */
static inline void capi_copy_rows(void *to, ptrdiff_t to_stride, const void *from, ptrdiff_t from_stride, size_t rows,
                                  size_t bytes)
{
    for (size_t i = 0; i < rows; i++)
        memcpy((char *)to + (ptrdiff_t)i * to_stride, (const char *)from + (ptrdiff_t)i * from_stride, bytes);
}

#endif
