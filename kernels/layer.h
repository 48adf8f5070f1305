/* A packed layer: one or two stages.
 *
 *     LSTM                     (i f g o)
 *     LSTM with projection     (i f g o) -> inner = o tanh(c)     then  h' = W_hr inner
 *     GRU                      (r z n)
 *     GRU, reset before        (r z)     -> inner = r h           then  (n) on inner
 *     RNN                      (one gate)
 *
 * A stage is x_sums = b_ih + W_ih x, h_sums = b_hh + W_hh h (in the second stage: of inner), then its cell.
 */

typedef struct {
    cell_fn *gates, *output;    /* the cell's passes, gates NULL where one does */
    matrix x, h;                /* the projection's stage has no x: depth 0 */
} stage;

typedef struct {
    fr_layer base;
    size_t input_size, state_size, hidden_size;     /* I, P, H */
    int lstm;
    size_t threads;     /* at most, for one run */
    size_t stages;
    stage stage[2];
    float *weights;     /* all matrices, one after another: stage by stage, x then h */
} simd_layer;

static void shape_layer(simd_layer *l, const fr_params *p)
{
    size_t input = p->input_size, hidden = p->hidden_size, state = p->proj_size ? p->proj_size : hidden;
    l->input_size = input;
    l->hidden_size = hidden;
    l->state_size = state;
    l->lstm = p->cell == FR_LSTM;
    l->threads = p->threads ? p->threads : 1;
    l->stages = 1;
    if (p->cell == FR_LSTM && p->proj_size) {
        l->stages = 2;
        l->stage[0] = (stage){lstm_gates, lstm_inner, matrix_shape(input, hidden, 4), matrix_shape(state, hidden, 4)};
        l->stage[1] = (stage){NULL, projection_output, {0}, matrix_shape(hidden, state, 1)};
    } else if (p->cell == FR_LSTM) {
        l->stage[0] = (stage){lstm_gates, lstm_output, matrix_shape(input, hidden, 4), matrix_shape(hidden, hidden, 4)};
    } else if (p->cell == FR_GRU && !p->reset_after) {
        l->stages = 2;
        l->stage[0] = (stage){NULL, gru_reset_output, matrix_shape(input, hidden, 2), matrix_shape(hidden, hidden, 2)};
        l->stage[1] = (stage){NULL, gru_new_output, matrix_shape(input, hidden, 1), matrix_shape(hidden, hidden, 1)};
    } else if (p->cell == FR_GRU) {
        l->stage[0] = (stage){gru_gates, gru_output, matrix_shape(input, hidden, 3), matrix_shape(hidden, hidden, 3)};
    } else {
        cell_fn *output = p->relu ? rnn_relu_output : rnn_tanh_output;
        l->stage[0] = (stage){NULL, output, matrix_shape(input, hidden, 1), matrix_shape(hidden, hidden, 1)};
    }
}

static size_t layer_floats(const simd_layer *l)
{
    size_t floats = 0;
    for (size_t i = 0; i < l->stages; i++)
        floats += matrix_floats(&l->stage[i].x) + matrix_floats(&l->stage[i].h);
    return floats;
}

/* From so many bytes of weights on, a step reads them from memory: more than an L3 has, or a core's share of one. */
#ifndef FAR_BYTES       /* some of the tests set it to 1 */
#define FAR_BYTES (32 << 20)
#endif

/* w (.., depth) and bias from gate row `row` on; NULL stays NULL */
static float *pack_from(matrix *m, float *out, const void *w, const void *bias, size_t row)
{
    m->w = out;
    matrix_pack(m, (const float *)w + row * m->depth, bias ? (const float *)bias + row : NULL);
    return out + matrix_floats(m);
}

static void pack_layer(simd_layer *l, const fr_params *p)
{
    float *out = l->weights;
    int far = l->base.packed_bytes >= FAR_BYTES;
    size_t row = 0;     /* gates are stacked: a stage's rows follow those of the stage before */
    for (size_t i = 0; i < l->stages; i++) {
        stage *g = &l->stage[i];
        g->x.far = g->h.far = far;
        if (g->x.units == 0) {
            out = pack_from(&g->h, out, p->w_hr, NULL, 0);
        } else {
            out = pack_from(&g->x, out, p->w_ih, p->b_ih, row);
            out = pack_from(&g->h, out, p->w_hh, p->b_hh, row);
            row += g->x.gates * g->x.units;
        }
    }
}

/* Aligned memory; where it is worth it and the OS offers them, in huge pages: a step over 33 MB of weights then
 * takes 10 to 25 % less. */
static float *allocate_weights(size_t bytes)
{
    const size_t huge_page = 2 << 20;
    size_t unit = bytes >= huge_page ? huge_page : ALIGNMENT;
    float *w = aligned_alloc(unit, round_up(bytes, unit));
#if defined(__linux__)
    if (w && unit == huge_page)
        madvise(w, round_up(bytes, unit), MADV_HUGEPAGE);   /* a hint: refused is fine */
#endif
    return w;
}

static void destroy_layer(fr_layer *layer)
{
    free(((simd_layer *)layer)->weights);
    free(layer);
}
