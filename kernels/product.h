/* A linear product y = W x + b of many rows with packed weights, through the tiles of the recurrent layers: a row
 * has the same bits whatever the others are, and however many.
 *
 * Rows go in groups of at most GROUP_ROWS, so that a group and a block of weights stay in L2. Several threads share
 * out the blocks.
 */

typedef struct {
    fr_product base;
    matrix m;           /* one gate of N units */
    size_t threads;
} simd_product;

static size_t product_threads(const simd_product *p, size_t rows)
{
    return p->base.packed_bytes / sizeof(float) * rows >= THREAD_WORK ? most_threads(p->threads, p->m.blocks) : 1;
}

/* One thread's: a block's sums of a group of rows. */
static size_t product_sums(size_t rows) { return smaller(rows, GROUP_ROWS) * BLOCK_PANELS * PANEL; }

static size_t product_scratch_bytes(const fr_product *product, size_t rows)
{
    const simd_product *p = (const simd_product *)product;
    return product_threads(p, rows) * product_sums(rows) * sizeof(float)
         + operand_bytes(&p->m, smaller(rows, GROUP_ROWS));
}

typedef struct {
    const simd_product *product;
    operand x;          /* a group's rows */
    size_t rows;
    float *y, *sums;    /* the group's; every thread's */
    size_t sums_floats;
} product_job;

static void product_blocks(const void *job_, size_t member, size_t first, size_t last)
{
    const product_job *job = job_;
    const matrix *m = &job->product->m;
    float *sums = job->sums + member * job->sums_floats;
    for (size_t block = first; block < last; block++) {
        size_t unit = block_unit(m, block), width = block_width(m, block);
        block_product(m, block, job->rows, &job->x, sums);
        copy_rows(job->y + unit, m->units, sums, width, job->rows, smaller(width, m->units - unit));
    }
}

static void run_product(const fr_product *product, const float *x, size_t x_stride, size_t rows, float *y,
                        void *scratch)
{
    const simd_product *p = (const simd_product *)product;
    const matrix *m = &p->m;
    size_t threads = product_threads(p, rows), group = even_part(rows, GROUP_ROWS);
    product_job job = {.product = p, .sums = scratch, .sums_floats = product_sums(rows)};
    char *encoded = (char *)(job.sums + threads * job.sums_floats);
    fr_team *team = fr_team_enter(threads);
    for (size_t row = 0; row < rows; row += job.rows) {
        job.rows = smaller(group, rows - row);
        job.x = matrix_operand(m, x + row * x_stride, x_stride, job.rows, 0.0f, encoded);
        job.y = y + row * m->units;
        fr_team_share(team, m->blocks, product_blocks, &job);
    }
    fr_team_leave(team);
}

static void destroy_product(fr_product *product)
{
    free(((simd_product *)product)->m.w);
    free(product);
}

fr_product *ISA(fr_simd_pack_product)(const fr_product_params *params)
{
    simd_product *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->m = matrix_shape(formats[params->weights], params->depth, params->units, 1);
    size_t bytes = matrix_bytes(&p->m);
    p->base = (fr_product){product_scratch_bytes, run_product, destroy_product, bytes};
    p->threads = params->threads ? params->threads : 1;
    p->m.w = allocate_weights(bytes);
    if (!p->m.w) {
        free(p);
        return NULL;
    }
    p->m.far = bytes >= FAR_BYTES;
    matrix_source source = source_of(p->m.format, params->w, params->scale, params->bias, 0, params->depth);
    matrix_pack(&p->m, &source);
    return &p->base;
}
