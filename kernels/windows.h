/* Rows of a matrix that lie spread in memory, as the windows of a convolution do, brought together. */
#ifndef FR_WINDOWS_H
#define FR_WINDOWS_H

#include <stddef.h>
#include <string.h>

enum {
    FR_WINDOW_AXES = 6,
    FR_TOGETHER = 96    /* rows that are brought together at a time, so that they stay in L2 */
};

/* Axes of what one row is, or of where rows begin: from the outermost; strides in floats. */
typedef struct {
    size_t count, lengths[FR_WINDOW_AXES], strides[FR_WINDOW_AXES];
} fr_axes;

/* Adds an axis inside the others; one that goes on where it ends becomes part of it. 0: there are too many. */
static inline int fr_axes_add(fr_axes *axes, size_t length, size_t stride)
{
    size_t last = axes->count - 1;
    if (length == 1)
        return 1;
    if (axes->count && axes->strides[last] == stride * length) {
        axes->lengths[last] *= length;
        axes->strides[last] = stride;
        return 1;
    }
    if (axes->count == FR_WINDOW_AXES)
        return 0;
    axes->lengths[axes->count] = length;
    axes->strides[axes->count++] = stride;
    return 1;
}

/* How many floats from the first the element is that is `index` in order. */
static inline size_t fr_axes_offset(const fr_axes *axes, size_t index)
{
    size_t offset = 0;
    for (size_t axis = axes->count; axis--; index /= axes->lengths[axis])
        offset += index % axes->lengths[axis] * axes->strides[axis];
    return offset;
}

/* One row's elements, from axis `axis` on; returns where the next ones go. */
static float *fr_axes_copy(const fr_axes *axes, size_t axis, const float *from, float *to)
{
    size_t length = 1, stride = 1;
    if (axis < axes->count)
        length = axes->lengths[axis], stride = axes->strides[axis];
    if (axis + 1 < axes->count) {
        for (size_t i = 0; i < length; i++)
            to = fr_axes_copy(axes, axis + 1, from + i * stride, to);
        return to;
    }
    if (stride == 1 && length >= 16)
        memcpy(to, from, length * sizeof *to);
    else
        for (size_t i = 0; i < length; i++)
            to[i] = from[i * stride];
    return to + length;
}

/* Rows first to first + rows, one after another. */
static inline void fr_gather(const fr_axes *outer, const fr_axes *inner, const float *from, size_t first, size_t rows,
                             float *to)
{
    size_t last = outer->count ? outer->count - 1 : 0;
    size_t length = outer->count ? outer->lengths[last] : 1, stride = outer->count ? outer->strides[last] : 0;
    for (size_t end = first + rows; first < end;) {
        const float *row = from + fr_axes_offset(outer, first);
        size_t stop = first + (length - first % length);
        for (stop = stop < end ? stop : end; first < stop; first++, row += stride) {
            if (inner->count != 2 || inner->strides[1] != 1 || inner->lengths[1] >= 16) {
                to = fr_axes_copy(inner, 0, row, to);
                continue;
            }
            const float *run = row;     /* a few short runs: the windows of a picture with few channels */
            for (size_t i = 0; i < inner->lengths[0]; i++, run += inner->strides[0])
                for (size_t j = 0; j < inner->lengths[1]; j++)
                    *to++ = run[j];
        }
    }
}

/* As max(x, 0) of NumPy: NaN stays. */
static inline void fr_relu(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] <= 0 ? 0 : x[i];
}

#endif
