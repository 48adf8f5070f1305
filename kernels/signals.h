/* Signals during a long run: Python's handlers are called between pieces of its work, and may end it by raising.
 *
 * Only Python's main thread calls them, and a run of some milliseconds may as well end first: others are not watched.
 */
#ifndef FASTRNN_SIGNALS_H
#define FASTRNN_SIGNALS_H

#include <Python.h>
#include <time.h>

#include "engine.h"
#include "fpmode.h"

/* Multiply-adds of a run that is watched: of 1 to 50 ms. */
#define FR_LONG_RUN ((size_t)1 << 26)

/* Nanoseconds between two looks. Each takes the GIL, for which it may wait 5 ms where other threads compute in Python. */
#define FR_LOOK 25000000

typedef struct {
    fr_watch watch;
    long long next_look;    /* 0: not yet known */
    fr_fpmode callers;      /* what handlers run under */
} fr_signals;

static inline long long fr_nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Whether a handler raised; its exception is then set. */
static int fr_look_at_signals(fr_watch *watch)
{
    fr_signals *s = (fr_signals *)watch;
    int raised = 0;
    if (s->next_look && fr_nanoseconds() < s->next_look)
        return 0;
    if (s->next_look) {
        fr_fpmode_leave(s->callers);
        PyGILState_STATE state = PyGILState_Ensure();
        raised = PyErr_CheckSignals() != 0;
        PyGILState_Release(state);
        fr_fpmode_enter();
    }
    s->next_look = fr_nanoseconds() + FR_LOOK;
    return raised;
}

static inline fr_watch *fr_watch_signals(fr_signals *s)
{
    fr_fpmode callers = fr_fpmode_enter();
    fr_fpmode_leave(callers);
    *s = (fr_signals){.watch = {.wants_end = fr_look_at_signals}, .callers = callers};
    return &s->watch;
}

#endif
