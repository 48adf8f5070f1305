/* The gate passes of the BLAS engine: one row of pre-activations to gates and new state.
 *
 * `gates` holds the pre-activations on entry and the activated gates on return, in torch's
 * order. In and out pointers of one call may not overlap, except where a name says inout.
 * Suffixes: _f32 float, _f64 double.
 */
#ifndef FASTRNN_GATES_H
#define FASTRNN_GATES_H

#include <stddef.h>

#define FR_DECLARE_GATES(suffix, real) \
    /* c = f*c + i*g; h = o*tanh(c) */ \
    void fr_gates_lstm_##suffix(size_t hidden, real *gates /* (4H) i,f,g,o */, \
                                real *c_inout /* (H) */, real *h /* (H) */); \
    /* r,z += recurrent; n = tanh(n + r*recurrent_n); h = n + z*(h - n) */ \
    void fr_gates_gru_##suffix(size_t hidden, real *gates /* (3H) r,z,n */, \
                               const real *recurrent /* (3H) */, real *h_inout /* (H) */); \
    /* reset gate before the product, first half: r, z, and reset_h = r*h */ \
    void fr_gates_gru_reset_##suffix(size_t hidden, real *gates /* (3H) */, \
                                     const real *h /* (H) */, real *reset_h /* (H) */); \
    /* second half, n now complete: n = tanh(n); h = n + z*(h - n) */ \
    void fr_gates_gru_update_##suffix(size_t hidden, real *gates /* (3H) */, \
                                      real *h_inout /* (H) */); \
    /* h = tanh(gate) or relu(gate) */ \
    void fr_gates_rnn_##suffix(size_t hidden, int relu, real *gates /* (H) */, real *h /* (H) */);

FR_DECLARE_GATES(f32, float)
FR_DECLARE_GATES(f64, double)

#endif
