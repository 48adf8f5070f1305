"""stack.h for Cython: declarations only, nothing is imported at run time."""

from engine cimport fr_layer, fr_run


cdef extern from "stack.h" nogil:
    ctypedef struct fr_stack:
        fr_layer **layers
        size_t num_layers
        size_t directions
        size_t input_size
        size_t hidden_size
        size_t output_size
        size_t gate_width
        size_t item
        size_t weights
        bint has_cell_state
    const char *FR_STACK_CAPSULE
    void *fr_aligned_alloc(size_t)
    size_t fr_stack_state_reals(const fr_stack *)
    size_t fr_stack_work(const fr_stack *, size_t, size_t)
    size_t fr_stack_scratch_bytes(const fr_stack *, size_t, size_t)
    void fr_stack_run(const fr_stack *, const fr_run *)
