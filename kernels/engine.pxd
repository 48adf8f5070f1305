"""engine.h for Cython: declarations only, nothing is imported at run time."""

cdef extern from "engine.h":
    ctypedef enum fr_cell:
        FR_LSTM
        FR_GRU
        FR_RNN
    ctypedef enum fr_dtype:
        FR_FLOAT32
        FR_FLOAT64
    ctypedef enum fr_weights:
        FR_REAL
        FR_INT8
        FR_INT16
    ctypedef struct fr_params:
        fr_cell cell
        fr_dtype dtype
        fr_weights weights
        int reset_after
        int relu
        size_t input_size
        size_t hidden_size
        size_t proj_size
        size_t threads
        const void *w_ih
        const void *w_hh
        const void *b_ih
        const void *b_hh
        const void *w_hr
        const float *scale_ih
        const float *scale_hh
        const float *scale_hr
    ctypedef struct fr_watch:
        bint ended
    bint fr_ended(const fr_watch *) noexcept nogil
    bint fr_ends(fr_watch *, size_t) noexcept nogil
    ctypedef struct fr_run:
        size_t steps
        size_t batch
        const ptrdiff_t *rows
        int reverse
        const void *x
        void *y
        size_t y_stride
        void *h
        void *c
        void **states
        size_t h_at
        size_t c_at
        void *gates
        void *scratch
        fr_watch *watch
    ctypedef struct fr_layer:
        size_t (*scratch_bytes)(const fr_layer *, size_t, size_t) noexcept nogil
        void (*run)(const fr_layer *, const fr_run *) noexcept nogil
        void (*destroy)(fr_layer *) noexcept nogil
        void (*unpack)(const fr_layer *, const fr_params *) noexcept nogil
        size_t packed_bytes
    ctypedef struct fr_product_params:
        size_t depth
        size_t units
        size_t threads
        fr_weights weights
        const void *w
        const float *scale
        const float *bias
    ctypedef struct fr_product:
        size_t (*scratch_bytes)(const fr_product *, size_t) noexcept nogil
        void (*run)(
            const fr_product *, const float *, size_t, size_t, float *, void *) noexcept nogil
        void (*destroy)(fr_product *) noexcept nogil
        size_t packed_bytes
    ctypedef enum fr_activation:
        FR_SIGMOID
        FR_TANH
        FR_ERF
        FR_GELU
    ctypedef struct fr_engine:
        const char *name
        fr_layer *(*pack)(const fr_params *) noexcept nogil
        fr_product *(*pack_product)(const fr_product_params *) noexcept nogil
        void (*activate)(fr_activation, const float *, float *, size_t) noexcept nogil
    const char *FR_ENGINE_CAPSULE
