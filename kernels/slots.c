#define _POSIX_C_SOURCE 200809L
#include "slots.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "claim.h"

#ifndef MOST_SLOTS                  /* the tests make the two small */
#define MOST_SLOTS 0x7fffffffu      /* ids stay positive */
#define MOST_SLABS 32               /* each but the first as large as all before it */
#endif
#define NEXT_STREAM (1ll << 32)     /* from one id of a slot to the next */
#define NO_STREAM (-1)

#ifdef CLOCK_MONOTONIC_COARSE       /* Linux's, five times as fast to read */
#define CLOCK CLOCK_MONOTONIC_COARSE
#else
#define CLOCK CLOCK_MONOTONIC
#endif

struct fr_slots {
    const fr_stack *stack;
    int grow;
    void *initial;          /* state_bytes: what a stream begins with */
    size_t state_bytes;     /* of one slot, whole cache lines: neighbours are no other thread's business */
    size_t first;           /* slots of the first slab */
    fr_slot *slabs[MOST_SLABS];
    void *state_slabs[MOST_SLABS];
    size_t capacity;        /* written under `lock`, read by all: slots below it exist */
    size_t open;            /* under `lock`, as are the free slots */
    fr_slot *free;
    pthread_mutex_t lock;   /* of opening and closing only */
    fr_workspace *workspaces;
};

static fr_slot *slot_at(const fr_slots *p, size_t number)
{
    size_t slab = 0, begin = 0, slots = p->first;
    while (number - begin >= slots) {
        begin += slots;
        slots = begin;
        slab++;
    }
    return &p->slabs[slab][number - begin];
}

static size_t capacity_of(fr_slots *p) { return __atomic_load_n(&p->capacity, __ATOMIC_ACQUIRE); }

/* One more slab, under `lock`; its slots are free, the lowest first. */
static fr_slots_result add_slab(fr_slots *p)
{
    size_t slab = 0, begin = p->capacity, slots = begin ? begin : p->first;
    while (slab < MOST_SLABS && p->slabs[slab])
        slab++;
    if (slots > MOST_SLOTS - begin)
        slots = MOST_SLOTS - begin;
    if (slots == 0 || slab == MOST_SLABS)
        return FR_POOL_FULL;
    if (slots > SIZE_MAX / p->state_bytes || slots > SIZE_MAX / sizeof(fr_slot))
        return FR_POOL_NO_MEMORY;
    fr_slot *all = calloc(slots, sizeof *all);
    char *states = fr_aligned_alloc(slots * p->state_bytes);
    if (!all || !states) {
        free(all);
        free(states);
        return FR_POOL_NO_MEMORY;
    }
    for (size_t i = slots; i-- > 0;) {
        all[i].id = NO_STREAM;
        all[i].next_id = (int64_t)(begin + i);
        all[i].state = states + i * p->state_bytes;
        all[i].next_free = p->free;
        p->free = &all[i];
    }
    p->slabs[slab] = all;
    p->state_slabs[slab] = states;
    __atomic_store_n(&p->capacity, begin + slots, __ATOMIC_RELEASE);
    return FR_POOL_OK;
}

fr_slots *fr_slots_new(const fr_stack *stack, size_t capacity, int grow, const void *initial)
{
    if (capacity < 1 || capacity > MOST_SLOTS)
        return NULL;
    fr_slots *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->stack = stack;
    p->grow = grow;
    p->state_bytes = (fr_stack_state_reals(stack) * stack->item + 63) & ~(size_t)63;
    p->first = capacity;
    p->initial = calloc(1, p->state_bytes);
    if (p->initial && initial)
        memcpy(p->initial, initial, fr_stack_state_reals(stack) * stack->item);
    pthread_mutex_init(&p->lock, NULL);
    fr_workspace *first = p->initial && add_slab(p) == FR_POOL_OK ? fr_slots_enter(p, capacity) : NULL;
    if (!first) {
        fr_slots_free(p);
        return NULL;
    }
    fr_slots_leave(first);
    return p;
}

