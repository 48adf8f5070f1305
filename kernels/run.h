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
 * Several threads share out the blocks of every stage of each step, each its own first, whose weights stay in its
 * core's cache; only the caller goes on from one to the next. A block's arithmetic is the same whoever does it.
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
    char *x_rows, *h_rows;      /* the chunk's x, and a stage's input, encoded where the weight format wants it */
} run_plan;

/* Multiply-adds of a step below which sharing costs more than another thread saves: LSTM, I = H = 192, 1 row. */
#ifndef THREAD_WORK     /* the tests set it to 1 */
#define THREAD_WORK 250000
#endif

/* How many of the `threads` asked for may share out so many blocks. */
static size_t most_threads(size_t threads, size_t blocks) { return smaller(smaller(threads, FR_TEAM_MOST), blocks); }

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

static char *take_bytes(arena *a, size_t bytes) { return (char *)take(a, round_up(bytes, WORD) / WORD); }

static run_plan lay_out(const simd_layer *l, size_t steps, size_t batch, arena *a)
{
    size_t h_stride = round_up(l->state_size, PANEL), unit_stride = round_up(l->hidden_size, PANEL);
    run_plan s = {.group = batch, .chunk = 1, .threads = 1};
    s.state = (step_state){.h_stride = h_stride, .unit_stride = unit_stride};
    if (l->base.packed_bytes / sizeof(float) * batch >= THREAD_WORK)
        s.threads = most_threads(l->threads, l->stage[0].h.blocks);
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
    s.x_rows = take_bytes(a, operand_bytes(&l->stage[0].x, chunk_rows));
    size_t h_bytes = 0;
    for (size_t i = 0; i < l->stages; i++)
        h_bytes = larger(h_bytes, operand_bytes(&l->stage[i].h, rows));
    s.h_rows = take_bytes(a, h_bytes);
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

/* How many of rows [first_row, first_row + rows) live at step t. */
static size_t live_rows(const fr_run *run, size_t first_row, size_t rows, size_t t)
{
    size_t live = run->rows ? (size_t)run->rows[t] : run->batch;
    return live <= first_row ? 0 : smaller(live - first_row, rows);
}

/* One stage of a step, to be done block by block. */
typedef struct {
    const simd_layer *layer;
    const fr_run *run;
    const run_plan *plan;
    size_t first_row, rows;     /* the group */
    size_t first, steps;        /* the chunk */
    size_t stage;
    size_t live;                /* rows at this step; their x_sums stand from row `chunk_row` of the chunk on */
    size_t chunk_row;
    int project;                /* the chunk's first step: its x_sums are to be made */
    operand x, h;               /* the chunk's rows of x; what the stage's other matrix is multiplied by */
} stage_job;

/* The chunk's rows of x: step t's from row (t - first) * rows on. More than one step only where the group is the whole
 * batch, so that they follow one another in x too. */
static operand chunk_operand(const stage_job *j)
{
    size_t stride = j->layer->input_size, rows = j->steps == 1 ? j->live : j->steps * j->rows;
    const float *x = (const float *)j->run->x + (j->first * j->run->batch + j->first_row) * stride;
    return matrix_operand(&j->layer->stage[0].x, x, stride, rows, 0.0f, j->plan->x_rows);
}

/* What the stage's other matrix is multiplied by: h, or the stage before's output. */
static operand stage_operand(const stage_job *j)
{
    const step_state *s = &j->plan->state;
    const stage *g = &j->layer->stage[j->stage];
    const float *from = j->stage == 0 ? s->h : s->inner;
    return matrix_operand(&g->h, from, j->stage == 0 ? s->h_stride : s->unit_stride, j->live, g->most, j->plan->h_rows);
}

/* x_sums of the chunk's live rows: step t's at chunk row (t - first) * rows */
static void project_block(const stage_job *j, size_t block)
{
    const matrix *m = &j->layer->stage[j->stage].x;
    size_t rows = j->rows, end = j->first + j->steps;
    float *sums = block_sums(m, block, j->steps * rows, j->plan->x_sums[j->stage]);
    for (size_t t = j->first, steps; t < end; t += steps) {
        size_t live = live_rows(j->run, j->first_row, rows, t), row = (t - j->first) * rows;
        operand x = operand_from(&j->x, row);
        steps = 1;
        if (live == j->run->batch)      /* steps in which every row lives are one matrix */
            while (t + steps < end && live_rows(j->run, j->first_row, rows, t + steps) == rows)
                steps++;
        if (live)
            block_product(m, block, live == rows ? steps * rows : live, &x, sums + row * block_width(m, block));
    }
}

/* Whether the run ends early, now that `member` has done a block or more with so many rows. The caller's thread asks. */
static int ends(const stage_job *j, const matrix *m, size_t member, size_t blocks, size_t rows)
{
    if (!j->run->watch)
        return 0;
    if (member)
        return fr_ended(j->run->watch);
    return fr_ends(j->run->watch, blocks * BLOCK_PANELS * PANEL * m->depth * rows);
}

/* Blocks [first, last) of a stage, by one thread. */
static void do_blocks(const void *job, size_t member, size_t first, size_t last)
{
    const stage_job *j = job;
    const stage *g = &j->layer->stage[j->stage];
    const run_plan *s = j->plan;
    size_t rows = j->live, chunk_rows = j->steps * j->rows;
    size_t at_once = rows == 1 ? CELL_ROWS : rows < CELL_ROWS ? CELL_ROWS / rows : 1;       /* blocks */
    for (size_t block = first; j->project && g->x.blocks && block < last; block++) {
        project_block(j, block);
        if (ends(j, &g->x, member, 1, chunk_rows))
            return;
    }
    for (size_t block = first, n; block < last; block += n) {
        cell_block b[CELL_ROWS];
        n = smaller(at_once, last - block);
        for (size_t k = 0; k < n; k++) {
            size_t units = block_units(&g->h, block + k), width = block_width(&g->h, block + k);
            const float *x_sums = block_sums(&g->x, block + k, chunk_rows, s->x_sums[j->stage])
                                + j->chunk_row * width;
            float *h_sums = s->h_sums + member * s->h_sums_floats + k * rows * BLOCK_PANELS * PANEL;
            b[k] = (cell_block){rows, block_unit(&g->h, block + k), units, width, x_sums, h_sums};
            block_product(&g->h, block + k, rows, &j->h, h_sums);
        }
        for (size_t k = 0; g->gates && k < n; k++)
            g->gates(&s->state, &b[k]);
        for (size_t k = 0; k < n; k++)
            g->output(&s->state, &b[k]);
        if (ends(j, &g->h, member, n, rows))
            return;
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
static void run_group(const simd_layer *l, const fr_run *run, size_t first_row, size_t rows, run_plan *s, fr_team *team)
{
    step_state *state = &s->state;
    stage_job j = {.layer = l, .run = run, .plan = s, .first_row = first_row, .rows = rows};
    size_t live = 0;
    for (size_t done = 0; done < run->steps; done += j.steps) {
        j.steps = smaller(s->chunk, run->steps - done);
        j.first = run->reverse ? run->steps - done - j.steps : done;
        j.project = 1;
        for (size_t i = 0; i < j.steps; i++) {
            size_t at = run->reverse ? j.steps - 1 - i : i, t = j.first + at;
            j.live = live_rows(run, first_row, rows, t);
            if (j.live != live)
                change_rows(l, run, first_row, state, live, j.live);
            live = j.live;
            if (live == 0)
                continue;
            j.chunk_row = at * rows;
            if (j.project)
                j.x = chunk_operand(&j);
            for (j.stage = 0; j.stage < l->stages; j.stage++) {
                j.h = stage_operand(&j);
                fr_team_share(team, l->stage[j.stage].h.blocks, do_blocks, &j);
            }
            if (fr_ended(run->watch))
                return;
            j.project = 0;
            float *h = state->h;
            state->h = state->h_next;
            state->h_next = h;
            if (run->y)
                copy_rows((float *)run->y + (t * run->batch + first_row) * run->y_stride, run->y_stride, state->h,
                          state->h_stride, live, l->state_size);
        }
    }
    change_rows(l, run, first_row, state, live, 0);
}

static void run_layer(const fr_layer *layer, const fr_run *run)
{
    const simd_layer *l = (const simd_layer *)layer;
    arena memory = {run->scratch, 0};
    run_plan s = lay_out(l, run->steps, run->batch, &memory);
    fr_team *team = fr_team_enter(s.threads);
    for (size_t row = 0; row < run->batch && !fr_ended(run->watch); row += s.group)
        run_group(l, run, row, smaller(s.group, run->batch - row), &s, team);
    fr_team_leave(team);
}
