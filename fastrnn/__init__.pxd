"""fastrnn.h for Cython, as it is: `cimport fastrnn`. Compile with `fastrnn.get_include()`."""


from libc.stdint cimport int64_t


cdef extern from "fastrnn.h":
    const int FR_API_VERSION

    ctypedef struct fr_stream:
        pass

    ctypedef struct fr_pool:
        pass

    ctypedef enum fr_result:
        FR_OK
        FR_BUSY
        FR_NULL
        FR_UNALIGNED
        FR_STRIDE
        FR_CLOSED
        FR_TWICE
        FR_FULL
        FR_NO_MEMORY

    ctypedef enum fr_size:
        FR_ITEM
        FR_BATCH
        FR_INPUT
        FR_OUTPUT
        FR_HIDDEN
        FR_LAYERS
        FR_CELL_STATE
        FR_CAPACITY
        FR_OPEN

    int fr_import() except -1
    fr_stream *fr_stream_of(object) except NULL
    void fr_stream_release(fr_stream *)
    size_t fr_stream_size(const fr_stream *, fr_size) nogil
    fr_result fr_stream_step(fr_stream *, const void *, ptrdiff_t, void *, ptrdiff_t) nogil
    fr_result fr_stream_get_state(fr_stream *, void *, void *) nogil
    fr_result fr_stream_set_state(fr_stream *, const void *, const void *) nogil
    fr_result fr_stream_reset(fr_stream *) nogil
    fr_pool *fr_pool_of(object) except NULL
    fr_pool *fr_pool_new(object, Py_ssize_t, bint) except NULL
    void fr_pool_release(fr_pool *)
    size_t fr_pool_size(fr_pool *, fr_size) nogil
    fr_result fr_pool_open(fr_pool *, int64_t *) nogil
    fr_result fr_pool_close(fr_pool *, int64_t) nogil
    fr_result fr_pool_step(
        fr_pool *, size_t, const int64_t *, const void *, ptrdiff_t, void *, ptrdiff_t) nogil
    fr_result fr_pool_get_state(fr_pool *, size_t, const int64_t *, void *, void *) nogil
    fr_result fr_pool_set_state(
        fr_pool *, size_t, const int64_t *, const void *, const void *) nogil
    fr_result fr_pool_reset(fr_pool *, size_t, const int64_t *) nogil
