/* The matrix product: rows of floats times one block of packed weights.
 *
 * A tile is `rows` rows by `vectors` neighbouring vectors of a block's columns, all its sums in registers. Of 1 to 3
 * rows it is bound by reading weights: the vectors are streams side by side. Of more it is bound by multiplying, and
 * a panel serves every row. What fits in the registers is known in vector_*.h, which has the table of tiles.
 *
 * Whatever the tile, an output is the same arithmetic: from 0 a chain of multiply-adds over the first CHAIN k's,
 * another over the next CHAIN, and so on; the first is added to the bias when it ends, each other to what is there.
 * That is why a row has the same bits in all of them. `weight` is where other weight types would be decoded.
 */

/* Length of a chain. The error of one chain grows with its length: against float64 over 1000 steps, GRU and RNN
 * with 512 units in one chain made 1.5 times torch's rms error, in chains of 128 0.9 times. Costs 1 to 3 % of time. */
#define CHAIN 128

/* One tile alone fetches so many floats ahead: 32 KB, which is past what the CPU's own prefetcher has in flight. */
#define FETCH_AHEAD 8192

/* From so many rows on, tiles take one panel at a time and are bound by multiplying. */
#define MANY_ROWS 4

/* out (rows, ldo): sums of `vectors` vectors over k in [0, depth), the first of them the second of its panel if
 * `odd`. a (rows, lda): read to exactly `depth` floats a row. w: that panel; each is `gap` floats from the next.
 * Meanwhile `depth` times `next_step` floats of weights from `next` on come into L2: one stream of reads would not
 * keep up with the multiplications. */
INLINE void tile(size_t rows, size_t vectors, size_t odd, const float *a, size_t lda, size_t depth, const float *w,
                 size_t gap, const float *next, size_t next_step, float *out, size_t ldo)
{
    vec sum[TILE_ROWS][BLOCK_VECTORS], x[TILE_ROWS], weight[BLOCK_VECTORS];
    for (size_t k = 0; k < depth;) {
        size_t end = depth - k < CHAIN ? depth : k + CHAIN;
        const float *bias = k == 0 ? w : NULL;
        UNROLL for (size_t m = 0; m < rows; m++)
            UNROLL for (size_t j = 0; j < vectors; j++)
                sum[m][j] = v_set1(0.0f);
        UNROLL_BY_4 for (; k < end; k++) {
            w += PANEL;
            if (rows >= MANY_ROWS && vectors == 2) {
                UNROLL for (size_t line = 0; line < PANEL; line += ALIGNMENT / sizeof(float))
                    __builtin_prefetch(next + line, 0, 2);
                next += next_step;
            }
            if (rows < vectors) {   /* in registers: every row's x and one weight, or every weight and one x */
                UNROLL for (size_t m = 0; m < rows; m++)
                    x[m] = v_set1(a[m * lda + k]);
                UNROLL for (size_t j = 0; j < vectors; j++) {
                    weight[j] = v_load(w + vector_at(odd + j, gap));
                    UNROLL for (size_t m = 0; m < rows; m++)
                        sum[m][j] = v_fma(x[m], weight[j], sum[m][j]);
                }
            } else {
                UNROLL for (size_t j = 0; j < vectors; j++)
                    weight[j] = v_load(w + vector_at(odd + j, gap));
                UNROLL for (size_t m = 0; m < rows; m++) {
                    x[m] = v_set1(a[m * lda + k]);
                    UNROLL for (size_t j = 0; j < vectors; j++)
                        sum[m][j] = v_fma(x[m], weight[j], sum[m][j]);
                }
            }
        }
        UNROLL for (size_t m = 0; m < rows; m++)
            UNROLL for (size_t j = 0; j < vectors; j++) {
                float *to = out + m * ldo + j * VEC_WIDTH;
                v_store(to, v_add(v_load(bias ? bias + vector_at(odd + j, gap) : to), sum[m][j]));
            }
    }
}

typedef void tile_fn(const float *a, size_t lda, size_t depth, const float *w, size_t gap, const float *next,
                     size_t next_step, float *out, size_t ldo);

#define TILE(rows, vectors, odd)                                                                               \
    static void tile_##rows##x##vectors##_##odd(const float *a, size_t lda, size_t depth, const float *w,       \
                                                size_t gap, const float *next, size_t next_step, float *out,    \
                                                size_t ldo)                                                     \
    {                                                                                                          \
        tile(rows, vectors, odd, a, lda, depth, w, gap, next, next_step, out, ldo);                            \
    }

/* What a row of an instruction set's table stands for: the tiles that blocks of 1 to 4 panels come apart into when
 * cut as evenly as can be into at most so many vectors. Every panel of a block is whole: 2, 4, 6 or 8 vectors. */
#define TILES_2(each, rows) each(rows, 2, 0)
#define TILES_3(each, rows) TILES_2(each, rows) each(rows, 3, 0) each(rows, 3, 1)
#define TILES_4(each, rows) TILES_3(each, rows) each(rows, 4, 0)
#define TILES_6(each, rows) TILES_2(each, rows) each(rows, 4, 0) each(rows, 6, 0)
#define TILES_8(each, rows) TILES_6(each, rows) each(rows, 8, 0)

#define DEFINE(rows, most, most_far) TILES_##most_far(TILE, rows)
TILES(DEFINE)

#define ENTRY(rows, vectors, odd) [rows - 1][vectors - 1][odd] = tile_##rows##x##vectors##_##odd,
#define ENTRIES(rows, most, most_far) TILES_##most_far(ENTRY, rows)
static tile_fn *const tiles[TILE_ROWS][BLOCK_VECTORS][2] = {TILES(ENTRIES)};

#define MOST(rows, most, most_far) [rows - 1] = {most, most_far},
static const size_t most_vectors[TILE_ROWS][2] = {TILES(MOST)};

/* out (rows, width of the block) = bias + a (rows, lda) times one block of the matrix */
static void block_product(const matrix *m, size_t block, size_t rows, const float *a, size_t lda, float *out)
{
    size_t gap = panel_floats(m), width = block_width(m, block), vectors = width / VEC_WIDTH;
    size_t count = rows <= TILE_ROWS ? 1 : (rows + TILE_ROWS - 1) / TILE_ROWS;      /* tiles, as even as can be */
    size_t least = count == 1 ? rows : rows / count, larger = rows - least * count; /* so many have a row more */
    size_t at_once = most_vectors[least - 1 + (larger > 0)][m->far && count == 1];
    size_t next_step = count == 1 ? PANEL : (PANEL + count - 1) / count;    /* tiles share the fetching of a panel */
    if (at_once < vectors)
        at_once = even_part(vectors, at_once);
    for (size_t v = 0, n; v < vectors; v += n) {
        n = smaller(vectors - v, at_once);
        const float *w = block_weights(m, block) + v / 2 * gap;
        const float *next = block + 1 < m->blocks || v + n < vectors ? w + gap : m->w;   /* the next panel */
        if (count == 1 && gap > FETCH_AHEAD)
            next = w + FETCH_AHEAD;
        for (size_t t = 0, row = 0, tile_rows; t < count; t++, row += tile_rows) {
            tile_rows = least + (t < larger);
            tiles[tile_rows - 1][n - 1][v % 2](a + row * lda, lda, m->depth, w, gap, next + t * m->depth * next_step,
                                               next_step, out + row * width + v * VEC_WIDTH, width);
        }
    }
}
