# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, autotestdict=False
# cython: freethreading_compatible=True
"""The BLAS engine: SciPy's BLAS for the matrix products, one fused pass for the gates.

Portable, float32 and float64, and the second opinion on every other engine. One step of
B rows through a layer, as torch defines the cells (https://docs.pytorch.org/docs/stable/nn.html):

    LSTM  i,f,o = sigmoid, g = tanh            of b + x W_ih' + h W_hh'
                                               c = f c + i g;  h = o tanh(c)
          projection                           h = (o tanh(c)) W_hr'
    GRU   reset_after                          n = tanh(b_in + x W_in' + r (b_hn + h W_hn'))
          reset before (Cho et al. 2014)       n = tanh(b_in + x W_in' + b_hn + (r h) W_hn')
          both                                 r,z = sigmoid(b + x W' + h W');  h = n + z (h - n)
    RNN   h = tanh or relu of b + x W_ih' + h W_hh'

x W_ih' is computed for a chunk of steps in one product, then the recurrence runs through the
chunk. A product always adds onto a buffer that was filled first (bias or zeros): with beta = 1
what the buffer held before cannot matter, NaN included.

This module is imported only when the engine is used: it is what loads SciPy.
"""

from cpython.pycapsule cimport PyCapsule_New
from engine cimport (
    FR_ENGINE_CAPSULE, FR_FLOAT32, FR_GRU, FR_LSTM, FR_RNN, fr_ended, fr_ends, fr_engine, fr_layer,
    fr_params, fr_run, fr_watch,
)
from libc.limits cimport INT_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, dgemv, sgemm, sgemv

cdef extern from "gates.h" nogil:
    void fr_gates_lstm_f32(size_t, float *, float *, float *)
    void fr_gates_lstm_f64(size_t, double *, double *, double *)
    void fr_gates_gru_f32(size_t, float *, const float *, float *)
    void fr_gates_gru_f64(size_t, double *, const double *, double *)
    void fr_gates_gru_reset_f32(size_t, float *, const float *, float *)
    void fr_gates_gru_reset_f64(size_t, double *, const double *, double *)
    void fr_gates_gru_update_f32(size_t, float *, float *)
    void fr_gates_gru_update_f64(size_t, double *, double *)
    void fr_gates_rnn_f32(size_t, int, float *, float *)
    void fr_gates_rnn_f64(size_t, int, double *, double *)


ctypedef fused real:
    float
    double

# Pre-activations of one chunk of steps: still in L2 when the recurrence reads them.
cdef enum:
    CHUNK_BYTES = 1 << 18

# Multiply-adds of one product, 10 to 50 ms, and the rows below which BLAS is slower.
cdef enum:
    PIECE_WORK = 1 << 29
    LEAST_PIECE = 256

# So many rows are faster one by one: a product of two takes OpenBLAS the time of four or five.
cdef enum:
    FEW_ROWS = 6

# A unit's gates take as long as so many multiply-adds of a product.
cdef enum:
    GATE_WORK = 256


ctypedef struct blas_layer:
    fr_layer base
    fr_params params            # its weight pointers point into `weights`
    size_t gates                # G*H
    size_t state                # P: width of h
    void *weights               # one block: w_ih, w_hh, bias, recurrent_bias, w_hr
    void *bias                  # (G*H): added with x. b_ih + b_hh; GRU reset_after: without b_hn
    void *recurrent_bias        # (3H): 0, 0, b_hn: added with h. GRU reset_after only


cdef inline size_t at_least_one(size_t n) noexcept nogil:
    return n if n > 0 else 1


