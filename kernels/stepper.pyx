# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
# cython: binding=False
# cython: freethreading_compatible=True
"""`Stepper`: the state of B streams through a stack, with the scratch that a step needs.

Its step allocates nothing but the result, and nothing at all with `out=`.
Shapes as in core.pyx: T steps, B rows, I input_size, H hidden_size, L num_layers, P output_size.
"""

cimport cython
cimport numpy as np
from arrays cimport is_matrix, is_plain, refuse_out, typenum_of, unidirectional
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from engine cimport fr_run
from libc.limits cimport INT_MAX
from libc.stdlib cimport free
from libc.string cimport memcpy
from signals cimport is_watched
from stack cimport fr_aligned_alloc, fr_stack, fr_stack_run, fr_stack_scratch_bytes

import numpy as np

from fastrnn._kernels.core import as_array, as_state
from fastrnn.errors import BusyError

np.import_array()

cdef extern from "claim.h" nogil:
    bint fr_claim(char *)
    void fr_release(char *)

cdef extern from "capi.h":
    const char *FR_STREAMS_CAPSULE
    ctypedef enum fr_size:
        pass
    ctypedef enum fr_result:
        pass
    ctypedef struct fr_stream:
        void *owner
        const fr_stack *stack
        fr_run *one
        char *busy
        const void *h_0
        const void *c_0
        char *rows
    ctypedef struct fr_api:
        fr_stream *(*stream_of)(object) except NULL
        void (*stream_release)(fr_stream *) noexcept
        size_t (*stream_size)(const fr_stream *, fr_size) noexcept nogil
        fr_result (*stream_step)(
            fr_stream *, const void *, ptrdiff_t, void *, ptrdiff_t) noexcept nogil
        fr_result (*stream_get_state)(fr_stream *, void *, void *) noexcept nogil
        fr_result (*stream_set_state)(fr_stream *, const void *, const void *) noexcept nogil
        fr_result (*stream_reset)(fr_stream *) noexcept nogil
    size_t capi_stream_size(const fr_stream *, fr_size) noexcept nogil
    fr_result capi_stream_step(
        fr_stream *, const void *, ptrdiff_t, void *, ptrdiff_t) noexcept nogil
    fr_result capi_stream_get_state(fr_stream *, void *, void *) noexcept nogil
    fr_result capi_stream_set_state(fr_stream *, const void *, const void *) noexcept nogil
    fr_result capi_stream_reset(fr_stream *) noexcept nogil


