#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "fpmode.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Nanoseconds of waiting before sleeping: a few times what a sleep and a waking cost. */
#define SPIN 50000

/* Whoever waits this long and as long again as it worked itself waits for a thread that has no core. */
#define PATIENCE 200000

/* The caller then works alone for a while, about a turn of the scheduler's. Where helpers are soon no use again, it
 * doubles that, up to where the attempts, at most some turns long each, are a few per cent of the time. */
#define ALONE_LEAST 2000000
#define ALONE_MOST 128000000

/* Blocks claimed at once, at most: a claim costs some 50 ns, a block with one row 300 ns or more. */
#define MOST_CLAIMED 8

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

typedef atomic_uint word;

#if defined(__linux__)

/* Sleeps while *w == value; may return early. */
static void sleep_on(word *w, unsigned value) { syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); }
static void wake(word *w) { syscall(SYS_futex, w, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0); }

#else

/* Without futex: one condition for every word. */
static pthread_mutex_t sleepers = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void sleep_on(word *w, unsigned value)
{
    pthread_mutex_lock(&sleepers);
    if (atomic_load(w) == value)
        pthread_cond_wait(&changed, &sleepers);
    pthread_mutex_unlock(&sleepers);
}

static void wake(word *w)
{
    (void)w;
    pthread_mutex_lock(&sleepers);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&sleepers);
}

#endif

/* A member's share of a stage: its blocks [low, high) that nobody has claimed yet, and of how many members it is one.
 * The member claims from its low end, so that it does the same blocks in every step and their weights stay in its
 * core's cache; those who are done with theirs, from its high end. All in one word: whoever exchanges it has claimed
 * blocks of the stage that is open now, however long ago it looked. */
typedef struct {
    _Alignas(64) _Atomic uint64_t left;     /* members (16 bits), low (24), high (24) */
} share;

static uint64_t make_left(uint64_t members, uint64_t low, uint64_t high) { return members << 48 | low << 24 | high; }

/* Never freed while the process lives, and its helpers are its own: one of them may look at it at any time. What
 * `share.left` does not guard, a claim does: the caller changes none of it while a block is claimed. */
struct fr_team {
    fr_blocks_fn *do_blocks;
    const void *job;
    uint64_t alone_until, alone_for;        /* the caller's own */
    size_t members;                         /* of this run */
    size_t helpers;                         /* made so far */
    fr_team *next;
    pthread_t thread[FR_TEAM_MOST];
    _Alignas(64) word stage;                /* odd: one is open, and has blocks that are not done */
    word asleep;                            /* helpers that are, or about to be */
    word bell;                              /* what they sleep on */
    word quit;
    word in_vain;                           /* a helper gave up waiting for another member's blocks */
    _Alignas(64) word helped;               /* blocks of this stage that helpers have done */
    word watched;                           /* the caller sleeps on `helped` */
    share shares[FR_TEAM_MOST];
};

typedef struct {
    fr_team *team;
    size_t member;
} helper;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fr_team *idle;   /* under `lock` */

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Spins while *w is `value`, for so many nanoseconds; whether it has changed. */
static int changes(word *w, unsigned value, uint64_t nanoseconds)
{
    for (uint64_t begin = 0;;) {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(w, memory_order_acquire) != value)
                return 1;
            RELAX();
        }
        if (begin == 0)
            begin = now();
        else if (now() - begin > nanoseconds)
            return 0;
    }
}

/* Claims up to half of what is left of a share: whether there was any. */
static int claim(share *s, size_t member, int own, size_t *first, size_t *last)
{
    uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed), rest;
    do {
        uint64_t members = left >> 48, low = left >> 24 & 0xffffff, high = left & 0xffffff;
        if (low == high || member >= members)
            return 0;
        uint64_t n = (high - low + 1) / 2;
        n = n > MOST_CLAIMED ? MOST_CLAIMED : own && high - low == 2 ? 2 : n;
        *first = own ? low : high - n;
        *last = *first + n;
        rest = own ? make_left(members, low + n, high) : make_left(members, low, high - n);
    } while (!atomic_compare_exchange_weak_explicit(&s->left, &left, rest, memory_order_acquire, memory_order_relaxed));
    return 1;
}

/* Claims and does blocks of one share after another, until none is left in any; returns how many. */
static size_t work(fr_team *team, size_t member, size_t members, int helping)
{
    size_t done = 0, first, last;
    for (size_t i = 0; i < members; i++) {
        size_t owner = member + i < members ? member + i : member + i - members;
        while (claim(&team->shares[owner], member, i == 0, &first, &last)) {
            team->do_blocks(team->job, member, first, last);
            done += last - first;
            if (helping) {
                atomic_fetch_add(&team->helped, (unsigned)(last - first));
                if (atomic_load(&team->watched))
                    wake(&team->helped);
            }
        }
    }
    return done;
}

static size_t members_of(fr_team *team)
{
    return atomic_load_explicit(&team->shares[0].left, memory_order_relaxed) >> 48;
}

static void ring(fr_team *team)
{
    atomic_store(&team->asleep, 0);
    atomic_fetch_add(&team->bell, 1);
    wake(&team->bell);
}

