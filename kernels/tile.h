/* The matrix product: rows of floats times one block of packed weights.
 *
 * A tile is `rows` rows by `panels` neighbouring panels, all its sums in registers:
 *
 *     rows    panels at once    sums in registers
 *     1       4 3 2 1           8 6 4 2      bound by reading weights: all panels of the block as parallel streams
 *     2       3 2 1             12 8 4
 *     3       2 1               12 6
 *     4..     1                 2 * rows     bound by multiplying: a weight vector serves every row
 *     4       2                 16           AVX-512, weights far away: two streams come faster than one fetched ahead
 *
 * Whatever the tile, an output is the same arithmetic: from the bias a chain of multiply-adds over the first
 * CHAIN k's, from 0 another over the next CHAIN, and so on, each added to what is there when it ends.
 * That is why a row has the same bits in all of them. `weight` is where other weight types would be decoded.
 */

/* Length of a chain. The error of one chain grows with its length: against float64 over 1000 steps, GRU and RNN
 * with 512 units in one chain made 1.5 times torch's rms error, in chains of 128 0.9 times. Costs 1 to 3 % of time. */
#define CHAIN 128

/* One tile alone fetches so many floats ahead: 32 KB, which is past what the CPU's own prefetcher has in flight. */
#define FETCH_AHEAD 8192

/* From so many rows on, tiles take one panel at a time and are bound by multiplying. */
#define MANY_ROWS 4

/* out (rows, ldo): sums of `panels` panels over k in [0, depth). a (rows, lda): read to exactly `depth`
 * floats a row. w: the first panel; each is `gap` floats from the next. Meanwhile `depth` times `next_step` floats
 * of weights from `next` on come into L2: one stream of reads would not keep up with the multiplications. */
INLINE void tile(size_t rows, size_t panels, const float *a, size_t lda, size_t depth, const float *w, size_t gap,
                 const float *next, size_t next_step, float *out, size_t ldo)
{
    vec sum[TILE_ROWS][2 * BLOCK_PANELS], weight[2 * BLOCK_PANELS];
    for (size_t k = 0; k < depth;) {
        size_t end = depth - k < CHAIN ? depth : k + CHAIN;
        int first = k == 0;
        UNROLL for (size_t m = 0; m < rows; m++)
            UNROLL for (size_t j = 0; j < 2 * panels; j++)
                sum[m][j] = first ? v_load(w + j / 2 * gap + j % 2 * VEC_WIDTH) : v_set1(0.0f);
        UNROLL_BY_4 for (; k < end; k++) {
            w += PANEL;
            if (rows >= MANY_ROWS && panels == 1) {
                UNROLL for (size_t line = 0; line < PANEL; line += ALIGNMENT / sizeof(float))
                    __builtin_prefetch(next + line, 0, 2);
                next += next_step;
            }
            UNROLL for (size_t j = 0; j < 2 * panels; j++)
                weight[j] = v_load(w + j / 2 * gap + j % 2 * VEC_WIDTH);
            UNROLL for (size_t m = 0; m < rows; m++) {
                vec x = v_set1(a[m * lda + k]);
                UNROLL for (size_t j = 0; j < 2 * panels; j++)
                    sum[m][j] = v_fma(x, weight[j], sum[m][j]);
            }
        }
        UNROLL for (size_t m = 0; m < rows; m++)
            UNROLL for (size_t j = 0; j < 2 * panels; j++) {
                float *to = out + m * ldo + j * VEC_WIDTH;
                v_store(to, first ? sum[m][j] : v_add(v_load(to), sum[m][j]));
            }
    }
}

typedef void tile_fn(const float *a, size_t lda, size_t depth, const float *w, size_t gap, const float *next,
                     size_t next_step, float *out, size_t ldo);

#define TILE(rows, panels)                                                                                    \
    static void tile_##rows##x##panels(const float *a, size_t lda, size_t depth, const float *w, size_t gap,   \
                                       const float *next, size_t next_step, float *out, size_t ldo)           \
    {                                                                                                         \
        tile(rows, panels, a, lda, depth, w, gap, next, next_step, out, ldo);                                 \
    }
TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4)
TILE(2, 1) TILE(2, 2) TILE(2, 3)
TILE(3, 1) TILE(3, 2)
TILE(4, 1)
#if VEC_WIDTH == 16
TILE(4, 2)
#endif
#if TILE_ROWS >= 6
TILE(5, 1) TILE(6, 1)
#endif

/* [rows - 1][panels - 1] */
static tile_fn *const tiles[TILE_ROWS][BLOCK_PANELS] = {
    {tile_1x1, tile_1x2, tile_1x3, tile_1x4},
    {tile_2x1, tile_2x2, tile_2x3},
    {tile_3x1, tile_3x2},
    {tile_4x1,
#if VEC_WIDTH == 16
     tile_4x2
#endif
    },
#if TILE_ROWS >= 6
    {tile_5x1}, {tile_6x1},
#endif
};

/* out (rows, width of the block) = bias + a (rows, lda) times one block of the matrix */
static void block_product(const matrix *m, size_t block, size_t rows, const float *a, size_t lda, float *out)
{
    size_t gap = panel_floats(m), width = block_width(m, block), panels = width / PANEL;
    size_t at_once = rows == 1 ? 4 : rows == 2 && panels == 3 ? 3 : rows < MANY_ROWS ? 2 : 1;      /* panels */
    if (VEC_WIDTH == 16 && rows == 4 && m->far)
        at_once = 2;
    size_t count = rows <= TILE_ROWS ? 1 : (rows + TILE_ROWS - 1) / TILE_ROWS;      /* tiles, as even as can be */
    size_t least = count == 1 ? rows : rows / count, larger = rows - least * count; /* so many have a row more */
    size_t next_step = count == 1 ? PANEL : (PANEL + count - 1) / count;    /* tiles share the fetching of a panel */
    for (size_t p = 0, n; p < panels; p += n) {
        n = panels - p < at_once ? panels - p : at_once;
        const float *w = block_weights(m, block) + p * gap;
        const float *next = block + 1 < m->blocks || p + n < panels ? w + gap : m->w;   /* the next panel */
        if (count == 1 && gap > FETCH_AHEAD)
            next = w + FETCH_AHEAD;
        for (size_t t = 0, row = 0, tile_rows; t < count; t++, row += tile_rows) {
            tile_rows = least + (t < larger);
            tiles[tile_rows - 1][n - 1](a + row * lda, lda, m->depth, w, gap, next + t * m->depth * next_step,
                                        next_step, out + row * width + p * PANEL, width);
        }
    }
}
