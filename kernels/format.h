/* What a weight format is to the bodies: how it is packed, what its tiles read of a row, and the tiles.
 *
 * A format's file, format_*.h, defines for tile.h and, where a row is encoded, for encode.h:
 *
 *     FORMAT(name)             the name with the format's suffix
 *     FORMAT_ITEM              bytes of a weight
 *     FORMAT_FLIP              bits of a word that are stored inverted,
 *     FORMAT_SWAP              before its middle bytes are exchanged, or not
 *     FORMAT_HEADER            lines of a panel before its weights
 *     FORMAT_CHAIN             lines whose products are summed before they are added to the result
 *     FORMAT_ROWS, FORMAT_TILES    its table of tiles, from vector_*.h
 *     FORMAT_UNROLL            how its loop over lines is unrolled
 *     FORMAT_INPUT             bytes of a row that a line is multiplied by
 *     FORMAT(weight), FORMAT(input), FORMAT(sum)   types: a vector's weights, what they are multiplied by, its sums
 *     FORMAT(load)(p), FORMAT(spread)(p)           the first from a line's weights, the second from a row
 *     FORMAT(zero)(), FORMAT(madd)(sum, weight, input)
 *     FORMAT(code), FORMAT(decode)(codes, i)       codes[i] as the next one takes it
 *     FORMAT(add)(from, sum, header, code)         floats: `from` and the sum
 */

/* How a row of floats became integers: a chain's sum of products, plus start, times scale is what floats give. */
typedef struct {
    float scale;
    int32_t start;
} row_code;

/* Rows to be multiplied, as the format's tiles read them. */
typedef struct {
    const char *rows;
    size_t stride;              /* bytes from row to row */
    const row_code *codes;      /* (rows, chains); NULL: the rows are the caller's floats */
    size_t chains;
} operand;

typedef void tile_fn(const operand *a, size_t lines, const char *w, size_t gap, const char *next, size_t next_step,
                     float *out, size_t ldo);

struct weight_format {
    size_t item, header, chain;
    uint32_t flip;
    int swap;
    size_t tile_rows;                           /* most rows of a tile */
    const size_t (*most_vectors)[2];            /* [rows - 1][weights are far] */
    tile_fn *const (*tiles)[BLOCK_VECTORS][2];  /* [rows - 1][vectors - 1][odd] */
    /* Bytes that `rows` encoded rows of `depth` take; NULL, as encode, where tiles read floats. */
    size_t (*encoded_bytes)(size_t depth, size_t rows);
    /* a (rows, lda) into `to`. A row whose numbers are all at most `least` in magnitude is scaled as though that were
     * the largest, others by their largest. */
    operand (*encode)(const float *a, size_t lda, size_t rows, size_t depth, float least, char *to);
};

static matrix matrix_shape(const weight_format *format, size_t depth, size_t units, size_t gates)
{
    size_t span = BLOCK_PANELS / gates, full = span * PANEL, per_line = WORD / format->item;
    return (matrix){.format = format, .depth = depth, .units = units, .gates = gates, .header = format->header,
                    .lines = (depth + per_line - 1) / per_line, .span = span, .blocks = (units + full - 1) / full};
}

/* Bytes that a matrix takes of scratch to encode `rows` rows. */
static size_t operand_bytes(const matrix *m, size_t rows)
{
    return m->blocks && m->format->encode ? m->format->encoded_bytes(m->depth, rows) : 0;
}

/* Rows a (rows, lda) as the tiles of m read them; `to` has operand_bytes. */
static operand matrix_operand(const matrix *m, const float *a, size_t lda, size_t rows, float least, char *to)
{
    if (m->format->encode)
        return m->format->encode(a, lda, rows, m->depth, least, to);
    return (operand){(const char *)a, lda * sizeof(float), NULL, 0};
}

/* What a matrix is packed from, or unpacked to: arrays from row `row` on. What is NULL stays NULL. */
static matrix_source source_of(const weight_format *f, const void *w, const float *scale, const void *bias, size_t row,
                               size_t depth)
{
    return (matrix_source){(const char *)w + row * depth * f->item, scale ? scale + row : NULL,
                           bias ? (const float *)bias + row : NULL, f->item, f->flip, f->swap};
}

static operand operand_from(const operand *a, size_t row)
{
    return (operand){a->rows + row * a->stride, a->stride, a->codes ? a->codes + row * a->chains : NULL, a->chains};
}

/* From so many rows on, tiles take one panel at a time and are bound by multiplying. */
#define MANY_ROWS 4

/* What a row of a table of tiles stands for: those that blocks of 1 to 4 panels come apart into when cut as evenly as
 * can be into at most so many vectors, whole panels if that is an even number. Blocks have 2, 4, 6 or 8 vectors. */
#define TILES_2(each, rows) each(rows, 2, 0)
#define TILES_3(each, rows) TILES_2(each, rows) each(rows, 3, 0) each(rows, 3, 1)
#define TILES_4(each, rows) TILES_2(each, rows) each(rows, 4, 0)
#define TILES_6(each, rows) TILES_4(each, rows) each(rows, 6, 0)
#define TILES_8(each, rows) TILES_6(each, rows) each(rows, 8, 0)