cdef inline size_t chunk_steps(const blas_layer *layer, size_t steps, size_t batch) noexcept nogil:
    """Steps whose pre-activations (chunk, B, G*H) fill CHUNK_BYTES, at least one."""
    cdef size_t item = 4 if layer.params.dtype == FR_FLOAT32 else 8
    cdef size_t chunk = at_least_one(CHUNK_BYTES // (item * batch * layer.gates))
    return chunk if chunk < steps else steps


cdef size_t scratch_bytes(const fr_layer *base, size_t steps, size_t batch) noexcept nogil:
    """What run_layer lays out: see there."""
    cdef const blas_layer *layer = <const blas_layer *> base
    cdef size_t item = 4 if layer.params.dtype == FR_FLOAT32 else 8
    return item * batch * (layer.state + 4 * layer.params.hidden_size
                           + chunk_steps(layer, steps, batch) * layer.gates)


cdef void destroy(fr_layer *base) noexcept nogil:
    free((<blas_layer *> base).weights)
    free(base)


cdef void add_piece(real *out, size_t out_stride, const real *a, size_t rows, size_t k,
                    const real *w, size_t n) noexcept nogil:
    """out[rows, n] += a[rows, k] @ w[n, k].T, all row-major, rows of `out` out_stride apart.

    BLAS is column-major: it sees out' += (w')' a'.
    """
    cdef char transpose = b"T", keep = b"N"
    cdef int m_ = <int> n, n_ = <int> rows, k_ = <int> k, stride = <int> out_stride, one_ = 1
    cdef real one = 1
    cdef size_t row
    if rows <= FEW_ROWS:
        for row in range(rows):
            if real is float:
                sgemv(&transpose, &k_, &m_, &one, <float *> w, &k_, <float *> a + row * k, &one_,
                      &one, out + row * out_stride, &one_)
            else:
                dgemv(&transpose, &k_, &m_, &one, <double *> w, &k_, <double *> a + row * k, &one_,
                      &one, out + row * out_stride, &one_)
    elif real is float:
        sgemm(&transpose, &keep, &m_, &n_, &k_, &one, <float *> w, &k_, <float *> a, &k_,
              &one, out, &stride)
    else:
        dgemm(&transpose, &keep, &m_, &n_, &k_, &one, <double *> w, &k_, <double *> a, &k_,
              &one, out, &stride)


cdef void add_product(real *out, size_t out_stride, const real *a, size_t rows, size_t k,
                      const real *w, size_t n, fr_watch *watch) noexcept nogil:
    """out[rows, n] += a[rows, k] @ w[n, k].T in pieces of rows, between which a run may end."""
    cdef size_t piece = PIECE_WORK // (k * n), done = 0, now
    if piece < LEAST_PIECE:
        piece = LEAST_PIECE
    while done < rows and not fr_ended(watch):
        now = piece if piece < rows - done else rows - done
        add_piece(out + done * out_stride, out_stride, a + done * k, now, k, w, n)
        fr_ends(watch, now * k * n)
        done += now


cdef void fill_rows(real *out, size_t rows, size_t width, const real *row) noexcept nogil:
    """Every row of out (rows, width) becomes `row`."""
    cdef size_t m
    for m in range(rows):
        memcpy(out + m * width, row, width * sizeof(real))


cdef void step_lstm(const blas_layer *layer, real *gates, size_t rows, real *h, real *c,
                    real *hidden_out, fr_watch *watch) noexcept nogil:
    """gates (B, 4H), h (B, P), c (B, H), hidden_out (B, H): o*tanh(c) before its projection."""
    cdef size_t m, H = layer.params.hidden_size, P = layer.state
    cdef real *out = hidden_out if layer.params.proj_size else h
    add_product(gates, 4 * H, h, rows, P, <const real *> layer.params.w_hh, 4 * H, watch)
    for m in range(rows):
        if real is float:
            fr_gates_lstm_f32(H, gates + m * 4 * H, c + m * H, out + m * H)
        else:
            fr_gates_lstm_f64(H, gates + m * 4 * H, c + m * H, out + m * H)
        if fr_ends(watch, H * GATE_WORK):
            return
    if layer.params.proj_size:
        memset(h, 0, rows * P * sizeof(real))
        add_product(h, P, hidden_out, rows, H, <const real *> layer.params.w_hr, P, watch)


cdef void step_gru(const blas_layer *layer, real *gates, size_t rows, real *h,
                   real *recurrent, fr_watch *watch) noexcept nogil:
    """gates (B, 3H), h (B, H), recurrent (B, 3H): b_h + h W_hh'."""
    cdef size_t m, H = layer.params.hidden_size
    fill_rows(recurrent, rows, 3 * H, <const real *> layer.recurrent_bias)
    add_product(recurrent, 3 * H, h, rows, H, <const real *> layer.params.w_hh, 3 * H, watch)
    for m in range(rows):
        if real is float:
            fr_gates_gru_f32(H, gates + m * 3 * H, recurrent + m * 3 * H, h + m * H)
        else:
            fr_gates_gru_f64(H, gates + m * 3 * H, recurrent + m * 3 * H, h + m * H)
        if fr_ends(watch, H * GATE_WORK):
            return


cdef void step_gru_reset_before(const blas_layer *layer, real *gates, size_t rows, real *h,
                                real *reset_h, fr_watch *watch) noexcept nogil:
    """gates (B, 3H), h (B, H), reset_h (B, H): r*h."""
    cdef size_t m, H = layer.params.hidden_size
    cdef const real *w_hh = <const real *> layer.params.w_hh
    add_product(gates, 3 * H, h, rows, H, w_hh, 2 * H, watch)
    for m in range(rows):
        if real is float:
            fr_gates_gru_reset_f32(H, gates + m * 3 * H, h + m * H, reset_h + m * H)
        else:
            fr_gates_gru_reset_f64(H, gates + m * 3 * H, h + m * H, reset_h + m * H)
        if fr_ends(watch, H * GATE_WORK):
            return
    add_product(gates + 2 * H, 3 * H, reset_h, rows, H, w_hh + 2 * H * H, H, watch)
    for m in range(rows):
        if real is float:
            fr_gates_gru_update_f32(H, gates + m * 3 * H, h + m * H)
        else:
            fr_gates_gru_update_f64(H, gates + m * 3 * H, h + m * H)
        if fr_ends(watch, H * GATE_WORK):
            return


cdef void step_rnn(const blas_layer *layer, real *gates, size_t rows, real *h,
                   fr_watch *watch) noexcept nogil:
    """gates (B, H), h (B, H)."""
    cdef size_t m, H = layer.params.hidden_size
    add_product(gates, H, h, rows, H, <const real *> layer.params.w_hh, H, watch)
    for m in range(rows):
        if real is float:
            fr_gates_rnn_f32(H, layer.params.relu, gates + m * H, h + m * H)
        else:
            fr_gates_rnn_f64(H, layer.params.relu, gates + m * H, h + m * H)
        if fr_ends(watch, H * GATE_WORK):
            return


cdef void run_steps(const blas_layer *layer, const fr_run *run, const real *x,
                    real *spare) noexcept nogil:
    cdef size_t B = run.batch, T = run.steps, I = layer.params.input_size
    cdef size_t G = layer.gates, P = layer.state
    # Ragged batches project step by step, so that dead rows cost nothing.
    cdef size_t chunk = 1 if run.rows != NULL else chunk_steps(layer, T, B)
    cdef real *projected = <real *> run.scratch
    cdef real *h = <real *> run.h
    cdef real *c = <real *> run.c
    cdef real *y
    cdef real *gates
    cdef size_t done = 0, first, n, k, t, m, rows
    while done < T:
        n = chunk if chunk < T - done else T - done
        first = T - done - n if run.reverse else done
        rows = n * B if run.rows == NULL else <size_t> run.rows[first]
        gates = projected if run.gates == NULL else <real *> run.gates + first * B * G
        if rows > 0:
            fill_rows(gates, rows, G, <const real *> layer.bias)
            add_product(gates, G, x + first * B * I, rows, I, <const real *> layer.params.w_ih, G,
                        run.watch)
        for k in range(n):
            t = first + (n - 1 - k if run.reverse else k)
            rows = B if run.rows == NULL else <size_t> run.rows[t]
            if rows == 0:
                continue
            if layer.params.cell == FR_LSTM:
                step_lstm(layer, gates + (t - first) * B * G, rows, h, c, spare, run.watch)
            elif layer.params.cell == FR_RNN:
                step_rnn(layer, gates + (t - first) * B * G, rows, h, run.watch)
            elif layer.params.reset_after:
                step_gru(layer, gates + (t - first) * B * G, rows, h, spare, run.watch)
            else:
                step_gru_reset_before(layer, gates + (t - first) * B * G, rows, h, spare, run.watch)
            if run.y != NULL:
                y = <real *> run.y + t * B * run.y_stride
                for m in range(rows):
                    memcpy(y + m * run.y_stride, h + m * P, P * sizeof(real))
            if fr_ended(run.watch):
                return
        done += n


cdef void move_states(const blas_layer *layer, const fr_run *run, real *h, real *c,
                      bint back) noexcept nogil:
    """The rows' own states to h (B, P) and c (B, H), or back."""
    cdef size_t m, H = layer.params.hidden_size, P = layer.state
    cdef real *state
    for m in range(run.batch):
        state = <real *> run.states[m]
        if back:
            memcpy(state + run.h_at, h + m * P, P * sizeof(real))
        else:
            memcpy(h + m * P, state + run.h_at, P * sizeof(real))
        if layer.params.cell != FR_LSTM:
            continue
        if back:
            memcpy(state + run.c_at, c + m * H, H * sizeof(real))
        else:
            memcpy(c + m * H, state + run.c_at, H * sizeof(real))


cdef void run_states(const blas_layer *layer, const fr_run *whole, real *scratch) noexcept nogil:
    """Scratch: h (B, P), c (B, H), products with h (B, 3H) or o*tanh(c) (B, H), and
    pre-activations (chunk, B, G*H)."""
    cdef fr_run run = whole[0]
    cdef real *c = scratch + run.batch * layer.state
    cdef real *spare = c + run.batch * layer.params.hidden_size
    run.scratch = spare + 3 * run.batch * layer.params.hidden_size
    if run.states != NULL:
        run.h = scratch
        run.c = c
        move_states(layer, &run, scratch, c, False)
    run_steps(layer, &run, <const real *> run.x, spare)
    if run.states != NULL:
        move_states(layer, &run, scratch, c, True)


cdef void run_layer(const fr_layer *base, const fr_run *run) noexcept nogil:
    cdef const blas_layer *layer = <const blas_layer *> base
    if layer.params.dtype == FR_FLOAT32:
        run_states(layer, run, <float *> run.scratch)
    else:
        run_states(layer, run, <double *> run.scratch)


cdef void join_biases(blas_layer *layer, const real *b_ih, const real *b_hh) noexcept nogil:
    cdef size_t u, H = layer.params.hidden_size
    cdef size_t split = 2 * H if layer.recurrent_bias != NULL else layer.gates
    cdef real *bias = <real *> layer.bias
    cdef real *recurrent_bias = <real *> layer.recurrent_bias
    for u in range(layer.gates):
        bias[u] = b_ih[u] if b_ih != NULL else 0
        if b_hh == NULL:
            continue
        if u < split:
            bias[u] += b_hh[u]
        else:
            recurrent_bias[u] = b_hh[u]


cdef fr_layer *pack(const fr_params *params) noexcept nogil:
    cdef size_t item = 4 if params.dtype == FR_FLOAT32 else 8
    cdef size_t H = params.hidden_size, I = params.input_size
    cdef size_t P = params.proj_size if params.proj_size else H
    cdef size_t G = H * (4 if params.cell == FR_LSTM else 3 if params.cell == FR_GRU else 1)
    cdef size_t w_ih = G * I, w_hh = G * P, w_hr = P * H if params.proj_size else 0
    cdef bint split = params.cell == FR_GRU and params.reset_after
    cdef size_t reals = w_ih + w_hh + w_hr + G + (G if split else 0)
    if G > INT_MAX or I > INT_MAX:  # BLAS counts in int
        return NULL
    cdef blas_layer *layer = <blas_layer *> malloc(sizeof(blas_layer))
    cdef char *weights = <char *> malloc(reals * item)
    if layer == NULL or weights == NULL:
        free(layer)
        free(weights)
        return NULL
    memset(weights, 0, reals * item)
    layer.base.scratch_bytes = scratch_bytes
    layer.base.run = run_layer
    layer.base.destroy = destroy
    layer.base.packed_bytes = reals * item
    layer.params = params[0]
    layer.gates = G
    layer.state = P
    layer.weights = weights
    layer.params.w_ih = memcpy(weights, params.w_ih, w_ih * item)
    weights += w_ih * item
    layer.params.w_hh = memcpy(weights, params.w_hh, w_hh * item)
    weights += w_hh * item
    if params.proj_size:
        layer.params.w_hr = memcpy(weights, params.w_hr, w_hr * item)
        weights += w_hr * item
    layer.bias = weights
    layer.recurrent_bias = weights + G * item if split else NULL
    if params.dtype == FR_FLOAT32:
        join_biases(layer, <const float *> params.b_ih, <const float *> params.b_hh)
    else:
        join_biases(layer, <const double *> params.b_ih, <const double *> params.b_hh)
    return &layer.base


cdef fr_engine blas_engine
blas_engine.name = b"blas"
blas_engine.pack = pack

ENGINE = PyCapsule_New(&blas_engine, FR_ENGINE_CAPSULE, NULL)
