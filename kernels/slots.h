/* The states of many streams through one stack: opened and closed one by one, stepped in any subset and order.
 *
 * A stream has a slot, whose state stays where it is for as long as the pool lives: growing adds slabs of slots
 * and moves none. An id names one stream for ever: its slot's number in the low 32 bits, above them how many
 * streams had the slot before. Every use of a slot claims it first, so that threads may use different streams at
 * once, and two that meet on one are told.
 */
#ifndef FASTRNN_SLOTS_H
#define FASTRNN_SLOTS_H

#include <stdint.h>

#include "stack.h"

typedef struct fr_slots fr_slots;
typedef struct fr_slot fr_slot;

struct fr_slot {
    char busy;              /* claimed: the state is the claimant's */
    int64_t id;             /* of the open stream, else NO_STREAM; read at any time, written while claimed */
    int64_t next_id;        /* of the stream that has it next */
    int64_t used;           /* when the stream was claimed last, in ns of fr_slots_now */
    void *state;            /* fr_stack_state_reals(stack) */
    fr_slot *next_free;
};

/* What one call needs, kept for the next one: as many as calls were ever under way at once, each with room for a
 * step of all slots there are. */
typedef struct fr_workspace fr_workspace;
struct fr_workspace {
    char busy;
    size_t rows;            /* room in the three arrays */
    int64_t *ids;
    fr_slot **slots;
    void **states;
    void *scratch;          /* of a step of up to `rows` rows */
    size_t scratch_bytes;
    void *apart;            /* x (rows, I), then y (rows, P), of a caller whose rows lie apart; NULL until there is one */
    fr_workspace *next;
};

typedef enum {
    FR_POOL_OK,
    FR_POOL_FULL,
    FR_POOL_NO_MEMORY,
    FR_POOL_CLOSED,         /* no such stream, or not any more */
    FR_POOL_BUSY,           /* another call has it */
    FR_POOL_TWICE,          /* it stands in `ids` twice */
} fr_slots_result;

/* `stack` must outlive the pool. `initial` is the state that streams begin with, fr_stack_state_reals(stack), and is
 * copied; NULL: zeros. NULL: out of memory, or capacity is not in 1..2^31 - 1. */
fr_slots *fr_slots_new(const fr_stack *stack, size_t capacity, int grow, const void *initial);
void fr_slots_free(fr_slots *pool);   /* nobody may be in it */

size_t fr_slots_capacity(fr_slots *pool);
size_t fr_slots_open_count(fr_slots *pool);
int fr_slots_has(fr_slots *pool, int64_t id);     /* whether it is open; an answer about now */

/* A new stream in its initial state; where the pool is full and may grow, in twice as many slots. */
fr_slots_result fr_slots_open(fr_slots *pool, int64_t *id);
fr_slots_result fr_slots_close(fr_slots *pool, int64_t id);

/* Nanoseconds of a clock that goes on, exact to some milliseconds; no system call. */
int64_t fr_slots_now(void);
/* Writes the ids of up to `room` streams that were claimed last at `until` or before, and returns how many. */
size_t fr_slots_idle(fr_slots *pool, int64_t until, int64_t *ids, size_t room);
/* Closes a stream, if it was claimed last at `until` or before; else FR_POOL_BUSY. */
fr_slots_result fr_slots_evict(fr_slots *pool, int64_t id, int64_t until);

/* Room for n rows, NULL if there is no memory. Ends in fr_slots_leave. The first call after the pool grew takes time in
 * proportion to its slots. */
fr_workspace *fr_slots_enter(fr_slots *pool, size_t n);
void fr_slots_leave(fr_workspace *w);

/* Claims the streams w->ids[0..n): fills w->slots and w->states. All or none: if one cannot be had, *bad is its
 * index. Ends in fr_slots_release. */
fr_slots_result fr_slots_claim(fr_slots *pool, fr_workspace *w, size_t n, size_t *bad);
void fr_slots_release(fr_workspace *w, size_t n);

/* Has w->apart; 0: no memory. */
int fr_slots_set_apart(const fr_slots *pool, fr_workspace *w);

/* Between h (L, n, P), c (L, n, H) where there is one, and the states of the n claimed streams: out of them, or in. */
void fr_slots_copy_out(const fr_slots *pool, const fr_workspace *w, size_t n, void *h, void *c);
void fr_slots_copy_in(const fr_slots *pool, const fr_workspace *w, size_t n, const void *h, const void *c);

/* Puts the n claimed streams back to their initial state. */
void fr_slots_reset(fr_slots *pool, fr_workspace *w, size_t n);

#endif
