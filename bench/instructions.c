/* Steps of the SIMD engine for instructions.py to count: run under valgrind --tool=callgrind, which counts between
 * the client requests only. An AVX-512 form is not run: valgrind knows none.
 *
 *     instructions ISA...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <valgrind/callgrind.h>

#include "../kernels/simd.h"

static const struct {
    fr_cell cell;
    size_t input, hidden, proj, batch, steps;
} cases[] = {
    {FR_LSTM, 32, 32, 0, 1, 1}, {FR_LSTM, 128, 128, 0, 1, 1}, {FR_LSTM, 128, 128, 0, 4, 1},
    {FR_LSTM, 128, 128, 0, 16, 1}, {FR_LSTM, 128, 128, 0, 64, 1}, {FR_LSTM, 40, 100, 0, 3, 1},
    {FR_LSTM, 512, 512, 0, 1, 1}, {FR_LSTM, 128, 128, 64, 1, 1}, {FR_LSTM, 128, 128, 0, 1, 10},
    {FR_LSTM, 128, 128, 0, 4, 10},
    {FR_GRU, 32, 32, 0, 1, 1}, {FR_GRU, 128, 128, 0, 1, 1}, {FR_GRU, 128, 128, 0, 16, 1}, {FR_GRU, 512, 512, 0, 1, 1},
    {FR_GRU, 128, 128, 0, 1, 10}, {FR_GRU, 128, 128, 0, 4, 10},
    {FR_RNN, 128, 128, 0, 1, 1}, {FR_RNN, 128, 128, 0, 16, 1},
};

static const char *const cells[] = {"LSTM", "GRU", "RNN"};  /* by fr_cell */

static float *floats(size_t n)
{
    float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);
    if (!p)
        abort();
    for (size_t i = 0; i < n; i++)
        p[i] = 0.1f * ((float)(i * 2654435761u % 1000) / 1000.0f - 0.5f);
    return p;
}

static void count(fr_isa isa, size_t i)
{
    fr_cell cell = cases[i].cell;
    size_t input = cases[i].input, hidden = cases[i].hidden, proj = cases[i].proj, batch = cases[i].batch;
    size_t steps = cases[i].steps, state = proj ? proj : hidden, rows = (cell == FR_LSTM ? 4 : cell == FR_GRU ? 3 : 1) * hidden;
    float *w_ih = floats(rows * input), *w_hh = floats(rows * state), *b = floats(rows);
    float *w_hr = proj ? floats(proj * hidden) : NULL;
    fr_params params = {.cell = cell, .reset_after = 1, .input_size = input, .hidden_size = hidden, .proj_size = proj,
                        .w_ih = w_ih, .w_hh = w_hh, .b_ih = b, .b_hh = b, .w_hr = w_hr};
    fr_layer *layer = fr_simd_pack(&params, isa);
    if (!layer)
        abort();
    float *x = floats(steps * batch * input), *h = floats(batch * state), *c = floats(batch * hidden);
    float *y = floats(steps * batch * state), *scratch = floats(layer->scratch_bytes(layer, steps, batch) / 4 + 16);
    fr_run run = {.steps = steps, .batch = batch, .x = x, .y = y, .y_stride = state, .h = h, .c = cell == FR_LSTM ? c : NULL,
                  .scratch = scratch};
    char id[96];
    int used = snprintf(id, sizeof id, "%s %s I=%zu H=%zu", fr_isa_name(isa), cells[cell], input, hidden);
    if (proj)
        used += snprintf(id + used, sizeof id - (size_t)used, " P=%zu", proj);
    snprintf(id + used, sizeof id - (size_t)used, " B=%zu T=%zu", batch, steps);
    layer->run(layer, &run);    /* what the first call resolves is not counted */
    CALLGRIND_TOGGLE_COLLECT;
    layer->run(layer, &run);
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(id);
    layer->destroy(layer);
    float *arrays[] = {w_ih, w_hh, b, w_hr, x, h, c, y, scratch};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
        free(arrays[k]);
}

int main(int argc, char **argv)
{
    for (int arg = 1; arg < argc; arg++)
        for (int isa = 0; isa < FR_ISA_COUNT; isa++)
            if (strcmp(argv[arg], fr_isa_name((fr_isa)isa)) == 0 && fr_isa_supported((fr_isa)isa))
                for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                    count((fr_isa)isa, i);
    return 0;
}