void fr_slots_free(fr_slots *p)
{
    for (size_t i = 0; i < MOST_SLABS && p->slabs[i]; i++) {
        free(p->slabs[i]);
        free(p->state_slabs[i]);
    }
    for (fr_workspace *w = p->workspaces, *next; w; w = next) {
        next = w->next;
        free(w->ids);
        free(w->slots);
        free(w->states);
        free(w->scratch);
        free(w->apart);
        free(w);
    }
    free(p->initial);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

size_t fr_slots_capacity(fr_slots *p) { return capacity_of(p); }

size_t fr_slots_open_count(fr_slots *p)
{
    pthread_mutex_lock(&p->lock);
    size_t open = p->open;
    pthread_mutex_unlock(&p->lock);
    return open;
}

/* The slot that has, or had, the stream `id`; NULL if there is none of that number. */
static fr_slot *slot_of(fr_slots *p, int64_t id)
{
    size_t number = (size_t)((uint64_t)id & 0xffffffffu);
    return id < 0 || number >= capacity_of(p) ? NULL : slot_at(p, number);
}

static int is_open(const fr_slot *slot, int64_t id) { return __atomic_load_n(&slot->id, __ATOMIC_RELAXED) == id; }

/* The slot of an open stream, claimed; or why not. An id of the past claims nothing: it disturbs nobody. */
static fr_slots_result claim_one(fr_slots *p, int64_t id, fr_slot **found)
{
    fr_slot *slot = slot_of(p, id);
    if (!slot || !is_open(slot, id))
        return FR_POOL_CLOSED;
    if (!fr_claim(&slot->busy))
        return FR_POOL_BUSY;
    if (!is_open(slot, id)) {       /* closed in between */
        fr_release(&slot->busy);
        return FR_POOL_CLOSED;
    }
    *found = slot;
    return FR_POOL_OK;
}

int64_t fr_slots_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void use(fr_slot *slot, int64_t now) { __atomic_store_n(&slot->used, now, __ATOMIC_RELAXED); }

static int is_idle(const fr_slot *slot, int64_t until)
{
    return __atomic_load_n(&slot->used, __ATOMIC_RELAXED) <= until;
}

size_t fr_slots_idle(fr_slots *p, int64_t until, int64_t *ids, size_t room)
{
    size_t found = 0, slots = capacity_of(p);
    for (size_t i = 0; i < slots && found < room; i++) {
        const fr_slot *slot = slot_at(p, i);
        int64_t id = __atomic_load_n(&slot->id, __ATOMIC_RELAXED);
        if (id != NO_STREAM && is_idle(slot, until))
            ids[found++] = id;
    }
    return found;
}

int fr_slots_has(fr_slots *p, int64_t id)
{
    fr_slot *slot = slot_of(p, id);
    return slot && is_open(slot, id);
}

fr_slots_result fr_slots_open(fr_slots *p, int64_t *id)
{
    fr_slots_result result = FR_POOL_OK;
    pthread_mutex_lock(&p->lock);
    if (!p->free)
        result = p->grow ? add_slab(p) : FR_POOL_FULL;
    if (result == FR_POOL_OK) {
        fr_slot *slot = p->free;
        while (!fr_claim(&slot->busy)) {}       /* whoever finds its stream closed lets go at once */
        p->free = slot->next_free;
        memcpy(slot->state, p->initial, p->state_bytes);
        *id = slot->next_id;
        use(slot, fr_slots_now());
        __atomic_store_n(&slot->id, *id, __ATOMIC_RELAXED);
        p->open++;
        fr_release(&slot->busy);
    }
    pthread_mutex_unlock(&p->lock);
    return result;
}

fr_slots_result fr_slots_close(fr_slots *p, int64_t id) { return fr_slots_evict(p, id, INT64_MAX); }

fr_slots_result fr_slots_evict(fr_slots *p, int64_t id, int64_t until)
{
    fr_slot *slot;
    pthread_mutex_lock(&p->lock);
    fr_slots_result result = claim_one(p, id, &slot);
    if (result == FR_POOL_OK && !is_idle(slot, until)) {
        fr_release(&slot->busy);
        result = FR_POOL_BUSY;
    } else if (result == FR_POOL_OK) {
        __atomic_store_n(&slot->id, NO_STREAM, __ATOMIC_RELAXED);
        p->open--;
        if (slot->next_id <= INT64_MAX - NEXT_STREAM) {     /* else the slot has no ids left, and is not used again */
            slot->next_id += NEXT_STREAM;
            slot->next_free = p->free;
            p->free = slot;
        }
        fr_release(&slot->busy);
    }
    pthread_mutex_unlock(&p->lock);
    return result;
}

/* Scratch enough for a step of any number of rows up to n: the need does not simply grow with the rows. */
static size_t step_scratch_bytes(const fr_stack *stack, size_t n)
{
    size_t most = 0;
    for (size_t rows = 1; rows <= n; rows++) {
        size_t need = fr_stack_scratch_bytes(stack, 1, rows);
        most = need > most ? need : most;
    }
    return most;
}

/* Its arrays made anew; what they held is not kept. 0: no memory. */
static int widen(const fr_stack *stack, fr_workspace *w, size_t n)
{
    free(w->ids);
    free(w->slots);
    free(w->states);
    free(w->scratch);
    free(w->apart);
    w->apart = NULL;
    w->rows = 0;
    w->scratch_bytes = step_scratch_bytes(stack, n);
    w->ids = calloc(n, sizeof *w->ids);
    w->slots = calloc(n, sizeof *w->slots);
    w->states = calloc(n, sizeof *w->states);
    w->scratch = fr_aligned_alloc(w->scratch_bytes);
    if (!w->ids || !w->slots || !w->states || !w->scratch)
        return 0;
    w->rows = n;
    return 1;
}

fr_workspace *fr_slots_enter(fr_slots *p, size_t n)
{
    fr_workspace *w = __atomic_load_n(&p->workspaces, __ATOMIC_ACQUIRE);
    while (w && !fr_claim(&w->busy))
        w = w->next;
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w)
            return NULL;
        fr_claim(&w->busy);
        w->next = __atomic_load_n(&p->workspaces, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&p->workspaces, &w->next, w, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
    }
    size_t room = capacity_of(p);       /* more rows than slots hold an id twice, and are refused */
    room = room > n ? room : n;
    if (w->rows < n && !widen(p->stack, w, room)) {
        fr_release(&w->busy);
        return NULL;
    }
    return w;
}

