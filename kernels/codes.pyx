# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
# cython: auto_pickle=False, autotestdict=False, binding=False
"""`quantised`: a matrix of weights as small integers, a scale a row; quantise.h says how."""

cimport numpy as np
from libc.stdint cimport int8_t, int16_t
from libc.stdlib cimport free, malloc

import numpy as np

np.import_array()

cdef extern from "quantise.h" nogil:
    float fr_quantise_row(const float *, size_t, float, float *, float *)

ctypedef fused code:
    int8_t
    int16_t


def quantised(const float[:, ::1] matrix, code[:, ::1] codes, float[::1] scale, float largest):
    """Write the codes of a finite matrix (rows, columns), and the scale of each row (rows,)."""
    cdef Py_ssize_t rows = matrix.shape[0], columns = matrix.shape[1], row, k
    cdef float *whole
    if (codes.shape[0] != rows or codes.shape[1] != columns or scale.shape[0] != rows
            or columns == 0):
        raise ValueError("codes and scale must fit the matrix, which must not be empty")
    whole = <float *> malloc(2 * columns * sizeof(float))
    if whole == NULL:
        raise MemoryError
    with nogil:
        for row in range(rows):
            scale[row] = fr_quantise_row(&matrix[row, 0], columns, largest, whole, whole + columns)
            for k in range(columns):
                codes[row, k] = <code> whole[k]
        free(whole)