static void *help(void *self)
{
    helper me = *(helper *)self;
    fr_team *team = me.team;
    free(self);
    fr_fpmode_enter();
    while (!atomic_load(&team->quit)) {
        unsigned bell = atomic_load(&team->bell), stage = atomic_load_explicit(&team->stage, memory_order_acquire);
        uint64_t begin = now();
        size_t done = stage % 2 ? work(team, me.member, members_of(team), 1) : 0;
        if (changes(&team->stage, stage, stage % 2 && done ? PATIENCE + now() - begin : SPIN))
            continue;
        if (stage % 2 && done)
            atomic_store_explicit(&team->in_vain, 1, memory_order_relaxed);
        atomic_fetch_add(&team->asleep, 1);
        if (atomic_load(&team->stage) == stage)
            while (atomic_load(&team->bell) == bell)
                sleep_on(&team->bell, bell);
    }
    return NULL;
}

/* Only those of idle teams: a helper in the middle of a daemon thread's run ends with the process. */
static void join_helpers(void)
{
    pthread_mutex_lock(&lock);
    fr_team *team = idle;
    idle = NULL;
    pthread_mutex_unlock(&lock);
    for (fr_team *next; team; team = next) {
        next = team->next;
        atomic_store(&team->quit, 1);
        atomic_fetch_add(&team->stage, 2);
        ring(team);
        for (size_t i = 0; i < team->helpers; i++)
            pthread_join(team->thread[i], NULL);
        free(team);
    }
}

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
#if !defined(__linux__)
    pthread_mutex_lock(&sleepers);
#endif
}

static void after_fork(void)
{
#if !defined(__linux__)
    pthread_mutex_unlock(&sleepers);
#endif
    pthread_mutex_unlock(&lock);
}

/* The parent's helpers do not exist in the child: its teams have none yet. */
static void in_child(void)
{
    for (fr_team *team = idle; team; team = team->next)
        team->helpers = 0;
#if !defined(__linux__)
    changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
#endif
    after_fork();
}

static void prepare(void)
{
    pthread_atfork(before_fork, after_fork, in_child);
    atexit(join_helpers);
}

/* Whether one more helper could be made. */
static int add_helper(fr_team *team)
{
    helper *h = malloc(sizeof *h);
    if (!h)
        return 0;
    *h = (helper){team, team->helpers + 1};
    sigset_t all, callers;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    int failed = pthread_create(&team->thread[team->helpers], NULL, help, h);
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    if (failed) {
        free(h);
        return 0;
    }
    team->helpers++;
    return 1;
}

static fr_team *idle_team(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    pthread_mutex_lock(&lock);
    fr_team *team = idle;
    if (team)
        idle = team->next;
    pthread_mutex_unlock(&lock);
    if (!team && (team = aligned_alloc(_Alignof(fr_team), sizeof *team)))
        *team = (fr_team){.members = 1};
    return team;
}

fr_team *fr_team_gather(size_t threads)
{
    fr_team *team = idle_team();
    if (!team)
        return NULL;
    while (team->helpers + 1 < threads && add_helper(team)) {}
    team->members = team->helpers + 1 < threads ? team->helpers + 1 : threads;
    return team;
}

void fr_team_part(fr_team *team)
{
    pthread_mutex_lock(&lock);
    team->next = idle;
    idle = team;
    pthread_mutex_unlock(&lock);
}

/* The helpers are no use now: the caller works alone for a while. */
static void stay_alone(fr_team *team, uint64_t at)
{
    int again = at - team->alone_until < 2 * team->alone_for;
    team->alone_for = !again ? ALONE_LEAST : team->alone_for < ALONE_MOST ? 2 * team->alone_for : ALONE_MOST;
    team->alone_until = at + team->alone_for;
}

/* Until helpers have done `count` blocks. */
static void wait_for(fr_team *team, unsigned count)
{
    unsigned helped;
    while ((helped = atomic_load(&team->helped)) != count) {
        if (changes(&team->helped, helped, SPIN))
            continue;
        atomic_store(&team->watched, 1);
        while ((helped = atomic_load(&team->helped)) != count)
            sleep_on(&team->helped, helped);
        atomic_store(&team->watched, 0);
    }
}

void fr_team_share_out(fr_team *team, size_t blocks, fr_blocks_fn *do_blocks, const void *job)
{
    uint64_t begin = now();
    if (atomic_load_explicit(&team->in_vain, memory_order_relaxed)) {
        atomic_store_explicit(&team->in_vain, 0, memory_order_relaxed);
        stay_alone(team, begin);
    }
    if (begin < team->alone_until || team->members == 1) {
        do_blocks(job, 0, 0, blocks);
        return;
    }
    size_t members = team->members;
    team->do_blocks = do_blocks;
    team->job = job;
    atomic_store_explicit(&team->helped, 0, memory_order_relaxed);
    for (size_t i = 0; i < members; i++)
        atomic_store_explicit(&team->shares[i].left,
                              make_left(members, blocks * i / members, blocks * (i + 1) / members),
                              memory_order_release);
    atomic_fetch_add_explicit(&team->stage, 1, memory_order_release);
    if (atomic_load(&team->asleep))
        ring(team);
    size_t helped = blocks - work(team, 0, members, 0);
    if (atomic_load_explicit(&team->helped, memory_order_acquire) != helped) {
        uint64_t wait = now();
        wait_for(team, (unsigned)helped);
        uint64_t end = now();
        if (end - wait > PATIENCE + wait - begin)
            stay_alone(team, end);
    }
    atomic_fetch_add_explicit(&team->stage, 1, memory_order_release);
}
