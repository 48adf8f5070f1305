"""fastrnn.h for Cython, as it is: `cimport fastrnn`. Compile with `fastrnn.get_include()`."""


cdef extern from "fastrnn.h":
    const int FR_API_VERSION

    ctypedef struct fr_stream:
        pass

    ctypedef enum fr_result:
        FR_OK
        FR_BUSY
        FR_NULL
        FR_UNALIGNED
        FR_STRIDE

    ctypedef enum fr_size:
        FR_ITEM
        FR_BATCH
        FR_INPUT
        FR_OUTPUT
        FR_HIDDEN
        FR_LAYERS
        FR_CELL_STATE

    int fr_import() except -1
    fr_stream *fr_stream_of(object) except NULL
    void fr_stream_release(fr_stream *)
    size_t fr_stream_size(const fr_stream *, fr_size) nogil
    fr_result fr_stream_step(fr_stream *, const void *, ptrdiff_t, void *, ptrdiff_t) nogil
    fr_result fr_stream_get_state(fr_stream *, void *, void *) nogil
    fr_result fr_stream_set_state(fr_stream *, const void *, const void *) nogil
    fr_result fr_stream_reset(fr_stream *) nogil
