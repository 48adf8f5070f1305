# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
# cython: binding=False
# cython: freethreading_compatible=True
"""`Pool`: many streams through one stack, opened and closed one by one, stepped in any subset.

slots.h has the states and who may use them; here arrays and ids are checked, and the GIL is
released. Shapes as in core.pyx, with n streams in a call.
A step allocates nothing but the result, and nothing at all with `out=`.
"""

cimport cython
cimport numpy as np
from arrays cimport is_matrix, is_plain, refuse_out, typenum_of, unidirectional
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from engine cimport fr_run
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from signals cimport fr_signals, fr_watch_signals, is_watched, raised
from stack cimport (
    fr_aligned_alloc, fr_stack, fr_stack_run, fr_stack_scratch_bytes, fr_stack_state_reals,
    fr_stack_work,
)

import operator

import numpy as np

from fastrnn._kernels.core import as_array, as_state
from fastrnn._kernels.stepper import STREAMS as _STREAMS
from fastrnn.errors import BusyError

np.import_array()

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *)

cdef extern from "slots.h" nogil:
    ctypedef struct fr_slots:
        pass
    ctypedef struct fr_workspace:
        int64_t *ids
        void **states
        void *scratch
    ctypedef enum fr_slots_result:
        FR_POOL_OK
        FR_POOL_FULL
        FR_POOL_NO_MEMORY
        FR_POOL_CLOSED
        FR_POOL_BUSY
        FR_POOL_TWICE
    fr_slots *fr_slots_new(const fr_stack *, size_t, bint, const void *)
    void fr_slots_free(fr_slots *)
    size_t fr_slots_capacity(fr_slots *)
    size_t fr_slots_open_count(fr_slots *)
    bint fr_slots_has(fr_slots *, int64_t)
    fr_slots_result fr_slots_open(fr_slots *, int64_t *)
    fr_slots_result fr_slots_close(fr_slots *, int64_t)
    int64_t fr_slots_now()
    size_t fr_slots_idle(fr_slots *, int64_t, int64_t *, size_t)
    fr_slots_result fr_slots_evict(fr_slots *, int64_t, int64_t)
    fr_workspace *fr_slots_enter(fr_slots *, size_t)
    void fr_slots_leave(fr_workspace *)
    fr_slots_result fr_slots_claim(fr_slots *, fr_workspace *, size_t, size_t *)
    void fr_slots_release(fr_workspace *, size_t)
    void fr_slots_reset(fr_slots *, fr_workspace *, size_t)
    void fr_slots_copy_out(const fr_slots *, const fr_workspace *, size_t, void *, void *)
    void fr_slots_copy_in(
        const fr_slots *, const fr_workspace *, size_t, const void *, const void *)

cdef extern from "capi_pool.h":
    const size_t FR_API_VERSION
    const char *FR_API_CAPSULE
    const char *FR_STREAMS_CAPSULE
    ctypedef enum fr_size:
        pass
    ctypedef enum fr_result:
        pass
    ctypedef struct fr_pool:
        void *owner
        const fr_stack *stack
        fr_slots *slots
    ctypedef struct fr_api:
        size_t version
        size_t size
        fr_pool *(*pool_of)(object) except NULL
        void (*pool_release)(fr_pool *) noexcept
        size_t (*pool_size)(fr_pool *, fr_size) noexcept nogil
        fr_result (*pool_open)(fr_pool *, int64_t *) noexcept nogil
        fr_result (*pool_close)(fr_pool *, int64_t) noexcept nogil
        fr_result (*pool_step)(fr_pool *, size_t, const int64_t *, const void *, ptrdiff_t, void *,
                               ptrdiff_t) noexcept nogil
        fr_result (*pool_get_state)(
            fr_pool *, size_t, const int64_t *, void *, void *) noexcept nogil
        fr_result (*pool_set_state)(
            fr_pool *, size_t, const int64_t *, const void *, const void *) noexcept nogil
        fr_result (*pool_reset)(fr_pool *, size_t, const int64_t *) noexcept nogil
    size_t capi_pool_size(fr_pool *, fr_size) noexcept nogil
    fr_result capi_pool_open(fr_pool *, int64_t *) noexcept nogil
    fr_result capi_pool_close(fr_pool *, int64_t) noexcept nogil
    fr_result capi_pool_step(fr_pool *, size_t, const int64_t *, const void *, ptrdiff_t, void *,
                             ptrdiff_t) noexcept nogil
    fr_result capi_pool_get_state(
        fr_pool *, size_t, const int64_t *, void *, void *) noexcept nogil
    fr_result capi_pool_set_state(
        fr_pool *, size_t, const int64_t *, const void *, const void *) noexcept nogil
    fr_result capi_pool_reset(fr_pool *, size_t, const int64_t *) noexcept nogil
    void capi_give_back(fr_workspace *, size_t) noexcept nogil
    bint capi_overlap(const void *, size_t, const void *, size_t) noexcept nogil


