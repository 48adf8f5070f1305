/* Packed matrices: what the tiles read.
 *
 * A matrix maps rows of `depth` numbers to `gates` sums for each of `units` outputs. Its columns are
 * cut into panels of PANEL = 2 vectors, each stored in lines along the depth. A line is a word of 4 bytes for each
 * column: one float32 weight, or as many smaller ones as fill a word, of k's that follow one another.
 *
 *     w (panels, header + lines, PANEL)       the header: line 0 the bias, line 1 what integers are multiplied by
 *
 * A block is up to 4 panels, one after another: every gate of the same units (4 x 1 for LSTM, 3 x 1
 * for GRU, 2 x 2, 1 x 4), so that the cell can be computed as soon as a block's sums are there.
 *
 *     columns of a block (gates, units)   units = span * PANEL, span = 4 / gates; in the last block
 *                                         what is left, in whole vectors: a panel may hold two gates there
 *
 * Columns past the last unit, those that fill up the last panel, and k's that fill up the last line have weight and
 * bias 0; their sums stay in the row that made them and nothing reads them back.
 */

#define ALIGNMENT 64    /* bytes; a cache line, and the widest vector */
#define PANEL (2 * VEC_WIDTH)
#define BLOCK_PANELS 4
#define BLOCK_VECTORS (2 * BLOCK_PANELS)
#define WORD 4          /* bytes */
#define LINE (PANEL * WORD)

typedef struct weight_format weight_format;     /* format.h */

typedef struct {
    const weight_format *format;
    size_t depth, units, gates;
    size_t header, lines;   /* of a panel */
    size_t span;            /* panels per gate in a full block */
    size_t blocks;
    int far;                /* its layer's weights do not fit in L3 */
    char *w;
} matrix;

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
static size_t larger(size_t a, size_t b) { return a < b ? b : a; }

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

static size_t panel_bytes(const matrix *m) { return (m->header + m->lines) * LINE; }

/* Where vector j of a block stands among its panels, `gap` bytes apart. */
INLINE size_t vector_at(size_t j, size_t gap) { return j / 2 * gap + j % 2 * VEC_WIDTH * WORD; }

static const char *block_weights(const matrix *m, size_t block)
{
    return m->w + block * m->gates * m->span * panel_bytes(m);
}

/* Panels of the whole matrix. */
static size_t matrix_panels(const matrix *m)
{
    if (m->blocks == 0)
        return 0;
    size_t last = m->blocks - 1;
    return last * m->gates * m->span + block_width(m, last) / PANEL;
}

static size_t matrix_bytes(const matrix *m) { return matrix_panels(m) * panel_bytes(m); }

/* The first word of the column of a gate's unit; its next is a LINE away. */
static char *matrix_column(const matrix *m, size_t gate, size_t unit)
{
    size_t block = unit / (m->span * PANEL), column = gate * block_units(m, block) + unit - block_unit(m, block);
    return (char *)block_weights(m, block) + column / PANEL * panel_bytes(m) + column % PANEL * WORD;
}

/* What a matrix is made from, as torch lays it out. */
typedef struct {
    const char *w;          /* (gates * units, depth), `item` bytes each */
    const float *scale;     /* (gates * units): what the integers of a row are multiplied by; NULL for float32 */
    const float *bias;      /* (gates * units); NULL: 0 */
    size_t item;
    uint32_t flip;          /* bits of a word that are stored inverted, before */
    int swap;               /* its middle bytes are exchanged, or not */
} matrix_source;

static uint32_t stored_word(uint32_t word, int swap)
{
    return swap ? (word & 0xff0000ffu) | (word & 0xff00u) << 8 | (word >> 8 & 0xff00u) : word;
}

static void matrix_pack(const matrix *m, const matrix_source *from)
{
    const uint32_t nothing = stored_word(from->flip, from->swap);
    for (size_t panel = 0; panel < matrix_panels(m); panel++) {     /* what nothing else is written to */
        char *w = m->w + panel * panel_bytes(m);
        memset(w, 0, m->header * LINE);
        for (size_t at = m->header * LINE; at < panel_bytes(m); at += WORD)
            memcpy(w + at, &nothing, WORD);
    }
    for (size_t row = 0; row < m->gates * m->units; row++) {
        char *to = matrix_column(m, row / m->units, row % m->units);
        size_t bytes = m->depth * from->item;
        const char *w = from->w + row * bytes;
        if (from->bias)
            memcpy(to, &from->bias[row], WORD);
        if (from->scale)
            memcpy(to + LINE, &from->scale[row], WORD);
        to += m->header * LINE;
        for (size_t at = 0; at < bytes; at += WORD, to += LINE) {
            uint32_t word = 0;
            if (bytes - at >= WORD)
                memcpy(&word, w + at, WORD);
            else
                memcpy(&word, w + at, bytes - at);
            word = stored_word(word ^ from->flip, from->swap);
            memcpy(to, &word, WORD);
        }
    }
}

/* The reverse: writes what `to` points to, where it is not NULL. */
static void matrix_unpack(const matrix *m, const matrix_source *to)
{
    for (size_t row = 0; row < m->gates * m->units; row++) {
        const char *from = matrix_column(m, row / m->units, row % m->units);
        size_t bytes = m->depth * to->item;
        char *w = (char *)to->w + row * bytes;
        if (to->bias)
            memcpy((float *)to->bias + row, from, WORD);
        if (to->scale)
            memcpy((float *)to->scale + row, from + LINE, WORD);
        from += m->header * LINE;
        for (size_t at = 0; at < bytes; at += WORD, from += LINE) {
            uint32_t word;
            memcpy(&word, from, WORD);
            word = stored_word(word, to->swap) ^ to->flip;
            memcpy(w + at, &word, smaller(bytes - at, WORD));
        }
    }
}