@cython.final
cdef class Stepper:
    """State and scratch of B streams through a unidirectional stack.

    Belongs to one thread at a time: a call that meets another in progress raises BusyError.

    Parameters
    ----------
    stack : Stack
    name : str
        Begins every error message.
    batch : int or None
        B >= 1. None: one stream, whose arrays have no batch dimension.
    initial : pair (h, c), optional
        Where the streams begin and what `reset` goes back to, as set_state takes them. None: zeros.
    """

    cdef readonly object stack
    cdef const fr_stack *s
    cdef object dtype
    cdef readonly Py_ssize_t batch
    cdef str name
    cdef bint batched
    cdef char busy
    cdef fr_run one                 # one step of all rows; only x changes
    cdef int typenum
    cdef np.npy_intp out_shape[2]   # (B, P)
    cdef size_t out_bytes
    cdef const char *last_h         # h of the last layer
    cdef object h, c                # (L, B, P), (L, B, H) or None
    cdef object h_0, c_0            # the same; None, both of them, where streams begin with zeros
    cdef fr_stream below            # what C sees of all this

    def __cinit__(self, stack, str name not None, batch, initial=None):
        cdef const fr_stack *s = unidirectional(stack, name)
        if batch is not None and batch > INT_MAX:  # BLAS counts in int
            raise ValueError(f"{name}: batch={batch}, expected at most {INT_MAX}")
        self.stack = stack
        self.s = s
        self.dtype = stack.dtype
        self.name = name
        self.batched = batch is not None
        self.batch = batch if self.batched else 1
        self.h = np.zeros((s.num_layers, self.batch, s.output_size), self.dtype)
        self.one.h = np.PyArray_DATA(self.h)
        if s.has_cell_state:
            self.c = np.zeros((s.num_layers, self.batch, s.hidden_size), self.dtype)
            self.one.c = np.PyArray_DATA(self.c)
        self.one.steps = 1
        self.one.batch = self.batch
        self.one.scratch = fr_aligned_alloc(fr_stack_scratch_bytes(s, 1, self.batch))
        if self.one.scratch == NULL:
            raise MemoryError(f"{name}: no memory for a batch of {self.batch}")
        self.typenum = typenum_of(s)
        self.out_shape[0] = self.batch
        self.out_shape[1] = s.output_size
        self.out_bytes = self.batch * s.output_size * s.item
        self.last_h = <const char *> self.one.h + (s.num_layers - 1) * self.out_bytes
        if initial is not None:
            h, c = initial
            what = "initial_state h" if s.has_cell_state else "initial_state"
            self.h_0 = self.accept_state(h, self.h, what).copy()
            if self.c is not None:
                self.c_0 = self.accept_state(c, self.c, "initial_state c").copy()
            self.reset()

    def __dealloc__(self):
        free(self.one.scratch)
        free(self.below.rows)

    cdef fr_stream *as_below(self) except NULL:
        """What C sees of it, with a reference to it that ends in release_below."""
        with cython.critical_section(self):  # the first of several threads makes it
            if self.below.rows == NULL:
                self.make_below()
        Py_INCREF(self)
        return &self.below

    cdef int make_below(self) except -1:
        cdef char *rows = <char *> fr_aligned_alloc(
            self.batch * self.s.input_size * self.s.item)
        if rows == NULL:
            raise MemoryError(f"{self.name}: no memory for a batch of {self.batch}")
        self.below.owner = <void *> self
        self.below.stack = self.s
        self.below.one = &self.one
        self.below.busy = &self.busy
        if self.h_0 is not None:
            self.below.h_0 = np.PyArray_DATA(self.h_0)
        if self.c_0 is not None:
            self.below.c_0 = np.PyArray_DATA(self.c_0)
        self.below.rows = rows
        return 0

    cdef inline bint fits(self, object array, Py_ssize_t width) noexcept:
        """Whether `array` is C-contiguous (B, width), or (width,) unbatched, of the right type."""
        if self.batched:
            return is_matrix(array, self.typenum, self.batch, width)
        return is_plain(array, self.typenum, 1) and np.PyArray_DIMS(array)[0] == width

    def step(self, x, out=None):
        """One time step: x (B, I) to the last layer's h (B, P); without B if unbatched."""
        if not self.fits(x, self.s.input_size):
            x = self.accept(x)
        if out is None:
            out = np.PyArray_EMPTY(2 if self.batched else 1, &self.out_shape[not self.batched],
                                   self.typenum, 0)
        elif not self.fits(out, self.s.output_size) or not np.PyArray_ISWRITEABLE(out):
            refuse_out(self.name, out, self.dtype, self.shape(self.s.output_size))
        return self.advance(x, out)

    cdef object advance(self, x, out):
        """A step of arrays that fit."""
        cdef void *out_data
        cdef bint watched = is_watched(self.s, 1, self.batch)
        self.claim()
        if watched:
            return self.long_step(x, out)
        self.one.x = np.PyArray_DATA(x)
        out_data = np.PyArray_DATA(out)
        with nogil:
            fr_stack_run(self.s, &self.one)
            memcpy(out_data, self.last_h, self.out_bytes)
        fr_release(&self.busy)
        return out

    cdef object long_step(self, x, out):
        """A step that a signal's handler may end: h, c and out are then as they were."""
        try:
            self.stack.run(x.reshape(1, self.batch, self.s.input_size), self.h, self.c)
            out[...] = self.h[-1].reshape(out.shape)
        finally:
            fr_release(&self.busy)
        return out

    def run(self, x):
        """T steps: x (T, B, I) to y (T, B, P); without B if unbatched. T may be 0."""
        x = as_array(x, self.dtype, f"{self.name}: x")
        self.check_features(x, 3 if self.batched else 2)
        steps = x.shape[0]
        out = np.empty((steps, *self.shape(self.s.output_size)), self.dtype)
        self.claim()
        try:
            self.stack.run(x.reshape(steps, self.batch, self.s.input_size), self.h, self.c,
                           out.reshape(steps, self.batch, self.s.output_size))
        finally:
            fr_release(&self.busy)
        return out

    def get_state(self):
        """Copies of (h, c); c is None unless LSTM. (L, B, ...), or (L, ...) unbatched."""
        self.claim()
        try:
            return tuple(None if state is None else
                         (state if self.batched else state[:, 0]).copy()
                         for state in (self.h, self.c))
        finally:
            fr_release(&self.busy)

    def set_state(self, h, c):
        """Copy (h, c) in; both are checked before either is written."""
        h = self.accept_state(h, self.h, "state h")
        if self.c is not None:
            c = self.accept_state(c, self.c, "state c")
        self.claim()
        try:
            self.h[...] = h
            if self.c is not None:
                self.c[...] = c
        finally:
            fr_release(&self.busy)

    def reset(self, rows=None):
        """Let all rows, or `rows`, begin anew: an index, a sequence of them or a bool mask."""
        if rows is None:
            rows = slice(None)
        else:
            try:
                index = np.asarray(rows)
                if index.ndim == 0 and index.dtype.kind == "b":
                    raise IndexError("one bool for all rows")
                rows = np.arange(self.batch)[index]
            except (IndexError, ValueError) as error:
                raise IndexError(f"{self.name}: reset rows for a batch of {self.batch}: {error}"
                                 ) from None
        self.claim()
        try:
            self.h[:, rows] = 0 if self.h_0 is None else self.h_0[:, rows]
            if self.c is not None:
                self.c[:, rows] = 0 if self.c_0 is None else self.c_0[:, rows]
        finally:
            fr_release(&self.busy)

    cdef int claim(self) except -1:
        """Take the stream for one call, which ends in fr_release."""
        if not fr_claim(&self.busy):
            raise BusyError(f"{self.name}: in use by another thread")
        return 0

    cdef tuple shape(self, Py_ssize_t width):
        if self.batched:
            return (self.batch, width)
        return (width,)

    cdef object accept(self, object x):
        """`x` made to fit a step, or an error that says why it cannot."""
        x = as_array(x, self.dtype, f"{self.name}: x")
        self.check_features(x, 2 if self.batched else 1)
        return x

    cdef object check_features(self, object x, int ndim):
        """x must be (..., B, I), or (..., I) unbatched, with `ndim` dimensions."""
        lead = ("T, " if ndim == 3 else "") if self.batched else ("T, " if ndim == 2 else "")
        want = f"({lead}{f'{self.batch}, ' if self.batched else ''}{self.s.input_size})"
        if x.ndim != ndim:
            raise ValueError(f"{self.name}: x has {x.ndim} dimensions, expected {ndim}: {want} "
                             f"(x.shape={x.shape})")
        if self.batched and x.shape[-2] != self.batch:
            raise ValueError(f"{self.name}: x has {x.shape[-2]} rows, expected batch={self.batch} "
                             f"(x.shape={x.shape})")
        if x.shape[-1] != self.s.input_size:
            raise ValueError(f"{self.name}: x has {x.shape[-1]} features, expected "
                             f"input_size={self.s.input_size} (x.shape={x.shape})")

    cdef object accept_state(self, object value, object state, str which):
        what = f"{self.name}: {which}"
        if self.batched:
            return as_state(value, self.dtype, state.shape, what)
        value = as_array(value, self.dtype, what)
        shape = (state.shape[0], state.shape[2])
        if value.shape != shape:
            raise ValueError(f"{what} is {value.shape}, expected {shape}")
        return value.reshape(state.shape)


