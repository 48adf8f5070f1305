#define _GNU_SOURCE
#include "team.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fpmode.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Turns of waiting before sleeping: 20 to 100 us, a few times what a sleep and a waking cost. */
#define SPINS 2000

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

struct fr_team {
    void (*work)(void *arg, fr_team *team, size_t member);
    void *arg;
    size_t size;
    word arrived;       /* at the barrier of this phase */
    word phase;
    word asleep;        /* members that may sleep on `phase` */
};

/* A helper's state: what it is doing, and whether somebody sleeps on it. */
enum { IDLE, IDLE_ASLEEP, BUSY, BUSY_WATCHED, QUIT };

typedef struct helper helper;
struct helper {
    pthread_t thread;
    helper *next;       /* in the list of idle ones, or of a team's */
    word state;
    fr_team *team;
    size_t member;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static helper *idle;    /* under `lock` */

/* Spins, then sleeps, while *w is `value`. `asleep` is what the sleeper turns it into first. */
static void wait_while(word *w, unsigned value, unsigned asleep)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(w, memory_order_acquire) != value)
            return;
        RELAX();
    }
    unsigned expected = value;
    if (atomic_compare_exchange_strong(w, &expected, asleep))
        while (atomic_load_explicit(w, memory_order_acquire) == asleep)
            sleep_on(w, asleep);
}

static void *help(void *self)
{
    helper *h = self;
    fr_fpmode_enter();
    for (;;) {
        wait_while(&h->state, IDLE, IDLE_ASLEEP);
        if (atomic_load(&h->state) == QUIT)
            return NULL;
        h->team->work(h->team->arg, h->team, h->member);
        if (atomic_exchange(&h->state, IDLE) == BUSY_WATCHED)
            wake(&h->state);
    }
}

static void set_state(helper *h, unsigned state)
{
    if (atomic_exchange(&h->state, state) == IDLE_ASLEEP)
        wake(&h->state);
}

/* Only idle helpers: one in the middle of a daemon thread's run ends with the process. */
static void join_helpers(void)
{
    pthread_mutex_lock(&lock);
    helper *h = idle;
    idle = NULL;
    pthread_mutex_unlock(&lock);
    while (h) {
        helper *next = h->next;
        set_state(h, QUIT);
        pthread_join(h->thread, NULL);
        free(h);
        h = next;
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

/* The parent's helpers do not exist in the child; what they were is left to it. */
static void in_child(void)
{
    idle = NULL;
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

static helper *new_helper(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    helper *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    sigset_t all, callers;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    int failed = pthread_create(&h->thread, NULL, help, h);
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    if (failed) {
        free(h);
        return NULL;
    }
    return h;
}

/* Up to `count` helpers, as a list. */
static helper *borrow(size_t count, size_t *got)
{
    helper *list = NULL;
    *got = 0;
    pthread_mutex_lock(&lock);
    while (*got < count && idle) {
        helper *h = idle;
        idle = h->next;
        h->next = list;
        list = h;
        ++*got;
    }
    pthread_mutex_unlock(&lock);
    for (helper *h; *got < count && (h = new_helper()); ++*got) {
        h->next = list;
        list = h;
    }
    return list;
}

static void give_back(helper *list)
{
    pthread_mutex_lock(&lock);
    while (list) {
        helper *h = list;
        list = h->next;
        h->next = idle;
        idle = h;
    }
    pthread_mutex_unlock(&lock);
}

void fr_team_run(size_t threads, void (*work)(void *arg, fr_team *team, size_t member), void *arg)
{
    size_t helpers = 0, member = 0;
    helper *list = threads > 1 ? borrow(threads - 1, &helpers) : NULL;
    fr_team team = {.work = work, .arg = arg, .size = 1 + helpers};
    for (helper *h = list; h; h = h->next) {
        h->team = &team;
        h->member = ++member;
        set_state(h, BUSY);
    }
    work(arg, &team, 0);
    for (helper *h = list; h; h = h->next)
        wait_while(&h->state, BUSY, BUSY_WATCHED);
    if (list)
        give_back(list);
}

size_t fr_team_size(const fr_team *team) { return team->size; }

void fr_team_barrier(fr_team *team)
{
    if (team->size == 1)
        return;
    unsigned phase = atomic_load(&team->phase);
    if (atomic_fetch_add(&team->arrived, 1) + 1 == team->size) {
        atomic_store(&team->arrived, 0);
        atomic_store(&team->phase, phase + 1);
        if (atomic_load(&team->asleep))
            wake(&team->phase);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase)
            return;
        RELAX();
    }
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load_explicit(&team->phase, memory_order_acquire) == phase)
        sleep_on(&team->phase, phase);
    atomic_fetch_sub(&team->asleep, 1);
}