cdef enum:
    NO_ID = -1      # what no stream is ever called


@cython.final
cdef class Pool:
    """States of streams through a unidirectional stack.

    Any number of threads may use it at once, for different streams; a call that meets another on
    one of its streams raises BusyError, and has then changed nothing.

    Parameters
    ----------
    stack : Stack
    name : str
        Begins every error message.
    capacity : int
        Streams that there is room for, 1 to 2**31 - 1.
    grow : bool
        Whether opening one more than that doubles the room.
    initial : pair (h, c), optional
        Where streams begin and what `reset` goes back to: h (L, P) and c (L, H), None unless LSTM.
        None: zeros.
    """

    cdef readonly object stack
    cdef readonly bint grow
    cdef const fr_stack *s
    cdef fr_slots *pool
    cdef object dtype
    cdef str name
    cdef int typenum
    cdef fr_pool below              # what C sees of all this

    def __cinit__(self, stack, str name not None, Py_ssize_t capacity, bint grow,
                  initial=None):
        self.s = unidirectional(stack, name)
        self.stack = stack
        self.dtype = stack.dtype
        self.name = name
        self.grow = grow
        self.typenum = typenum_of(self.s)
        if initial is not None:  # (L, 1, P + H), as states are
            h, c = initial
            what = f"{name}: initial_state"
            h = as_state(h, self.dtype, self.state_shape(1, "h"),
                         f"{what} h" if self.s.has_cell_state else what)
            if self.s.has_cell_state:
                c = as_state(c, self.dtype, self.state_shape(1, "c"), f"{what} c")
                h = np.concatenate((h, c), axis=2)
            initial = h
        self.pool = fr_slots_new(self.s, capacity, grow,
                                 NULL if initial is None else np.PyArray_DATA(initial))
        if self.pool == NULL:
            raise MemoryError(f"{name}: no memory for {capacity} streams")
        self.below.owner = <void *> self
        self.below.stack = self.s
        self.below.slots = self.pool

    def __dealloc__(self):
        if self.pool != NULL:
            fr_slots_free(self.pool)

    def __len__(self):
        """How many streams are open."""
        return fr_slots_open_count(self.pool)

    @property
    def work(self):
        """Multiply-adds of one step of one stream."""
        return fr_stack_work(self.s, 1, 1)

    @property
    def capacity(self):
        """How many streams there is room for now."""
        return fr_slots_capacity(self.pool)

    def __contains__(self, id):
        """Whether `id` is an open stream."""
        return fr_slots_has(self.pool, self.as_id(id))

    def open(self):
        """A new stream's id, or None where all `capacity` are open and the pool may not grow."""
        cdef int64_t id
        cdef fr_slots_result result = fr_slots_open(self.pool, &id)
        if result == FR_POOL_FULL:
            return None
        if result != FR_POOL_OK:
            raise MemoryError(f"{self.name}: no memory for more than {self.capacity} streams")
        return id

    def close(self, id):
        """Give a stream's room back; its id is never used again."""
        cdef fr_slots_result result = fr_slots_close(self.pool, self.as_id(id))
        if result != FR_POOL_OK:
            self.refuse(result, id)

    def evict(self, double idle_seconds):
        """Close the streams that no call used for so long, and none that a call is using.

        Returns their ids.
        """
        cdef int64_t until = fr_slots_now() - <int64_t> (1e9 * idle_seconds)
        ids = np.empty(self.capacity, np.int64)
        cdef int64_t *found = <int64_t *> np.PyArray_DATA(ids)
        cdef size_t i, n = fr_slots_idle(self.pool, until, found, len(ids))
        return [found[i] for i in range(n)
                if fr_slots_evict(self.pool, found[i], until) == FR_POOL_OK]

    def step(self, ids, x, out=None):
        """One time step of the streams `ids`: x (n, I) to the last layer's h (n, P)."""
        cdef fr_workspace *w
        cdef fr_run run
        cdef size_t n
        cdef bint watched
        ids = self.as_ids(ids)
        n = len(ids)
        if not is_matrix(x, self.typenum, n, self.s.input_size):
            x = self.accept(x, n, 2)
        if out is None:
            out = np.PyArray_EMPTY(2, [n, self.s.output_size], self.typenum, 0)
        elif (not is_matrix(out, self.typenum, n, self.s.output_size)
              or not np.PyArray_ISWRITEABLE(out)):
            refuse_out(self.name, out, self.dtype, (n, self.s.output_size))
        elif capi_overlap(np.PyArray_DATA(x), np.PyArray_NBYTES(x),
                          np.PyArray_DATA(out), np.PyArray_NBYTES(out)):
            x = x.copy()
        watched = is_watched(self.s, 1, n)
        y = np.empty_like(out) if watched else out
        w = self.take(ids, n)
        self.fill(&run, w, 1, n, np.PyArray_DATA(x), np.PyArray_DATA(y))
        if watched:
            self.run_watched(&run, w, n)
            out[...] = y
            return out
        if n > 0:
            with nogil:
                fr_stack_run(self.s, &run)
        capi_give_back(w, n)
        return out

    def run(self, ids, x, rows=None):
        """T steps of the streams `ids`: x (T, n, I) to y (T, n, P). T may be 0.

        rows : (T,) intp, non-increasing, optional
            Streams ids[:rows[t]] live at step t; y past their own end is zero.
        """
        cdef fr_workspace *w
        cdef fr_run run
        cdef const ptrdiff_t *live = NULL
        cdef size_t n, steps
        cdef bint watched
        ids = self.as_ids(ids)
        n = len(ids)
        x = self.accept(x, n, 3)
        steps = x.shape[0]
        if rows is None:
            y = np.empty((steps, n, self.s.output_size), self.dtype)
        else:
            y = np.zeros((steps, n, self.s.output_size), self.dtype)
            live = self.live_rows(rows, steps, n)
        watched = is_watched(self.s, steps, n)
        w = self.take(ids, n)
        self.fill(&run, w, steps, n, np.PyArray_DATA(x), np.PyArray_DATA(y))
        run.rows = live
        if steps > 0 and n > 0:
            run.scratch = fr_aligned_alloc(fr_stack_scratch_bytes(self.s, steps, n))
            if run.scratch == NULL:
                capi_give_back(w, n)
                raise MemoryError(f"{self.name}: no memory for {steps} steps of {n} streams")
            if watched:
                try:
                    self.run_watched(&run, w, n)
                finally:
                    free(run.scratch)
                return y
            with nogil:
                fr_stack_run(self.s, &run)
                free(run.scratch)
        capi_give_back(w, n)
        return y

    cdef int run_watched(self, fr_run *run, fr_workspace *w, size_t n) except -1:
        """Run the n streams claimed in w, which may be ended by a signal's handler, and let go.

        What that raises goes on from here; all states are then as they were.
        """
        cdef fr_signals signals
        cdef size_t i, bytes = fr_stack_state_reals(self.s) * self.s.item
        cdef char *before = <char *> malloc(n * bytes)
        if before == NULL:
            capi_give_back(w, n)
            raise MemoryError(f"{self.name}: no memory for the states of {n} streams")
        run.watch = fr_watch_signals(&signals)
        with nogil:
            for i in range(n):
                memcpy(before + i * bytes, w.states[i], bytes)
            fr_stack_run(self.s, run)
            if run.watch.ended:
                for i in range(n):
                    memcpy(w.states[i], before + i * bytes, bytes)
            free(before)
        capi_give_back(w, n)
        return raised() if run.watch.ended else 0

    def get_state(self, ids):
        """Copies of h (L, n, P) and c (L, n, H); c is None unless LSTM."""
        cdef fr_workspace *w
        cdef size_t n
        ids = self.as_ids(ids)
        n = len(ids)
        h, c = self.empty_state(n)
        w = self.take(ids, n)
        fr_slots_copy_out(self.pool, w, n, np.PyArray_DATA(h),
                          NULL if c is None else np.PyArray_DATA(c))
        capi_give_back(w, n)
        return h, c

    def set_state(self, ids, h, c):
        """Copy h (L, n, P) and c (L, n, H) or None in; all is checked before any is written.

        h (L, P) and c (L, H) are copied to every one of the streams.
        """
        cdef fr_workspace *w
        cdef size_t n
        ids = self.as_ids(ids)
        n = len(ids)
        h = as_array(h, self.dtype, f"{self.name}: state h")
        if self.s.has_cell_state:  # before h is looked at: c's __array__ may resize it
            c = as_array(c, self.dtype, f"{self.name}: state c")
        h = as_state(h, self.dtype, self.state_shape(n, "h"), f"{self.name}: state h")
        if self.s.has_cell_state:
            c = as_state(c, self.dtype, self.state_shape(n, "c"), f"{self.name}: state c")
        w = self.take(ids, n)
        fr_slots_copy_in(self.pool, w, n, np.PyArray_DATA(h),
                         np.PyArray_DATA(c) if self.s.has_cell_state else NULL)
        capi_give_back(w, n)

    def reset(self, ids):
        """Let the streams `ids` begin anew."""
        cdef fr_workspace *w
        cdef size_t n
        ids = self.as_ids(ids)
        n = len(ids)
        w = self.take(ids, n)
        fr_slots_reset(self.pool, w, n)
        capi_give_back(w, n)

    cdef object as_int(self, object id):
        """An id as a Python int. This may run code of the caller's."""
        if isinstance(id, bool):
            raise TypeError(f"{self.name}: id is bool, expected what open() returned")
        try:
            return operator.index(id)
        except TypeError:
            raise TypeError(f"{self.name}: id is {type(id).__name__}, expected what open() "
                            "returned") from None

    cdef int64_t as_id(self, object id) except? NO_ID:
        """An id as C has it; NO_ID for integers that are none."""
        cdef int overflow = 0
        cdef int64_t plain = PyLong_AsLongLongAndOverflow(
            id if type(id) is int else self.as_int(id), &overflow)
        return plain if overflow == 0 and plain >= 0 else NO_ID

    cpdef object as_ids(self, object ids):
        """`ids` as a list or tuple of int, or a plain int64 array.

        Comes before the arrays are looked at: an id's __index__ may do anything, such as resize
        `out`.
        """
        if is_read(ids):
            return ids
        if isinstance(ids, (list, tuple)):
            return [self.as_int(id) for id in ids]
        try:
            array = np.asarray(ids)
        except ValueError as error:  # ragged
            raise TypeError(f"{self.name}: ids is {type(ids).__name__}: {error}") from None
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            what = f"array of {array.dtype} {array.shape}" if array.ndim else type(ids).__name__
            raise TypeError(f"{self.name}: ids is {what}, expected a sequence (n,) of what open() "
                            "returned")
        return array.tolist()

    cdef fr_workspace *take(self, object ids, size_t n) except NULL:
        """Claim the n streams `ids` for one call, all or none; it ends with capi_give_back."""
        cdef fr_workspace *w
        cdef fr_slots_result result
        cdef size_t bad = 0, room = fr_slots_capacity(self.pool), looked_at
        looked_at = n if n <= room else room + 1  # one of so many is there twice, or is none
        w = fr_slots_enter(self.pool, looked_at)
        if w == NULL:
            raise MemoryError(f"{self.name}: no memory to step {n} streams")
        try:
            self.copy_ids(ids, n, w.ids, looked_at)
            result = fr_slots_claim(self.pool, w, looked_at, &bad)
            if result != FR_POOL_OK:
                self.refuse(result, w.ids[bad] if w.ids[bad] != NO_ID else ids[bad])
            if looked_at < n:  # the pool has grown since
                fr_slots_release(w, looked_at)
                raise ValueError(f"{self.name}: {n} ids for {room} streams")
        except BaseException:
            fr_slots_leave(w)
            raise
        return w

    cdef int copy_ids(self, object ids, size_t n, int64_t *to, size_t count) except -1:
        """The first `count` of n ids that were read. They may have changed since: by x's __array__,
        or in another thread, while they are copied, too.
        """
        cdef size_t i
        if <size_t> len(ids) == n and is_plain(ids, np.NPY_INT64, 1):
            memcpy(to, np.PyArray_DATA(ids), count * sizeof(int64_t))
            return 0
        for i in range(count):
            id = ids[i] if <size_t> len(ids) == n else None
            if type(id) is not int:
                raise ValueError(f"{self.name}: ids changed during the call")
            to[i] = self.as_id(id)
        return 0

    cdef object refuse(self, fr_slots_result result, object id):
        if result == FR_POOL_TWICE:
            raise ValueError(f"{self.name}: ids has stream {id} twice")
        if result == FR_POOL_BUSY:
            raise BusyError(f"{self.name}: stream {id} is in use by another thread")
        raise LookupError(f"{self.name}: no stream {id}: it was closed, or never opened here")

    cdef void fill(self, fr_run *run, fr_workspace *w, size_t steps, size_t n, void *x,
                   void *y) noexcept:
        memset(run, 0, sizeof(run[0]))
        run.steps = steps
        run.batch = n
        run.x = x
        run.y = y
        run.states = w.states
        run.scratch = w.scratch

    cdef const ptrdiff_t *live_rows(self, object rows, size_t steps, size_t n) except NULL:
        if not is_plain(rows, np.NPY_INTP, 1) or <size_t> len(rows) != steps:
            raise ValueError(f"rows must be an intp array ({steps},)")
        if steps and (rows[0] > n or rows[-1] < 0 or (rows[1:] > rows[:-1]).any()):
            raise ValueError(f"rows must fall from at most n={n} to at least 0")
        return <const ptrdiff_t *> np.PyArray_DATA(rows)

    cdef object accept(self, object x, size_t n, int ndim):
        """`x` as an array (n, I) or (T, n, I) of the pool's dtype, or an error."""
        x = as_array(x, self.dtype, f"{self.name}: x")
        if x.ndim != ndim:
            want = f"({'T, ' if ndim == 3 else ''}{n}, {self.s.input_size})"
            raise ValueError(f"{self.name}: x has {x.ndim} dimensions, expected {ndim}: {want} "
                             f"(x.shape={x.shape})")
        if x.shape[ndim - 2] != n:
            raise ValueError(f"{self.name}: x has {x.shape[ndim - 2]} rows, expected one for each "
                             f"of {n} ids (x.shape={x.shape})")
        if x.shape[ndim - 1] != self.s.input_size:
            raise ValueError(f"{self.name}: x has {x.shape[ndim - 1]} features, expected "
                             f"input_size={self.s.input_size} (x.shape={x.shape})")
        return x

    cdef tuple empty_state(self, size_t n):
        h = np.empty(self.state_shape(n, "h"), self.dtype)
        c = None
        if self.s.has_cell_state:
            c = np.empty(self.state_shape(n, "c"), self.dtype)
        return h, c

    cdef tuple state_shape(self, size_t n, str which):
        return (self.s.num_layers, n, self.s.output_size if which == "h" else self.s.hidden_size)


