/* A linear product y = W x + b of many rows with packed weights, through the tiles of the recurrent layers: a row
 * has the same bits whatever the others are, and however many.
 *
 * Rows go in groups of at most GROUP_ROWS, so that a group and a block of weights stay in L2. Several threads each
 * take a share of the blocks.
 */

typedef struct {
    fr_product base;
    matrix m;           /* one gate of N units */
    size_t threads;
} simd_product;

static size_t product_threads(const simd_product *p, size_t rows)
{
    return p->base.packed_bytes / sizeof(float) * rows >= THREAD_WORK ? smaller(p->threads, p->m.blocks) : 1;
}

/* One thread's: a block's sums of a group of rows. */
static size_t product_sums(size_t rows) { return smaller(rows, GROUP_ROWS) * BLOCK_PANELS * PANEL; }

static size_t product_scratch_bytes(const fr_product *product, size_t rows)
{
    return product_threads((const simd_product *)product, rows) * product_sums(rows) * sizeof(float);
}

typedef struct {
    const simd_product *product;
    const float *x;
    size_t x_stride, rows;
    float *y, *scratch;
} product_job;

static void product_member(void *job_, fr_team *team, size_t member)
{
    const product_job *job = job_;
    const matrix *m = &job->product->m;
    float *sums = job->scratch + member * product_sums(job->rows);
    size_t first, last, group = even_part(job->rows, GROUP_ROWS);
    share(m->blocks, team, member, &first, &last);
    for (size_t row = 0, rows; row < job->rows; row += rows) {
        rows = smaller(group, job->rows - row);
        for (size_t block = first; block < last; block++) {
            size_t unit = block_unit(m, block), width = block_width(m, block);
            block_product(m, block, rows, job->x + row * job->x_stride, job->x_stride, sums);
            copy_rows(job->y + row * m->units + unit, m->units, sums, width, rows, smaller(width, m->units - unit));
        }
    }
}

static void run_product(const fr_product *product, const float *x, size_t x_stride, size_t rows, float *y,
                        void *scratch)
{
    const simd_product *p = (const simd_product *)product;
    fr_team_run(product_threads(p, rows), product_member, &(product_job){p, x, x_stride, rows, y, scratch});
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
    p->m = matrix_shape(params->depth, params->units, 1);
    size_t bytes = matrix_floats(&p->m) * sizeof(float);
    p->base = (fr_product){product_scratch_bytes, run_product, destroy_product, bytes};
    p->threads = params->threads ? params->threads : 1;
    p->m.w = allocate_weights(bytes);
    if (!p->m.w) {
        free(p);
        return NULL;
    }
    p->m.far = bytes >= FAR_BYTES;
    matrix_pack(&p->m, params->w, params->bias);
    return &p->base;
}
