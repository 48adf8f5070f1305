"""signals.h for Cython, and whom signals concern."""

from engine cimport fr_watch
from stack cimport fr_stack, fr_stack_work


cdef extern from "signals.h":
    const size_t FR_LONG_RUN
    ctypedef struct fr_signals:
        pass
    fr_watch *fr_watch_signals(fr_signals *)


cdef inline bint is_watched(const fr_stack *s, size_t steps, size_t batch):
    """Whether a run is so long that signals are looked at, and this thread the one they are for."""
    if fr_stack_work(s, steps, batch) < FR_LONG_RUN:
        return False
    import threading
    return threading.get_ident() == threading.main_thread().ident


cdef inline int raised() except -1:
    """Let the exception out that a handler has left behind."""
    return -1
