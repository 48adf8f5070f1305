/* The slots of a pool on their own: threads that open, close and step streams of one pool, under sanitizers.
 *
 * The one layer of the stack adds 1 to the state of every row it is given, and fails if two calls are in one state at
 * once. Each thread keeps count of its own streams' steps; some of the ids it uses are another thread's, or closed.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/slots.h"

#define THREADS 8
#define OWN 40          /* most streams of a thread */
#define ROUNDS 4000

#define CHECK(what)                                                  \
    do {                                                             \
        if (!(what)) {                                               \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                 \
        }                                                            \
    } while (0)

static size_t scratch_bytes(const fr_layer *layer, size_t steps, size_t batch)
{
    (void)layer;
    return steps * batch;
}

/* h[0] counts, h[1] says whether somebody is in */
static void add_one(const fr_layer *layer, const fr_run *run)
{
    (void)layer;
    memset(run->scratch, 1, run->steps * run->batch);
    for (size_t m = 0; m < run->batch; m++) {
        float *h = (float *)run->states[m] + run->h_at;
        CHECK(h[1] == 0);
        h[1] = 1;
    }
    for (size_t m = 0; m < run->batch; m++) {
        float *h = (float *)run->states[m] + run->h_at;
        h[0] += 1;
        h[1] = 0;
    }
}

static fr_layer layer = {.scratch_bytes = scratch_bytes, .run = add_one};
static fr_layer *layers[] = {&layer};
static const fr_stack stack = {.layers = layers, .num_layers = 1, .directions = 1, .input_size = 1, .hidden_size = 2,
                               .output_size = 2, .item = sizeof(float)};

static fr_slots *pool;
static int64_t shared[THREADS];     /* a stream that every thread may step; under no protection but the pool's */

/* Steps the n streams; on success each has one step more. */
static fr_slots_result step(const int64_t *ids, size_t n, const float *expected)
{
    fr_workspace *w = fr_slots_enter(pool, n);
    size_t bad = 0;
    CHECK(w);
    memcpy(w->ids, ids, n * sizeof *ids);
    fr_slots_result result = fr_slots_claim(pool, w, n, &bad);
    if (result == FR_POOL_OK) {
        fr_run run = {.steps = 1, .batch = n, .states = w->states, .scratch = w->scratch};
        fr_stack_run(&stack, &run);
        for (size_t i = 0; expected && i < n; i++)
            CHECK(((float *)w->states[i])[0] == expected[i] + 1);
        fr_slots_release(w, n);
    }
    fr_slots_leave(w);
    return result;
}

static void *hammer(void *self)
{
    unsigned seed = 1 + (unsigned)((int64_t *)self - shared);
    size_t count = 0;
    int64_t ids[OWN + 1], gone = -1;
    float steps[OWN];
    size_t met = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int what = rand_r(&seed) % 8;
        if (what == 0 && count < OWN) {
            CHECK(fr_slots_open(pool, &ids[count]) == FR_POOL_OK);
            CHECK(fr_slots_has(pool, ids[count]) && ids[count] != gone);
            steps[count++] = 0;
        } else if (what == 1 && count > 0) {
            size_t i = (size_t)rand_r(&seed) % count;
            gone = ids[i];
            CHECK(fr_slots_close(pool, gone) == FR_POOL_OK);
            CHECK(fr_slots_close(pool, gone) == FR_POOL_CLOSED && !fr_slots_has(pool, gone));
            ids[i] = ids[--count];
            steps[i] = steps[count];
        } else if (what == 2 && gone >= 0) {
            CHECK(step(&gone, 1, NULL) == FR_POOL_CLOSED);
        } else if (what == 3 && count > 0) {
            ids[count] = ids[0];
            CHECK(step(ids, count + 1, NULL) == FR_POOL_TWICE);
        } else if (what == 4) {
            fr_slots_result result = step(&shared[rand_r(&seed) % THREADS], 1, NULL);
            CHECK(result == FR_POOL_OK || result == FR_POOL_BUSY);
            met += result == FR_POOL_BUSY;
        } else if (count > 0) {
            CHECK(step(ids, count, steps) == FR_POOL_OK);
            for (size_t i = 0; i < count; i++)
                steps[i]++;
        }
    }
    for (size_t i = 0; i < count; i++)
        CHECK(fr_slots_close(pool, ids[i]) == FR_POOL_OK);
    return (void *)met;
}

