/* A run over a sequence.
 *
 * Rows are independent: they go in groups of at most GROUP_ROWS, each through the whole sequence. A
 * group goes in chunks of steps, as many as fill GROUP_ROWS rows: first all of the chunk's rows are
 * multiplied by W_ih, in many-row tiles where there are many, then the steps recur one by one.
 *
 * States live in scratch during a run, padded to whole panels; a row is copied in when it first lives
 * and out when it last did. Caller's arrays are touched by those copies, by the copy to y, and by the
 * tiles' scalar reads of x: nothing reads or writes past a row.
 *
 * Several threads each take a share of every stage's blocks, and with them of the weights, which stay in
 * that core's cache; they meet at a barrier after each stage of each step. A block's arithmetic is the same
 * whoever does it.
 */

/* Rows worked on together: enough to use every weight often, few enough for x, h and sums to stay in L2. */
#define GROUP_ROWS 96

/* With few rows, cells wait until blocks x rows is this many, so that there is enough independent work. */
#define CELL_ROWS 8

/* How a run is cut, and its scratch: floats, each part a multiple of ALIGNMENT bytes. */
typedef struct {
    size_t group;       /* rows worked on together */
    size_t chunk;       /* steps projected together; more than 1 only where a group is the whole batch */
    step_state state;
    size_t threads;
    float *h_sums;      /* (threads, h_sums_floats), each (blocks in work, rows, block width) */
    size_t h_sums_floats;
    float *x_sums[2];   /* per stage (blocks, chunk * rows, block width) */
} run_plan;

/* Multiply-adds of a step below which a barrier costs more than another thread saves: LSTM, I = H = 192, 1 row. */
#ifndef THREAD_WORK     /* the tests set it to 1 */
#define THREAD_WORK 250000
#endif

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

static run_plan lay_out(const simd_layer *l, size_t steps, size_t batch, arena *a)
{
    size_t h_stride = round_up(l->state_size, PANEL), unit_stride = round_up(l->hidden_size, PANEL);
    run_plan s = {.group = batch, .chunk = 1, .threads = 1};
    s.state = (step_state){.h_stride = h_stride, .unit_stride = unit_stride};
    if (l->base.packed_bytes / sizeof(float) * batch >= THREAD_WORK)
        s.threads = smaller(l->threads, l->stage[0].h.blocks);
    if (batch > GROUP_ROWS)
        s.group = even_part(batch, GROUP_ROWS);
    else if (steps > 1)
        s.chunk = smaller(steps, GROUP_ROWS / batch);
    size_t rows = s.group, chunk_rows = s.chunk * rows;
    s.state.h = take(a, rows * h_stride);
    s.state.h_next = take(a, rows * h_stride);
    s.state.c = take(a, l->lstm ? rows * unit_stride : 0);
    s.state.inner = take(a, l->stages == 2 ? rows * unit_stride : 0);
    s.state.z = take(a, l->stages == 2 && !l->lstm ? rows * unit_stride : 0);
    s.h_sums_floats = (rows + CELL_ROWS) * BLOCK_PANELS * PANEL;
    s.h_sums = take(a, s.threads * s.h_sums_floats);
    for (size_t i = 0; i < l->stages; i++)
        s.x_sums[i] = take(a, chunk_rows * l->stage[i].x.gates * round_up(l->stage[i].x.units, PANEL));
    return s;
}

static size_t scratch_bytes(const fr_layer *layer, size_t steps, size_t batch)
{
    arena count = {NULL, 0};
    lay_out((const simd_layer *)layer, steps, batch, &count);
    return count.used * sizeof(float);
}

static void copy_row(float *to, const float *from, size_t n) { memcpy(to, from, n * sizeof(float)); }

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

/* One step of one stage over blocks [first, last), for `rows` rows whose x_sums stand from row `chunk_row` of
 * chunk_rows on. */
static void stage_step(const simd_layer *l, size_t i, const run_plan *s, size_t rows, size_t chunk_row,
                       size_t chunk_rows, size_t first, size_t last)
{
    const stage *g = &l->stage[i];
    const float *from = i == 0 ? s->state.h : s->state.inner;
    size_t stride = i == 0 ? s->state.h_stride : s->state.unit_stride;
    size_t at_once = rows == 1 ? CELL_ROWS : rows < CELL_ROWS ? CELL_ROWS / rows : 1;       /* blocks */
    for (size_t block = first, n; block < last; block += n) {
        cell_block b[CELL_ROWS];
        n = smaller(at_once, last - block);
        for (size_t k = 0; k < n; k++) {
            size_t units = block_units(&g->h, block + k), width = block_width(&g->h, block + k);
            const float *x_sums = block_sums(&g->x, block + k, chunk_rows, s->x_sums[i])
                                + chunk_row * width;
            float *h_sums = s->h_sums + k * rows * BLOCK_PANELS * PANEL;
            b[k] = (cell_block){rows, block_unit(&g->h, block + k), units, width, x_sums, h_sums};
            block_product(&g->h, block + k, rows, from, stride, h_sums);
        }
        for (size_t k = 0; g->gates && k < n; k++)
            g->gates(&s->state, &b[k]);
        for (size_t k = 0; k < n; k++)
            g->output(&s->state, &b[k]);
    }
}

/* How many of rows [first_row, first_row + rows) live at step t. */
static size_t live_rows(const fr_run *run, size_t first_row, size_t rows, size_t t)
{
    size_t live = run->rows ? (size_t)run->rows[t] : run->batch;
    return live <= first_row ? 0 : smaller(live - first_row, rows);
}

