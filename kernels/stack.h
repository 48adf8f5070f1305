/* A stack: the packed layers of one model, and a run through all of them.
 *
 * What core.pyx packs, stepper.pyx and slots.c run. A stack does not change once it is made, so any number of
 * threads may run it at once, each with scratch of its own.
 */
#ifndef FASTRNN_STACK_H
#define FASTRNN_STACK_H

#include <stdlib.h>

#include "engine.h"
#include "fpmode.h"

typedef struct {
    fr_layer **layers;          /* (L*D): layer 0 forward, layer 0 reverse, layer 1 forward... */
    size_t num_layers;          /* L */
    size_t directions;          /* D, 1 or 2 */
    size_t input_size;          /* I */
    size_t hidden_size;         /* H */
    size_t output_size;         /* P = proj_size where there is one, else H */
    size_t gate_width;          /* G*H */
    size_t item;                /* bytes of a real */
    size_t weights;             /* reals of all packed weights: multiply-adds of a step of one row */
    int has_cell_state;         /* LSTM */
} fr_stack;

#define FR_STACK_CAPSULE "fastrnn.stack"

/* 64 bytes: a cache line, and the widest vector. NULL: out of memory. */
static inline void *fr_aligned_alloc(size_t bytes)
{
    void *block = NULL;
    return posix_memalign(&block, 64, bytes ? bytes : 1) ? NULL : block;
}

/* Reals of one row's state: for every layer and direction h (P), then c (H) where there is one. */
static inline size_t fr_stack_state_reals(const fr_stack *s)
{
    return s->num_layers * s->directions * (s->output_size + (s->has_cell_state ? s->hidden_size : 0));
}

/* One buffer between layers, (T, B, D*P), in whole cache lines. */
static inline size_t fr_stack_between_bytes(const fr_stack *s, size_t steps, size_t batch)
{
    return s->num_layers > 1 ? (steps * batch * s->directions * s->output_size * s->item + 63) & ~(size_t)63 : 0;
}

/* Bytes of fr_run.scratch for a run of the stack: two buffers between layers, and what the hungriest layer asks for. */
static inline size_t fr_stack_scratch_bytes(const fr_stack *s, size_t steps, size_t batch)
{
    size_t most = 0;
    for (size_t i = 0; i < s->num_layers * s->directions; i++) {
        size_t need = s->layers[i]->scratch_bytes(s->layers[i], steps, batch);
        most = need > most ? need : most;
    }
    return most + 2 * fr_stack_between_bytes(s, steps, batch);
}

/* Multiply-adds of a run of the stack. */
static inline size_t fr_stack_work(const fr_stack *s, size_t steps, size_t batch)
{
    return steps * batch * s->weights;
}

/* Every layer and direction over all steps. `whole` is one layer's run, but h is (L*D, B, P), c (L*D, B, H),
 * y (T, B, D*P) with rows D*P apart, gates (D, T, B, G*H) of a one-layer stack, and `states` point to
 * fr_stack_state_reals. Whether it was ended early, whole->watch says. */
static inline void fr_stack_run(const fr_stack *s, const fr_run *whole)
{
    size_t between = fr_stack_between_bytes(s, whole->steps, whole->batch);
    size_t h_bytes = whole->batch * s->output_size * s->item, c_bytes = whole->batch * s->hidden_size * s->item;
    size_t gates_bytes = whole->steps * whole->batch * s->gate_width * s->item;
    fr_fpmode caller = fr_fpmode_enter();
    fr_run run = *whole;
    run.scratch = (char *)whole->scratch + 2 * between;
    run.y_stride = s->directions * s->output_size;
    for (size_t layer = 0, i = 0; layer < s->num_layers && !fr_ended(whole->watch); layer++) {
        char *out = layer == s->num_layers - 1 ? whole->y : (char *)whole->scratch + (layer & 1) * between;
        for (size_t direction = 0; direction < s->directions; direction++, i++) {
            run.reverse = direction == 1;
            run.y = out ? out + direction * s->output_size * s->item : NULL;
            if (whole->states) {
                run.h_at = i * (fr_stack_state_reals(s) / (s->num_layers * s->directions));
                run.c_at = run.h_at + s->output_size;
            } else {
                run.h = (char *)whole->h + i * h_bytes;
                run.c = whole->c ? (char *)whole->c + i * c_bytes : NULL;
            }
            if (whole->gates)
                run.gates = (char *)whole->gates + direction * gates_bytes;
            s->layers[i]->run(s->layers[i], &run);
        }
        run.x = out;
    }
    fr_fpmode_leave(caller);
}

#endif
