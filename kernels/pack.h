/* Packed matrices: what the tiles read.
 *
 * A matrix maps rows of `depth` floats to `gates` sums for each of `units` outputs. Its columns are
 * cut into panels of PANEL = 2 vectors, each stored along the depth:
 *
 *     w (panels, 1 + depth, PANEL)        row 0 of a panel is the bias
 *
 * A block is up to 4 panels, one after another: every gate of the same units (4 x 1 for LSTM, 3 x 1
 * for GRU, 2 x 2, 1 x 4), so that the cell can be computed as soon as a block's sums are there.
 *
 *     columns of a block (gates, units)   units = span * PANEL, span = 4 / gates; in the last block
 *                                         what is left, in whole vectors: a panel may hold two gates there
 *
 * Columns past the last unit, and those that fill up the last panel, have weight and bias 0; their sums stay in the
 * row that made them and nothing reads them back.
 */

#define ALIGNMENT 64    /* bytes; a cache line, and the widest vector */
#define PANEL (2 * VEC_WIDTH)
#define BLOCK_PANELS 4
#define BLOCK_VECTORS (2 * BLOCK_PANELS)

typedef struct {
    size_t depth, units, gates;
    size_t span;        /* panels per gate in a full block */
    size_t blocks;
    int far;            /* its layer's weights do not fit in L3 */
    float *w;
} matrix;

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* The larger size of n cut into as few parts of at most `most` as can be, all as even as can be. */
static size_t even_part(size_t n, size_t most)
{
    size_t parts = (n + most - 1) / most;
    return (n + parts - 1) / parts;
}

/* The first unit of a block. */
static size_t block_unit(const matrix *m, size_t block) { return block * m->span * PANEL; }

/* Units in a block, padding included. */
static size_t block_units(const matrix *m, size_t block)
{
    size_t left = m->units - block_unit(m, block), full = m->span * PANEL;
    return left < full ? round_up(left, VEC_WIDTH) : full;
}

/* Columns of a block, padding included: what a row's sums take. */
static size_t block_width(const matrix *m, size_t block) { return round_up(m->gates * block_units(m, block), PANEL); }

/* Floats in one panel. */
static size_t panel_floats(const matrix *m) { return (1 + m->depth) * PANEL; }

/* Where vector j of a block stands among its panels' floats. */
INLINE size_t vector_at(size_t j, size_t gap) { return j / 2 * gap + j % 2 * VEC_WIDTH; }

static const float *block_weights(const matrix *m, size_t block)
{
    return m->w + block * m->gates * m->span * panel_floats(m);
}

static size_t matrix_floats(const matrix *m)
{
    if (m->blocks == 0)
        return 0;
    size_t last = m->blocks - 1;
    return (last * m->gates * m->span + block_width(m, last) / PANEL) * panel_floats(m);
}

static matrix matrix_shape(size_t depth, size_t units, size_t gates)
{
    size_t span = BLOCK_PANELS / gates, full = span * PANEL;
    return (matrix){depth, units, gates, span, (units + full - 1) / full, 0, NULL};
}

/* w (gates * units, depth) and bias (gates * units) or NULL, as torch lays them out, into m->w. */
static void matrix_pack(const matrix *m, const float *w, const float *bias)
{
    float *out = m->w;
    for (size_t block = 0; block < m->blocks; block++) {
        size_t units = block_units(m, block), width = block_width(m, block);
        for (size_t panel = 0; panel < width; panel += PANEL) {
            size_t rows[PANEL];     /* of w, a column's; none where it is padding */
            const size_t none = (size_t)-1;
            for (size_t j = 0; j < PANEL; j++) {
                size_t gate = (panel + j) / units, unit = block_unit(m, block) + (panel + j) % units;
                rows[j] = gate < m->gates && unit < m->units ? gate * m->units + unit : none;
            }
            for (size_t k = 0; k <= m->depth; k++)
                for (size_t j = 0; j < PANEL; j++) {
                    if (rows[j] == none)
                        *out++ = 0.0f;
                    else if (k == 0)
                        *out++ = bias ? bias[rows[j]] : 0.0f;
                    else
                        *out++ = w[rows[j] * m->depth + k - 1];
                }
        }
    }
}