static void every_slot_once(void)
{
    int64_t ids[4], one;
    pool = fr_slots_new(&stack, 3, 0, NULL);
    CHECK(pool && fr_slots_capacity(pool) == 3);
    for (int i = 0; i < 3; i++)
        CHECK(fr_slots_open(pool, &ids[i]) == FR_POOL_OK && ids[i] == i);
    CHECK(fr_slots_open(pool, &one) == FR_POOL_FULL);
    CHECK(fr_slots_close(pool, 1) == FR_POOL_OK && fr_slots_open(pool, &one) == FR_POOL_OK);
    CHECK(one == (1ll << 32) + 1 && !fr_slots_has(pool, 1) && fr_slots_open_count(pool) == 3);
    CHECK(fr_slots_close(pool, -1) == FR_POOL_CLOSED && fr_slots_close(pool, 3) == FR_POOL_CLOSED);
    CHECK(fr_slots_close(pool, INT64_MAX) == FR_POOL_CLOSED && fr_slots_close(pool, INT64_MIN) == FR_POOL_CLOSED);
    fr_workspace *w = fr_slots_enter(pool, 1);
    size_t bad;
    w->ids[0] = 2;
    CHECK(fr_slots_claim(pool, w, 1, &bad) == FR_POOL_OK);
    CHECK(step((int64_t[]){0, 2}, 2, NULL) == FR_POOL_BUSY && fr_slots_close(pool, 2) == FR_POOL_BUSY);
    CHECK(step(ids, 1, NULL) == FR_POOL_OK);        /* what was claimed before the busy one was let go */
    fr_slots_release(w, 1);
    fr_slots_leave(w);
    CHECK(step((int64_t[]){0, 2}, 2, NULL) == FR_POOL_OK);
    fr_slots_free(pool);
    CHECK(!fr_slots_new(&stack, 0, 1, NULL) && !fr_slots_new(&stack, (size_t)1 << 31, 1, NULL));
}

/* One slot grown to all that there can be. */
static void every_slab(void)
{
    int64_t id;
    pool = fr_slots_new(&stack, 1, 1, NULL);
    CHECK(pool);
    for (size_t i = 0; i < MOST_SLOTS; i++)
        CHECK(fr_slots_open(pool, &id) == FR_POOL_OK && id == (int64_t)i);
    CHECK(fr_slots_open(pool, &id) == FR_POOL_FULL && fr_slots_capacity(pool) == MOST_SLOTS);
    fr_slots_free(pool);
}

/* A stream begins with the initial state, in every slot and slab and whoever had the slot before, and goes back to it. */
static void initial_state(void)
{
    float initial[2] = {7, 0};
    int64_t ids[5];
    pool = fr_slots_new(&stack, 2, 1, initial);
    CHECK(pool);
    initial[0] = 0;
    for (int again = 0; again < 2; again++) {
        for (int i = 0; i < 5; i++)
            CHECK(fr_slots_open(pool, &ids[i]) == FR_POOL_OK);
        CHECK(step(ids, 5, (float[]){7, 7, 7, 7, 7}) == FR_POOL_OK);
        CHECK(step(ids, 5, (float[]){8, 8, 8, 8, 8}) == FR_POOL_OK);
        fr_workspace *w = fr_slots_enter(pool, 2);
        size_t bad;
        w->ids[0] = ids[1], w->ids[1] = ids[4];
        CHECK(fr_slots_claim(pool, w, 2, &bad) == FR_POOL_OK);
        fr_slots_reset(pool, w, 2);
        fr_slots_release(w, 2);
        fr_slots_leave(w);
        CHECK(step(ids, 5, (float[]){9, 7, 9, 9, 7}) == FR_POOL_OK);
        for (int i = 0; i < 5; i++)
            CHECK(fr_slots_close(pool, ids[i]) == FR_POOL_OK);
    }
    fr_slots_free(pool);
}

int main(void)
{
    pthread_t threads[THREADS];
    size_t met = 0;
    every_slot_once();
    every_slab();
    initial_state();
    pool = fr_slots_new(&stack, 3, 1, NULL);
    CHECK(pool);
    for (int i = 0; i < THREADS; i++)
        CHECK(fr_slots_open(pool, &shared[i]) == FR_POOL_OK);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, hammer, &shared[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0);
        met += (size_t)result;
    }
    CHECK(fr_slots_open_count(pool) == THREADS);
    printf("%d threads, %zu slots in the end, met on a stream %zu times\n", THREADS, fr_slots_capacity(pool), met);
    fr_slots_free(pool);
    return 0;
}
