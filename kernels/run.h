/* A run over a sequence.
 *
 * It goes in chunks of steps. A chunk of one step works block after block, x and h parts together, on
 * at most GROUP_ROWS rows at a time. A longer chunk (few rows) first multiplies all its rows of x, as
 * many-row tiles, then recurs. Both give the same bits: the chains are the same.
 *
 * States live in scratch during a run, padded to whole panels; a row is copied in when it first lives
 * and out when it last did. Caller's arrays are touched by those copies, by the copy to y, and by the
 * tiles' scalar reads of x: nothing reads or writes past a row.
 */

#define GROUP_ROWS 96

/* Scratch, in floats, each part a multiple of ALIGNMENT bytes. */
typedef struct {
    step_state state;
    float *h_sums;      /* (GROUP_ROWS, block width) */
    float *x_sums[2];   /* per stage: the same; or, for a chunk of steps, (blocks, chunk * batch, block width) */
} run_scratch;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static size_t chunk_steps(size_t steps, size_t batch)
{
    return batch >= GROUP_ROWS ? 1 : smaller(steps, GROUP_ROWS / batch);
}

/* Scratch is handed out from the front; with base NULL it is only counted. */
typedef struct {
    float *base;
    size_t used;
} arena;

static float *take(arena *a, size_t floats)
{
    float *p = a->base ? a->base + a->used : NULL;
    a->used += round_up(floats, ALIGNMENT / sizeof(float));
    return p;
}

static run_scratch lay_out(const simd_layer *l, size_t steps, size_t batch, arena *a)
{
    size_t chunk = chunk_steps(steps, batch), group = smaller(batch, GROUP_ROWS);
    size_t h_stride = round_up(l->state_size, PANEL), unit_stride = round_up(l->hidden_size, PANEL);
    run_scratch s = {.state = {.h_stride = h_stride, .unit_stride = unit_stride}};
    s.state.h = take(a, batch * h_stride);
    s.state.h_next = take(a, batch * h_stride);
    s.state.c = take(a, l->lstm ? batch * unit_stride : 0);
    s.state.inner = take(a, l->stages == 2 ? batch * unit_stride : 0);
    s.state.z = take(a, l->stages == 2 && !l->lstm ? batch * unit_stride : 0);
    s.h_sums = take(a, group * BLOCK_PANELS * PANEL);
    for (size_t i = 0; i < l->stages; i++) {
        const matrix *x = &l->stage[i].x;
        size_t columns = chunk == 1 ? BLOCK_PANELS * PANEL : x->gates * round_up(x->units, PANEL);
        s.x_sums[i] = take(a, x->w ? (chunk == 1 ? group : chunk * batch) * columns : 0);
    }
    return s;
}

static size_t scratch_bytes(const fr_layer *layer, size_t steps, size_t batch)
{
    arena count = {NULL, 0};
    lay_out((const simd_layer *)layer, steps, batch, &count);
    return count.used * sizeof(float);
}

/* n floats between rows that need not be aligned and do not overlap */
INLINE void copy_row(float *to, const float *from, size_t n)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= n; j += VEC_WIDTH)
        v_storeu(to + j, v_loadu(from + j));
    for (; j < n; j++)
        to[j] = from[j];
}

static void copy_rows(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t n)
{
    for (size_t m = 0; m < rows; m++)
        copy_row(to + m * to_stride, from + m * from_stride, n);
}

/* Where a block's x_sums of a chunk of `chunk_rows` rows begin: blocks before it are full. */
static float *block_sums(const matrix *m, size_t block, size_t chunk_rows, float *x_sums)
{
    return x_sums + block_unit(m, block) * m->gates * chunk_rows;
}

/* One step of one stage over blocks [first, last). x (rows, I); or NULL, when its sums already stand
 * in x_sums from chunk row `chunk_row` on. */
