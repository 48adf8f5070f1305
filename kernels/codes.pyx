# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False, binding=False
# cython: freethreading_compatible=True
"""`quantised`: a matrix of weights as small integers, a scale a row; quantise.h says how."""

cimport numpy as np
from libc.stdint cimport int8_t, int16_t
from libc.stdlib cimport free, malloc

import numpy as np

np.import_array()

cdef extern from "quantise.h" nogil:
    float fr_quantise_row(const float *, size_t, float, float *, float *)


def quantised(matrix, codes, scale, float largest):
    """Write the codes of a finite matrix (rows, columns), and the scale of each row (rows,).

    Parameters
    ----------
    matrix : float32 array (rows, columns), C-contiguous, none of them 0
    codes : int8 or int16 array of the same shape, C-contiguous, out
    scale : float32 array (rows,), C-contiguous, out
    """
    cdef Py_ssize_t rows, columns, row, k
    cdef const float *from_
    cdef float *scales
    cdef float *whole
    cdef int8_t *narrow = NULL
    cdef int16_t *wide = NULL
    for array in (matrix, codes, scale):
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
            raise ValueError("matrix, codes and scale must be C-contiguous arrays")
    if (matrix.dtype != np.float32 or scale.dtype != np.float32
            or codes.dtype not in (np.int8, np.int16)):
        raise ValueError(f"matrix, codes and scale are {matrix.dtype}, {codes.dtype} and "
                         f"{scale.dtype}, expected float32, int8 or int16, and float32")
    if (matrix.ndim != 2 or codes.shape != matrix.shape or scale.shape != matrix.shape[:1]
            or matrix.shape[1] == 0):
        raise ValueError("codes and scale must fit the matrix, which must not be empty")
    if not codes.flags.writeable or not scale.flags.writeable:
        raise ValueError("codes and scale must be writeable")
    rows, columns = matrix.shape
    from_, scales = <const float *> np.PyArray_DATA(matrix), <float *> np.PyArray_DATA(scale)
    if codes.dtype == np.int8:
        narrow = <int8_t *> np.PyArray_DATA(codes)
    else:
        wide = <int16_t *> np.PyArray_DATA(codes)
    whole = <float *> malloc(2 * columns * sizeof(float))
    if whole == NULL:
        raise MemoryError
    with nogil:
        for row in range(rows):
            scales[row] = fr_quantise_row(from_ + row * columns, columns, largest, whole,
                                          whole + columns)
            if narrow != NULL:
                for k in range(columns):
                    narrow[row * columns + k] = <int8_t> whole[k]
            else:
                for k in range(columns):
                    wide[row * columns + k] = <int16_t> whole[k]
        free(whole)
