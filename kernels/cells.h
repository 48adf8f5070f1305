/* The cells: what turns one block's sums into the next state.
 *
 * x_sums, h_sums (rows, width), each row (gates, units) and what fills its last panel: the two chains of
 * every gate, added here once. `units` is a block's, padding included, so every operation is a full vector
 * on aligned memory. Formulas and gate order are torch's.
 *
 * A cell is up to two passes over the block, each short in latency and wide in independent work: one
 * long pass would leave the multipliers waiting. What the first leaves for the second, it puts in h_sums.
 */

/* One step's rows, each (batch, stride). Padding past the last unit holds whatever it holds. */
typedef struct {
    size_t h_stride;        /* P rounded up to PANEL */
    size_t unit_stride;     /* H rounded up to PANEL */
    float *h;               /* the state before the step */
    float *h_next;          /* and after it */
    float *c;               /* LSTM: cell state, updated in place */
    float *inner;           /* H-wide input of a second stage: LSTM o tanh(c), GRU r h */
    float *z;               /* GRU, reset before the product: update gate, kept for the second stage */
} step_state;

/* All rows, units [unit, unit + units) of a step; sums `width` apart from row to row. */
typedef struct {
    size_t rows, unit, units, width;
    const float *x_sums;
    float *h_sums;
} cell_block;

typedef void cell_fn(const step_state *s, const cell_block *b);

/* The sum of one gate: vector j of a row's sums. */
INLINE vec gate_sum(const float *x_sums, const float *h_sums, size_t j)
{
    return v_add(v_load(x_sums + j), v_load(h_sums + j));
}

/* c' = sigmoid(f) c + sigmoid(i) tanh(g). Leaves the divisor of sigmoid(o). */
static void lstm_gates(const step_state *s, const cell_block *b)
{
    size_t n = b->units;
    for (size_t m = 0; m < b->rows; m++) {
        const float *x = b->x_sums + m * b->width;
        float *h = b->h_sums + m * b->width, *c = s->c + m * s->unit_stride + b->unit;
        for (size_t j = 0; j < n; j += VEC_WIDTH) {
            vec i = sigmoid_divisor(gate_sum(x, h, j));
            vec f = sigmoid_divisor(gate_sum(x, h, n + j));
            vec g_divisor, g = tanh_dividend(gate_sum(x, h, 2 * n + j), &g_divisor);
            vec o = sigmoid_divisor(gate_sum(x, h, 3 * n + j));
            v_store(c + j, v_add(v_div(v_load(c + j), f), v_div(g, v_mul(i, g_divisor))));
            v_store(h + j, o);
        }
    }
}

/* out = sigmoid(o) tanh(c') */
INLINE void lstm_out(const step_state *s, const cell_block *b, float *out)
{
    size_t n = b->units;
    for (size_t m = 0; m < b->rows; m++) {
        size_t at = m * s->unit_stride + b->unit;
        for (size_t j = 0; j < n; j += VEC_WIDTH) {
            vec divisor, c = tanh_dividend(v_load(s->c + at + j), &divisor);
            v_store(out + at + j, v_div(c, v_mul(v_load(b->h_sums + m * b->width + j), divisor)));
        }
    }
}

static void lstm_output(const step_state *s, const cell_block *b) { lstm_out(s, b, s->h_next); }

/* With a projection, the input of the second stage. */
static void lstm_inner(const step_state *s, const cell_block *b) { lstm_out(s, b, s->inner); }

/* h' = W_hr inner */
static void projection_output(const step_state *s, const cell_block *b)
{
    for (size_t m = 0; m < b->rows; m++)
        for (size_t j = 0; j < b->units; j += VEC_WIDTH)
            v_store(s->h_next + m * s->h_stride + b->unit + j, v_load(b->h_sums + m * b->width + j));
}

/* h' = (1 - z) n + z h. In this form z = 1 keeps h exactly; n + z (h - n), torch's, rounds it to n's precision. */
INLINE vec gru_update(vec z, vec n, vec h) { return v_fma(z, h, v_mul(v_sub(v_set1(1.0f), z), n)); }

/* Reset after the product, torch's. Leaves z and the argument of n = tanh(x_n + sigmoid(r) h_n). */
static void gru_gates(const step_state *s, const cell_block *b)
{
    size_t n = b->units;
    (void)s;
    for (size_t m = 0; m < b->rows; m++) {
        const float *x = b->x_sums + m * b->width;
        float *h = b->h_sums + m * b->width;
        for (size_t j = 0; j < n; j += VEC_WIDTH) {
            vec r = v_sigmoid(gate_sum(x, h, j));
            vec z = v_sigmoid(gate_sum(x, h, n + j));
            v_store(h + j, v_fma(r, v_load(h + 2 * n + j), v_load(x + 2 * n + j)));
            v_store(h + n + j, z);
        }
    }
}

static void gru_output(const step_state *s, const cell_block *b)
{
    size_t n = b->units;
    for (size_t m = 0; m < b->rows; m++) {
        const float *left = b->h_sums + m * b->width;
        size_t at = m * s->h_stride + b->unit;
        for (size_t j = 0; j < n; j += VEC_WIDTH)
            v_store(s->h_next + at + j,
                    gru_update(v_load(left + n + j), v_tanh(v_load(left + j)), v_load(s->h + at + j)));
    }
}

/* Reset before the product, first stage: inner = sigmoid(r) h, and z */
static void gru_reset_output(const step_state *s, const cell_block *b)
{
    size_t n = b->units;
    for (size_t m = 0; m < b->rows; m++) {
        const float *x_sums = b->x_sums + m * b->width, *h_sums = b->h_sums + m * b->width;
        size_t at = m * s->h_stride + b->unit;
        for (size_t j = 0; j < n; j += VEC_WIDTH) {
            v_store(s->inner + at + j, v_mul(v_sigmoid(gate_sum(x_sums, h_sums, j)), v_load(s->h + at + j)));
            v_store(s->z + at + j, v_sigmoid(gate_sum(x_sums, h_sums, n + j)));
        }
    }
}

/* Second stage: n = tanh(x_n + W_hn inner) */
static void gru_new_output(const step_state *s, const cell_block *b)
{
    for (size_t m = 0; m < b->rows; m++) {
        size_t at = m * s->h_stride + b->unit;
        for (size_t j = 0; j < b->units; j += VEC_WIDTH) {
            vec n = v_tanh(gate_sum(b->x_sums, b->h_sums, m * b->width + j));
            v_store(s->h_next + at + j, gru_update(v_load(s->z + at + j), n, v_load(s->h + at + j)));
        }
    }
}

/* h' = tanh(x + h) */
static void rnn_tanh_output(const step_state *s, const cell_block *b)
{
    for (size_t m = 0; m < b->rows; m++)
        for (size_t j = 0; j < b->units; j += VEC_WIDTH)
            v_store(s->h_next + m * s->h_stride + b->unit + j,
                    v_tanh(gate_sum(b->x_sums, b->h_sums, m * b->width + j)));
}

/* h' = max(x + h, 0) */
static void rnn_relu_output(const step_state *s, const cell_block *b)
{
    for (size_t m = 0; m < b->rows; m++)
        for (size_t j = 0; j < b->units; j += VEC_WIDTH)
            v_store(s->h_next + m * s->h_stride + b->unit + j,
                    v_max(0.0f, gate_sum(b->x_sums, b->h_sums, m * b->width + j)));
}
