# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
# cython: binding=False
# cython: freethreading_compatible=True
"""`Request`: a batcher's call, whose frames and answers are arrays of its own.

`gather` and `scatter` copy them to one array for a kernel call, and back from one.
"""

cimport cython
cimport numpy as np
from libc.string cimport memcpy

import sys

import numpy as np

np.import_array()


@cython.final
cdef class Request:
    """A call of a stream's own: frames to step through, or an action on the stream between frames.

    What the answer needs is allocated with it, so that a step that was made cannot lack it.

    Parameters
    ----------
    future : asyncio.Future
    frames : array (steps, *frame)
        C-contiguous, of the pool's dtype; (*frame) of one step. None for an action.
    output : array (steps, *answer)
        Likewise; filled up to `done`.
    steps : int
    since : float
        When it was made, by `time.perf_counter`.
    action : callable, optional
    """

    cdef readonly object future, frames, output, action
    cdef readonly Py_ssize_t steps, done
    cdef readonly double since

    def __cinit__(self, future, frames, output, Py_ssize_t steps, double since, action=None):
        self.future = future
        self.frames = frames
        self.output = output
        self.steps = steps
        self.since = since
        self.action = action


def least_steps(list requests not None):
    """The least of what each of the requests, one or more, has left."""
    cdef Py_ssize_t least = sys.maxsize
    cdef Request r
    for r in requests:
        least = min(least, r.steps - r.done)
    return least


def gather(list requests not None, x, Py_ssize_t steps, bint rows_first):
    """Copy the next `steps` frames of n requests to x (n, steps, *frame), else (steps, n, *frame).

    Returns how many of them have a NaN.
    """
    cdef Py_ssize_t n = len(requests), row, t, found = 0
    cdef size_t frame = frame_bytes(x, n * steps)
    cdef char *to = <char *> np.PyArray_DATA(x)
    cdef char *place
    cdef int typenum = np.PyArray_TYPE(x)
    cdef Request r
    for row in range(n):  # not over the list, which another thread might make longer
        r = requests[row]
        check_rows(r.frames, r, steps, frame)
        for t in range(steps):
            place = to + frame * (row * steps + t if rows_first else t * n + row)
            memcpy(place, <char *> np.PyArray_DATA(r.frames) + (r.done + t) * frame, frame)
            if typenum == np.NPY_FLOAT:
                found += has_nan(<const float *> place, frame // sizeof(float))
            elif typenum == np.NPY_DOUBLE:
                found += has_nan(<const double *> place, frame // sizeof(double))
    return found


def scatter(list requests not None, y, Py_ssize_t steps, bint rows_first):
    """Copy y (n, steps, *answer), else (steps, n, *answer), to the outputs; they are done then."""
    cdef Py_ssize_t n = len(requests), row, t
    cdef size_t answer = frame_bytes(y, n * steps)
    cdef char *start = <char *> np.PyArray_DATA(y)
    cdef Request r
    for row in range(n):
        r = requests[row]
        check_rows(r.output, r, steps, answer)
        for t in range(steps):
            memcpy(<char *> np.PyArray_DATA(r.output) + (r.done + t) * answer,
                   start + answer * (row * steps + t if rows_first else t * n + row), answer)
    for r in requests:
        r.done += steps


def waits(list requests not None, Py_ssize_t steps, double begin):
    """How many milliseconds each that had its first `steps` at `begin` had waited, float64."""
    cdef Request r
    cdef Py_ssize_t rows = len(requests), row, n = 0
    times = np.empty(rows)
    cdef double *to = <double *> np.PyArray_DATA(times)
    for row in range(rows):
        r = requests[row]
        if r.done == steps:
            to[n] = 1e3 * (begin - r.since)
            n += 1
    return times[:n]


cdef inline bint is_packed(object array) noexcept:
    return np.PyArray_Check(array) and np.PyArray_ISCARRAY_RO(array)


cdef size_t frame_bytes(object array, Py_ssize_t rows) except? 0:
    if not is_packed(array) or rows < 1 or np.PyArray_NBYTES(array) % rows:
        raise ValueError(f"expected a C-contiguous array of {rows} frames")
    return np.PyArray_NBYTES(array) // rows


cdef int check_rows(object array, Request r, Py_ssize_t steps, size_t bytes) except -1:
    """Whether `array` has all frames of `r`, and `steps` of them left."""
    if (not is_packed(array) or steps < 1 or r.steps - r.done < steps
            or <size_t> np.PyArray_NBYTES(array) != r.steps * bytes):
        raise ValueError(f"expected {r.steps} frames of {bytes} bytes, {r.done} of them done")
    return 0


ctypedef fused real:
    float
    double


cdef inline bint has_nan(const real *x, size_t n) noexcept:
    cdef size_t i
    cdef int found = 0
    for i in range(n):
        found |= x[i] != x[i]
    return found