static void stage_step(const simd_layer *l, size_t i, const run_scratch *s, size_t rows, const float *x,
                       size_t chunk_row, size_t chunk_rows, size_t first, size_t last)
{
    const stage *g = &l->stage[i];
    const float *from = i == 0 ? s->state.h : s->state.inner;
    size_t stride = i == 0 ? s->state.h_stride : s->state.unit_stride;
    for (size_t block = first; block < last; block++) {
        size_t units = block_units(&g->h, block), unit = block_unit(&g->h, block);
        for (size_t row = 0, n; row < rows; row += n) {
            n = smaller(rows - row, GROUP_ROWS);
            const float *x_sums = s->x_sums[i];
            if (g->x.w && x)
                block_product(&g->x, block, n, x + row * l->input_size, l->input_size, s->x_sums[i]);
            else if (g->x.w)
                x_sums = block_sums(&g->x, block, chunk_rows, s->x_sums[i]) + (chunk_row + row) * units * g->h.gates;
            block_product(&g->h, block, n, from + row * stride, stride, s->h_sums);
            g->cell(&s->state, row, n, unit, units, x_sums, s->h_sums);
        }
    }
}

static size_t live_rows(const fr_run *run, size_t t) { return run->rows ? (size_t)run->rows[t] : run->batch; }

/* x_sums of the live rows of steps [first, first + n), chunk row (t - first) * batch + m */
static void project_chunk(const simd_layer *l, const fr_run *run, size_t first, size_t n, const run_scratch *s)
{
    size_t batch = run->batch;
    for (size_t i = 0; i < l->stages; i++) {
        const matrix *m = &l->stage[i].x;
        for (size_t block = 0; m->w && block < m->blocks; block++)
            for (size_t t = first, steps; t < first + n; t += steps) {
                size_t rows = live_rows(run, t);
                for (steps = 1; rows % batch == 0 && rows && t + steps < first + n && live_rows(run, t + steps) == batch;)
                    rows += batch, steps++;
                if (rows)
                    block_product(m, block, rows, (const float *)run->x + t * batch * l->input_size, l->input_size,
                                  block_sums(m, block, n * batch, s->x_sums[i])
                                      + (t - first) * batch * block_units(m, block) * m->gates);
            }
    }
}

/* Rows that begin to live are copied in, rows that cease to are copied out. */
static void change_rows(const simd_layer *l, const fr_run *run, const step_state *s, size_t from, size_t to)
{
    size_t h = l->state_size, c = l->hidden_size;
    float *run_h = run->h, *run_c = run->c;
    if (from < to) {
        copy_rows(s->h + from * s->h_stride, s->h_stride, run_h + from * h, h, to - from, h);
        if (l->lstm)
            copy_rows(s->c + from * s->unit_stride, s->unit_stride, run_c + from * c, c, to - from, c);
    } else if (to < from) {
        copy_rows(run_h + to * h, h, s->h + to * s->h_stride, s->h_stride, from - to, h);
        if (l->lstm)
            copy_rows(run_c + to * c, c, s->c + to * s->unit_stride, s->unit_stride, from - to, c);
    }
}

static void run_layer(const fr_layer *layer, const fr_run *run)
{
    const simd_layer *l = (const simd_layer *)layer;
    size_t steps = run->steps, batch = run->batch, live = 0;
    arena memory = {run->scratch, 0};
    run_scratch s = lay_out(l, steps, batch, &memory);
    size_t chunk = chunk_steps(steps, batch);
    for (size_t done = 0, n; done < steps; done += n) {
        n = smaller(chunk, steps - done);
        size_t first = run->reverse ? steps - done - n : done;
        if (chunk > 1)
            project_chunk(l, run, first, n, &s);
        for (size_t i = 0; i < n; i++) {
            size_t at = run->reverse ? n - 1 - i : i, t = first + at, rows = live_rows(run, t);
            const float *x = chunk > 1 ? NULL : (const float *)run->x + t * batch * l->input_size;
            change_rows(l, run, &s.state, live, rows);
            live = rows;
            for (size_t k = 0; k < l->stages; k++)
                stage_step(l, k, &s, rows, x, at * batch, n * batch, 0, l->stage[k].h.blocks);
            float *h = s.state.h;
            s.state.h = s.state.h_next;
            s.state.h_next = h;
            if (run->y)
                copy_rows((float *)run->y + t * batch * run->y_stride, run->y_stride, s.state.h, s.state.h_stride, rows,
                          l->state_size);
        }
    }
    change_rows(l, run, &s.state, live, 0);
}