@cython.final
cdef class Bound:
    """A step from one array to another, called without arguments; it returns `out`.

    Parameters
    ----------
    stepper : Stepper
    x : array (B, I), out : array (B, P)
        As they are, nothing is converted; looked at anew in every call.
    """

    cdef Stepper stepper
    cdef object x, out

    def __cinit__(self, Stepper stepper not None, x, out):
        self.stepper = stepper
        self.x = x
        self.out = out
        self.check()

    cdef int check(self) except -1:
        cdef Stepper s = self.stepper
        if not s.fits(self.x, s.s.input_size):
            what = f"{self.x.dtype} {self.x.shape}" if np.PyArray_Check(self.x) else ""
            raise ValueError(f"{s.name}: bind: x is {type(self.x).__name__} {what}, expected a "
                             f"C-contiguous {s.dtype.name} array {s.shape(s.s.input_size)}")
        if not s.fits(self.out, s.s.output_size) or not np.PyArray_ISWRITEABLE(self.out):
            refuse_out(s.name, self.out, s.dtype, s.shape(s.s.output_size))
        return 0

    def __call__(self):
        self.check()
        return self.stepper.advance(self.x, self.out)


cdef fr_stream *stream_of(object stream) except NULL:
    stepper = getattr(stream, "_stepper", None)
    if type(stepper) is not Stepper:
        raise TypeError(f"fr_stream_of: stream is {type(stream).__name__}, expected what a layer's "
                        "stream() returns: whole models are stepped in Python")
    return (<Stepper> stepper).as_below()


cdef void release_below(fr_stream *stream) noexcept:
    Py_DECREF(<object> stream.owner)


# The part of fastrnn.h's table that is about streams; pool.pyx has the whole.
cdef fr_api TABLE
TABLE.stream_of = stream_of
TABLE.stream_release = release_below
TABLE.stream_size = capi_stream_size
TABLE.stream_step = capi_stream_step
TABLE.stream_get_state = capi_stream_get_state
TABLE.stream_set_state = capi_stream_set_state
TABLE.stream_reset = capi_stream_reset

STREAMS = PyCapsule_New(&TABLE, FR_STREAMS_CAPSULE, NULL)