void fr_slots_leave(fr_workspace *w) { fr_release(&w->busy); }

fr_slots_result fr_slots_claim(fr_slots *p, fr_workspace *w, size_t n, size_t *bad)
{
    int64_t now = fr_slots_now();
    for (size_t i = 0; i < n; i++) {
        fr_slots_result result = claim_one(p, w->ids[i], &w->slots[i]);
        if (result == FR_POOL_OK) {
            use(w->slots[i], now);
            w->states[i] = w->slots[i]->state;
            continue;
        }
        *bad = i;
        fr_slots_release(w, i);
        for (size_t j = 0; result == FR_POOL_BUSY && j < i; j++)
            if (w->ids[j] == w->ids[i])
                result = FR_POOL_TWICE;
        return result;
    }
    return FR_POOL_OK;
}

void fr_slots_release(fr_workspace *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fr_release(&w->slots[i]->busy);
}

void fr_slots_reset(fr_slots *p, fr_workspace *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memcpy(w->states[i], p->initial, p->state_bytes);
}

int fr_slots_set_apart(const fr_slots *p, fr_workspace *w)
{
    if (!w->apart)
        w->apart = fr_aligned_alloc(w->rows * (p->stack->input_size + p->stack->output_size) * p->stack->item);
    return w->apart != NULL;
}

void fr_slots_copy_out(const fr_slots *p, const fr_workspace *w, size_t n, void *h, void *c)
{
    const fr_stack *s = p->stack;
    size_t h_bytes = s->output_size * s->item, c_bytes = s->has_cell_state ? s->hidden_size * s->item : 0;
    for (size_t layer = 0; layer < s->num_layers; layer++)
        for (size_t i = 0; i < n; i++) {
            const char *state = (const char *)w->states[i] + layer * (h_bytes + c_bytes);
            memcpy((char *)h + (layer * n + i) * h_bytes, state, h_bytes);
            if (c_bytes)
                memcpy((char *)c + (layer * n + i) * c_bytes, state + h_bytes, c_bytes);
        }
}

void fr_slots_copy_in(const fr_slots *p, const fr_workspace *w, size_t n, const void *h, const void *c)
{
    const fr_stack *s = p->stack;
    size_t h_bytes = s->output_size * s->item, c_bytes = s->has_cell_state ? s->hidden_size * s->item : 0;
    for (size_t layer = 0; layer < s->num_layers; layer++)
        for (size_t i = 0; i < n; i++) {
            char *state = (char *)w->states[i] + layer * (h_bytes + c_bytes);
            memcpy(state, (const char *)h + (layer * n + i) * h_bytes, h_bytes);
            if (c_bytes)
                memcpy(state + h_bytes, (const char *)c + (layer * n + i) * c_bytes, c_bytes);
        }
}
