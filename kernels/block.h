/* One block of a packed matrix times rows: cut into the tiles of the matrix's format. */

/* How weights may be stored: a format is a file, and a row here. */
static const weight_format *const formats[] = {
    [FR_REAL] = &format_float32,
    [FR_INT8] = &format_int8,
    [FR_INT16] = &format_int16,
};

/* One tile alone fetches so many bytes ahead, which is past what the CPU's own prefetcher has in flight. */
#define FETCH_AHEAD (32 << 10)

/* out (rows, width of the block) = bias + a times one block of the matrix */
static void block_product(const matrix *m, size_t block, size_t rows, const operand *a, float *out)
{
    const weight_format *f = m->format;
    size_t gap = panel_bytes(m), width = block_width(m, block), vectors = width / VEC_WIDTH;
    size_t count = rows <= f->tile_rows ? 1 : (rows + f->tile_rows - 1) / f->tile_rows;     /* tiles, even as can be */
    size_t least = count == 1 ? rows : rows / count, longer = rows - least * count; /* so many have a row more */
    size_t at_once = f->most_vectors[least - 1 + (longer > 0)][m->far && count == 1];
    size_t next_step = count == 1 ? LINE : (LINE + count - 1) / count;      /* tiles share the fetching of a panel */
    if (at_once < vectors) {    /* whole panels but where the table is odd: lines of half a panel are read twice */
        size_t unit = at_once % 2 && longer == 0 ? 1 : 2;   /* tiles of a row less have another table */
        at_once = unit * even_part(vectors / unit, at_once / unit);
    }
    for (size_t v = 0, n; v < vectors; v += n) {
        n = smaller(vectors - v, at_once);
        const char *w = block_weights(m, block) + v / 2 * gap;
        const char *next = block + 1 < m->blocks || v + n < vectors ? w + gap : m->w;   /* the next panel */
        if (count == 1 && gap > FETCH_AHEAD)
            next = w + FETCH_AHEAD;
        for (size_t t = 0, row = 0, tile_rows; t < count; t++, row += tile_rows) {
            tile_rows = least + (t < longer);
            operand from = operand_from(a, row);
            f->tiles[tile_rows - 1][n - 1][v % 2](&from, m->lines, w, gap, next + t * m->lines * next_step, next_step,
                                                  out + row * width + v * VEC_WIDTH, width);
        }
    }
}
