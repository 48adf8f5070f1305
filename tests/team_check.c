/* Teams of threads on their own, under sanitizers: several callers at once, each with helpers.
 *
 * A stage writes every block of one array from all blocks of another, and the next stage goes back, as h and h_next do;
 * none of it is atomic, so that a block done twice, not at all, too early or too late is a wrong sum or a race. Callers
 * and helpers are made late and slow at random: helpers then sleep, are rung, and are left out. With the argument
 * `fork`, a child does the same.
 */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kernels/team.h"

#define CALLERS 3
#define MOST_THREADS 4
#define MOST_BLOCKS 40
#define RUNS 60
#define STAGES 40
#define SECONDS 60      /* at most, until helpers have come to every caller */

#define CHECK(what)                                                  \
    do {                                                             \
        if (!(what)) {                                               \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                 \
        }                                                            \
    } while (0)

typedef struct {
    size_t blocks, threads;
    const uint64_t *from;
    uint64_t *to;
    uint64_t *scratch;          /* (threads): plain, one member's each */
    atomic_ulong *helped;
    int slow;
} stage_job;

static uint64_t mix(uint64_t a, uint64_t b) { return (a ^ b) * 6364136223846793005u + 1442695040888963407u; }

static void do_blocks(const void *job, size_t member, size_t first, size_t last)
{
    const stage_job *j = job;
    CHECK(member < j->threads && first < last && last <= j->blocks);
    for (size_t block = first; block < last; block++) {
        j->scratch[member] = block;
        for (size_t i = 0; i < j->blocks; i++)
            j->scratch[member] = mix(j->scratch[member], j->from[i]);
        if (j->slow && block % 7 == 0)
            usleep(300);        /* longer than patience lasts */
        j->to[block] = j->scratch[member];
    }
    if (member)
        atomic_fetch_add(j->helped, last - first);
}

static uint32_t random_bits(uint64_t *seed)
{
    *seed = mix(*seed, 1);
    return (uint32_t)(*seed >> 33);
}

/* One run of some stages, on a team and alone: the same? */
static void run(uint64_t *seed, atomic_ulong *helped)
{
    uint64_t shared[2][MOST_BLOCKS], alone[2][MOST_BLOCKS], scratch[MOST_THREADS], own[MOST_THREADS];
    atomic_ulong nobody = 0;
    for (size_t i = 0; i < MOST_BLOCKS; i++)
        shared[0][i] = alone[0][i] = random_bits(seed);
    stage_job j = {.blocks = 1 + random_bits(seed) % MOST_BLOCKS, .threads = 2 + random_bits(seed) % (MOST_THREADS - 1)};
    fr_team *team = fr_team_enter(j.threads);
    CHECK(team);
    for (int stage = 0; stage < STAGES; stage++) {
        if (random_bits(seed) % 64 == 0)
            usleep(random_bits(seed) % 300);
        j.slow = random_bits(seed) % 32 == 0;
        j.from = shared[stage % 2], j.to = shared[1 - stage % 2], j.scratch = scratch, j.helped = helped;
        fr_team_share(team, j.blocks, do_blocks, &j);
        j.from = alone[stage % 2], j.to = alone[1 - stage % 2], j.scratch = own, j.helped = &nobody, j.slow = 0;
        do_blocks(&j, 0, 0, j.blocks);
        CHECK(memcmp(j.to, shared[1 - stage % 2], j.blocks * sizeof *j.to) == 0);
    }
    fr_team_leave(team);
    memset(shared, 0xff, sizeof shared);        /* a helper that still looked at it would race */
}

static void *call(void *seed_)
{
    uint64_t seed = (uint64_t)(uintptr_t)seed_;
    atomic_ulong helped = 0;
    time_t end = time(NULL) + SECONDS;
    for (int i = 0; i < RUNS || (atomic_load(&helped) == 0 && time(NULL) < end); i++)
        run(&seed, &helped);
    CHECK(atomic_load(&helped) > 0);
    return NULL;
}

static void call_all(void)
{
    pthread_t thread[CALLERS];
    for (uintptr_t i = 0; i < CALLERS; i++)
        CHECK(pthread_create(&thread[i], NULL, call, (void *)(i + 1)) == 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(thread[i], NULL);
}

static void call_in_a_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        call((void *)1);
        exit(0);        /* joins the helpers it made */
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    CHECK(!fr_team_enter(0) && !fr_team_enter(1));
    call_all();
    if (argc > 1 && strcmp(argv[1], "fork") == 0)
        call_in_a_child();
    call((void *)1);
    printf("%d callers\n", CALLERS);
    return 0;
}
