/* The matrix product: rows times one block of packed weights. A template: each format_*.h includes it once.
 *
 * A tile is `rows` rows by `vectors` neighbouring vectors of a block's columns, all its sums in registers. Of 1 to 3
 * rows it is bound by reading weights: the vectors are streams side by side. Of more it is bound by multiplying, and
 * a panel serves every row. What fits in the registers is known in vector_*.h, which has the tables of tiles.
 *
 * Whatever the tile, an output is the same arithmetic: from 0 a chain of multiply-adds over the first FORMAT_CHAIN
 * lines, another over the next, and so on; the first is added to the bias when it ends, each other to what is
 * there. That is why a row has the same bits in all of them.
 */

/* out (rows, ldo): sums of `vectors` vectors over all lines, the first of them the second of its panel if `odd`.
 * w: that panel; each is `gap` bytes from the next. Meanwhile `next_step` bytes of weights from `next` on come into L2
 * with every line: one stream of reads would not keep up with the multiplications. */
INLINE void FORMAT(tile)(size_t rows, size_t vectors, size_t odd, const operand *a, size_t lines, const char *w,
                         size_t gap, const char *next, size_t next_step, float *out, size_t ldo)
{
    FORMAT(sum) sum[FORMAT_ROWS][BLOCK_VECTORS];
    FORMAT(input) x[FORMAT_ROWS];
    FORMAT(weight) weight[BLOCK_VECTORS];
    const char *header = w, *row = a->rows;
    const row_code *codes = a->codes;
    size_t stride = a->stride, chains = a->chains;
    w += FORMAT_HEADER * LINE;
    for (size_t line = 0, chain = 0; line < lines; chain++) {
        size_t end = lines - line < FORMAT_CHAIN ? lines : line + FORMAT_CHAIN;
        UNROLL for (size_t m = 0; m < rows; m++)
            UNROLL for (size_t j = 0; j < vectors; j++)
                sum[m][j] = FORMAT(zero)();
        FORMAT_UNROLL for (; line < end; line++) {
            if (rows >= MANY_ROWS && vectors == 2) {
                UNROLL for (size_t at = 0; at < LINE; at += ALIGNMENT)
                    __builtin_prefetch(next + at, 0, 2);
                next += next_step;
            }
            if (rows < vectors) {   /* in registers: every row's x and one weight, or every weight and one x */
                UNROLL for (size_t m = 0; m < rows; m++)
                    x[m] = FORMAT(spread)(row + m * stride);
                UNROLL for (size_t j = 0; j < vectors; j++) {
                    weight[j] = FORMAT(load)(w + vector_at(odd + j, gap));
                    UNROLL for (size_t m = 0; m < rows; m++)
                        sum[m][j] = FORMAT(madd)(sum[m][j], weight[j], x[m]);
                }
            } else {
                UNROLL for (size_t j = 0; j < vectors; j++)
                    weight[j] = FORMAT(load)(w + vector_at(odd + j, gap));
                UNROLL for (size_t m = 0; m < rows; m++) {
                    x[m] = FORMAT(spread)(row + m * stride);
                    UNROLL for (size_t j = 0; j < vectors; j++)
                        sum[m][j] = FORMAT(madd)(sum[m][j], weight[j], x[m]);
                }
            }
            w += LINE;
            row += FORMAT_INPUT;
        }
        UNROLL for (size_t m = 0; m < rows; m++) {
            FORMAT(code) code = FORMAT(decode)(codes, m * chains + chain);
            UNROLL for (size_t j = 0; j < vectors; j++) {
                float *to = out + m * ldo + j * VEC_WIDTH;
                const char *column = header + vector_at(odd + j, gap);
                vec from = v_load(chain == 0 ? (const float *)column : to);
                v_store(to, FORMAT(add)(from, sum[m][j], column, code));
            }
        }
    }
}

#define TILE(rows, vectors, odd)                                                                               \
    static void FORMAT(tile_##rows##x##vectors##_##odd)(const operand *a, size_t lines, const char *w,          \
                                                        size_t gap, const char *next, size_t next_step,         \
                                                        float *out, size_t ldo)                                 \
    {                                                                                                          \
        FORMAT(tile)(rows, vectors, odd, a, lines, w, gap, next, next_step, out, ldo);                         \
    }
#define DEFINE(rows, most, most_far) TILES_##most_far(TILE, rows)
FORMAT_TILES(DEFINE)

#define ENTRY(rows, vectors, odd) [rows - 1][vectors - 1][odd] = FORMAT(tile_##rows##x##vectors##_##odd),
#define ENTRIES(rows, most, most_far) TILES_##most_far(ENTRY, rows)
static tile_fn *const FORMAT(tiles)[FORMAT_ROWS][BLOCK_VECTORS][2] = {FORMAT_TILES(ENTRIES)};

#define MOST(rows, most, most_far) [rows - 1] = {most, most_far},
static const size_t FORMAT(most_vectors)[FORMAT_ROWS][2] = {FORMAT_TILES(MOST)};

static const weight_format FORMAT(format) = {
    .item = FORMAT_ITEM,
    .header = FORMAT_HEADER,
    .chain = FORMAT_CHAIN,
    .flip = FORMAT_FLIP,
    .swap = FORMAT_SWAP,
    .tile_rows = FORMAT_ROWS,
    .most_vectors = FORMAT(most_vectors),
    .tiles = FORMAT(tiles),
#ifdef FORMAT_ENCODES
    .encoded_bytes = FORMAT(encoded_bytes),
    .encode = FORMAT(encode),
#endif
};

#undef TILE
#undef DEFINE
#undef ENTRY
#undef ENTRIES
#undef MOST
#undef FORMAT
#undef FORMAT_ITEM
#undef FORMAT_FLIP
#undef FORMAT_SWAP
#undef FORMAT_HEADER
#undef FORMAT_CHAIN
#undef FORMAT_ROWS
#undef FORMAT_TILES
#undef FORMAT_UNROLL
#undef FORMAT_INPUT
#undef FORMAT_ENCODES
#undef FORMAT_OFFSET