/* This thread's share of n things: [*first, *last). */
static void share(size_t n, const fr_team *team, size_t member, size_t *first, size_t *last)
{
    size_t size = fr_team_size(team);
    *first = size == 1 ? 0 : n * member / size;     /* alone, a step has no time for divisions */
    *last = size == 1 ? n : n * (member + 1) / size;
}

/* x_sums of the live rows of steps [first, first + n): step t's at chunk row (t - first) * rows */
static void project_chunk(const simd_layer *l, const fr_run *run, size_t first_row, size_t rows, size_t first, size_t n,
                          const run_plan *s, const fr_team *team, size_t member)
{
    for (size_t i = 0, begin, end; i < l->stages; i++) {
        const matrix *m = &l->stage[i].x;
        share(m->blocks, team, member, &begin, &end);
        for (size_t block = begin; block < end; block++) {
            float *sums = block_sums(m, block, n * rows, s->x_sums[i]);
            for (size_t t = first, steps; t < first + n; t += steps) {
                const float *x = (const float *)run->x + (t * run->batch + first_row) * l->input_size;
                size_t live = live_rows(run, first_row, rows, t);
                steps = 1;
                if (live == run->batch)     /* steps in which every row lives are one matrix */
                    while (t + steps < first + n && live_rows(run, first_row, rows, t + steps) == rows)
                        steps++;
                if (live)
                    block_product(m, block, live == rows ? steps * rows : live, x, l->input_size,
                                  sums + (t - first) * rows * block_width(m, block));
            }
        }
    }
}

/* Where row m of the run keeps its h, and its c. */
static float *row_h(const simd_layer *l, const fr_run *run, size_t m)
{
    return run->states ? (float *)run->states[m] + run->h_at : (float *)run->h + m * l->state_size;
}

static float *row_c(const simd_layer *l, const fr_run *run, size_t m)
{
    return run->states ? (float *)run->states[m] + run->c_at : (float *)run->c + m * l->hidden_size;
}

/* Of the rows from first_row on, `from` lived and `to` will: those that begin are copied in, those that cease, out. */
static void change_rows(const simd_layer *l, const fr_run *run, size_t first_row, const step_state *s, size_t from,
                        size_t to)
{
    for (size_t m = from; m < to; m++) {
        copy_row(s->h + m * s->h_stride, row_h(l, run, first_row + m), l->state_size);
        if (l->lstm)
            copy_row(s->c + m * s->unit_stride, row_c(l, run, first_row + m), l->hidden_size);
    }
    for (size_t m = to; m < from; m++) {
        copy_row(row_h(l, run, first_row + m), s->h + m * s->h_stride, l->state_size);
        if (l->lstm)
            copy_row(row_c(l, run, first_row + m), s->c + m * s->unit_stride, l->hidden_size);
    }
}

/* The whole sequence for rows [first_row, first_row + rows). */
static void run_group(const simd_layer *l, const fr_run *run, size_t first_row, size_t rows, run_plan *s,
                      fr_team *team, size_t member)
{
    step_state *state = &s->state;
    size_t live = 0;
    for (size_t done = 0, n; done < run->steps; done += n) {
        n = smaller(s->chunk, run->steps - done);
        size_t first = run->reverse ? run->steps - done - n : done;
        project_chunk(l, run, first_row, rows, first, n, s, team, member);
        for (size_t i = 0; i < n; i++) {
            size_t at = run->reverse ? n - 1 - i : i, t = first + at, before = live;
            live = live_rows(run, first_row, rows, t);
            if (live != before) {
                if (member == 0)
                    change_rows(l, run, first_row, state, before, live);
                fr_team_barrier(team);
            }
            if (live == 0)
                continue;
            for (size_t k = 0, begin, end; k < l->stages; k++) {
                share(l->stage[k].h.blocks, team, member, &begin, &end);
                stage_step(l, k, s, live, at * rows, n * rows, begin, end);
                fr_team_barrier(team);
            }
            float *h = state->h;
            state->h = state->h_next;
            state->h_next = h;
            if (run->y) {
                size_t begin, end;
                share(live, team, member, &begin, &end);
                copy_rows((float *)run->y + (t * run->batch + first_row + begin) * run->y_stride, run->y_stride,
                          state->h + begin * state->h_stride, state->h_stride, end - begin, l->state_size);
            }
        }
    }
    if (member == 0)
        change_rows(l, run, first_row, state, live, 0);
}

typedef struct {
    const simd_layer *layer;
    const fr_run *run;
    const run_plan *plan;
} run_job;

/* What each thread does. */
static void run_member(void *job_, fr_team *team, size_t member)
{
    const run_job *job = job_;
    run_plan s = *job->plan;
    s.h_sums += member * s.h_sums_floats;
    for (size_t row = 0; row < job->run->batch; row += s.group) {
        if (row)
            fr_team_barrier(team);      /* y is still copied from where the next group's state goes */
        run_group(job->layer, job->run, row, smaller(s.group, job->run->batch - row), &s, team, member);
    }
}

static void run_layer(const fr_layer *layer, const fr_run *run)
{
    const simd_layer *l = (const simd_layer *)layer;
    arena memory = {run->scratch, 0};
    run_plan s = lay_out(l, run->steps, run->batch, &memory);
    fr_team_run(s.threads, run_member, &(run_job){l, run, &s});
}
