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
    float most;                 /* what h's numbers are at most in magnitude, as a rule; 0: there is no rule */
} stage;

typedef struct {
    fr_layer base;
    size_t input_size, state_size, hidden_size;     /* I, P, H */
    int lstm;
    size_t threads;     /* at most, for one run */
    size_t stages;
    stage stage[2];
    char *weights;      /* all matrices, one after another: stage by stage, x then h */
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
    const weight_format *f = formats[p->weights];
    matrix none = {0}, x[2], h[2];
    size_t first = p->cell == FR_LSTM ? 4 : p->cell == FR_RNN ? 1 : p->reset_after ? 3 : 2;   /* gates of stage 0 */
    for (size_t i = 0; i < 2; i++) {
        x[i] = matrix_shape(f, input, hidden, i == 0 ? first : 1);
        h[i] = matrix_shape(f, state, hidden, i == 0 ? first : 1);
    }
    if (p->cell == FR_LSTM && p->proj_size) {
        l->stages = 2;
        l->stage[0] = (stage){lstm_gates, lstm_inner, x[0], h[0], 0.0f};
        l->stage[1] = (stage){NULL, projection_output, none, matrix_shape(f, hidden, state, 1), 1.0f};
    } else if (p->cell == FR_LSTM) {
        l->stage[0] = (stage){lstm_gates, lstm_output, x[0], h[0], 1.0f};
    } else if (p->cell == FR_GRU && !p->reset_after) {
        l->stages = 2;
        l->stage[0] = (stage){NULL, gru_reset_output, x[0], h[0], 1.0f};
        l->stage[1] = (stage){NULL, gru_new_output, x[1], h[1], 1.0f};
    } else if (p->cell == FR_GRU) {
        l->stage[0] = (stage){gru_gates, gru_output, x[0], h[0], 1.0f};
    } else {
        l->stage[0] = (stage){NULL, p->relu ? rnn_relu_output : rnn_tanh_output, x[0], h[0], p->relu ? 0.0f : 1.0f};
    }
}

static size_t layer_bytes(const simd_layer *l)
{
    size_t bytes = 0;
    for (size_t i = 0; i < l->stages; i++)
        bytes += matrix_bytes(&l->stage[i].x) + matrix_bytes(&l->stage[i].h);
    return bytes;
}

/* From so many bytes of weights on, a step reads them from memory: more than an L3 has, or a core's share of one. */
#ifndef FAR_BYTES       /* some of the tests set it to 1 */
#define FAR_BYTES (32 << 20)
#endif

/* A stage's matrix, and what of the parameters it holds: gates are stacked, its rows follow those of stages before. */
typedef void matrix_fn(const matrix *m, const matrix_source *source);

static void each_matrix(const simd_layer *l, const fr_params *p, matrix_fn *visit)
{
    size_t row = 0;
    for (size_t i = 0; i < l->stages; i++) {
        const stage *g = &l->stage[i];
        const weight_format *f = g->h.format;
        if (g->x.units == 0) {
            matrix_source source = source_of(f, p->w_hr, p->scale_hr, NULL, 0, g->h.depth);
            visit(&g->h, &source);
            continue;
        }
        matrix_source x = source_of(f, p->w_ih, p->scale_ih, p->b_ih, row, g->x.depth);
        matrix_source h = source_of(f, p->w_hh, p->scale_hh, p->b_hh, row, g->h.depth);
        visit(&g->x, &x);
        visit(&g->h, &h);
        row += g->x.gates * g->x.units;
    }
}

static void pack_layer(simd_layer *l, const fr_params *p)
{
    char *w = l->weights;
    int far = l->base.packed_bytes >= FAR_BYTES;
    for (size_t i = 0; i < l->stages; i++) {
        matrix *both[2] = {&l->stage[i].x, &l->stage[i].h};
        for (size_t k = 0; k < 2; k++) {
            both[k]->far = far;
            both[k]->w = w;
            w += matrix_bytes(both[k]);
        }
    }
    each_matrix(l, p, matrix_pack);
}

static void unpack_layer(const fr_layer *layer, const fr_params *to)
{
    each_matrix((const simd_layer *)layer, to, matrix_unpack);
}

/* Aligned memory; where it is worth it and the OS offers them, in huge pages: a step over 33 MB of weights then
 * takes 10 to 25 % less. */
static char *allocate_weights(size_t bytes)
{
    const size_t huge_page = 2 << 20;
    size_t unit = bytes >= huge_page ? huge_page : ALIGNMENT;
    char *w = aligned_alloc(unit, round_up(bytes, unit));
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
