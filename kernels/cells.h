/* The cells: what turns one block's sums into the next state, row by row.
 *
 * x_sums, h_sums (rows, gates, width): the two chains of every gate, each begun at its own bias, added
 * here once. width = PANEL units, or up to 4 PANEL where there is one gate. All rows are padded to whole
 * panels, so every operation is a full vector on aligned memory. Formulas and gate order are torch's.
 */

/* One step's rows, each (batch, stride). Padding past the last unit holds whatever it holds. */
typedef struct {
    size_t h_stride;        /* P rounded up to PANEL */
    size_t unit_stride;     /* H rounded up to PANEL */
    float *h;               /* the state before the step */
    float *h_next;          /* and after it */
    float *c;               /* LSTM: cell state, updated in place */
    float *inner;           /* H-wide input of a second stage: LSTM o * tanh(c), GRU r * h */
    float *z;               /* GRU, reset before the product: update gate, kept for the second stage */
} step_state;

typedef void cell_fn(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                     const float *x_sums, const float *h_sums);

/* c' = sigmoid(f) c + sigmoid(i) tanh(g);  out = sigmoid(o) tanh(c') */
INLINE void lstm(const step_state *s, float *out, size_t row, size_t rows, size_t unit, size_t width,
                 const float *x_sums, const float *h_sums)
{
    for (size_t m = row; m < row + rows; m++, x_sums += 4 * width, h_sums += 4 * width)
        for (size_t j = 0; j < width; j += VEC_WIDTH) {
            size_t at = m * s->unit_stride + unit + j;
            vec i = v_sigmoid(v_add(v_load(x_sums + j), v_load(h_sums + j)));
            vec f = v_sigmoid(v_add(v_load(x_sums + width + j), v_load(h_sums + width + j)));
            vec g = v_tanh(v_add(v_load(x_sums + 2 * width + j), v_load(h_sums + 2 * width + j)));
            vec o = v_sigmoid(v_add(v_load(x_sums + 3 * width + j), v_load(h_sums + 3 * width + j)));
            vec c = v_fma(f, v_load(s->c + at), v_mul(i, g));
            v_store(s->c + at, c);
            v_store(out + at, v_mul(o, v_tanh(c)));
        }
}

static void lstm_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                      const float *x_sums, const float *h_sums)
{
    lstm(s, s->h_next, row, rows, unit, width, x_sums, h_sums);
}

/* With a projection the block's output is the second stage's input. */
static void lstm_inner_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                            const float *x_sums, const float *h_sums)
{
    lstm(s, s->inner, row, rows, unit, width, x_sums, h_sums);
}

/* h' = W_hr inner */
static void projection_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                            const float *x_sums, const float *h_sums)
{
    (void)x_sums;
    for (size_t m = row; m < row + rows; m++, h_sums += width)
        for (size_t j = 0; j < width; j += VEC_WIDTH)
            v_store(s->h_next + m * s->h_stride + unit + j, v_load(h_sums + j));
}

/* h' = (1 - z) n + z h. In this form z = 1 keeps h exactly; n + z (h - n), torch's, rounds it to the precision of n. */
INLINE vec gru_update(vec z, vec n, vec h)
{
    return v_fma(z, h, v_mul(v_sub(v_set1(1.0f), z), n));
}

/* Reset after the product, torch's: n = tanh(x_n + sigmoid(r) h_n) */
static void gru_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                     const float *x_sums, const float *h_sums)
{
    for (size_t m = row; m < row + rows; m++, x_sums += 3 * width, h_sums += 3 * width)
        for (size_t j = 0; j < width; j += VEC_WIDTH) {
            size_t at = m * s->h_stride + unit + j;
            vec r = v_sigmoid(v_add(v_load(x_sums + j), v_load(h_sums + j)));
            vec z = v_sigmoid(v_add(v_load(x_sums + width + j), v_load(h_sums + width + j)));
            vec n = v_tanh(v_fma(r, v_load(h_sums + 2 * width + j), v_load(x_sums + 2 * width + j)));
            v_store(s->h_next + at, gru_update(z, n, v_load(s->h + at)));
        }
}

/* Reset before the product, first stage: inner = sigmoid(r) h, and z */
static void gru_reset_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                           const float *x_sums, const float *h_sums)
{
    for (size_t m = row; m < row + rows; m++, x_sums += 2 * width, h_sums += 2 * width)
        for (size_t j = 0; j < width; j += VEC_WIDTH) {
            size_t at = m * s->h_stride + unit + j;
            vec r = v_sigmoid(v_add(v_load(x_sums + j), v_load(h_sums + j)));
            vec z = v_sigmoid(v_add(v_load(x_sums + width + j), v_load(h_sums + width + j)));
            v_store(s->inner + at, v_mul(r, v_load(s->h + at)));
            v_store(s->z + at, z);
        }
}

/* Second stage: n = tanh(x_n + W_hn inner) */
static void gru_new_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                         const float *x_sums, const float *h_sums)
{
    for (size_t m = row; m < row + rows; m++, x_sums += width, h_sums += width)
        for (size_t j = 0; j < width; j += VEC_WIDTH) {
            size_t at = m * s->h_stride + unit + j;
            vec n = v_tanh(v_add(v_load(x_sums + j), v_load(h_sums + j)));
            v_store(s->h_next + at, gru_update(v_load(s->z + at), n, v_load(s->h + at)));
        }
}

/* h' = tanh(x + h) */
static void rnn_tanh_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                          const float *x_sums, const float *h_sums)
{
    for (size_t m = row; m < row + rows; m++, x_sums += width, h_sums += width)
        for (size_t j = 0; j < width; j += VEC_WIDTH)
            v_store(s->h_next + m * s->h_stride + unit + j, v_tanh(v_add(v_load(x_sums + j), v_load(h_sums + j))));
}

/* h' = max(x + h, 0), NaN staying NaN */
static void rnn_relu_cell(const step_state *s, size_t row, size_t rows, size_t unit, size_t width,
                          const float *x_sums, const float *h_sums)
{
    for (size_t m = row; m < row + rows; m++, x_sums += width, h_sums += width)
        for (size_t j = 0; j < width; j += VEC_WIDTH) {
            vec a = v_add(v_load(x_sums + j), v_load(h_sums + j));
            v_store(s->h_next + m * s->h_stride + unit + j, v_zero_below(a, 0.0f, a));
        }
}