cdef bint is_read(object ids) except -1:
    """Whether reading them runs nobody's code: a plain int64 array, or a list or tuple of int."""
    if type(ids) is not list and type(ids) is not tuple:
        return is_plain(ids, np.NPY_INT64, 1)
    for id in ids:
        if type(id) is not int:
            return False
    return True


cdef fr_pool *pool_of(object pool) except NULL:
    below = getattr(pool, "_pool", None)
    if type(below) is not Pool:
        raise TypeError(f"fr_pool_of: pool is {type(pool).__name__}, expected what a layer's "
                        "pool() returns: whole models are stepped in Python")
    Py_INCREF(below)  # until release_below
    return &(<Pool> below).below


cdef void release_below(fr_pool *pool) noexcept:
    Py_DECREF(<object> pool.owner)


cdef fr_api TABLE = (<fr_api *> PyCapsule_GetPointer(_STREAMS, FR_STREAMS_CAPSULE))[0]
TABLE.version = FR_API_VERSION
TABLE.size = sizeof(fr_api)
TABLE.pool_of = pool_of
TABLE.pool_release = release_below
TABLE.pool_size = capi_pool_size
TABLE.pool_open = capi_pool_open
TABLE.pool_close = capi_pool_close
TABLE.pool_step = capi_pool_step
TABLE.pool_get_state = capi_pool_get_state
TABLE.pool_set_state = capi_pool_set_state
TABLE.pool_reset = capi_pool_reset

C_API = PyCapsule_New(&TABLE, FR_API_CAPSULE, NULL)
