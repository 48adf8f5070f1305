# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
"""The boundary between Python and the engines: checks arrays, releases the GIL once per call.

`Stack` is the packed weights of all layers and directions of one model. `Stepper` is the state
of B streams through a unidirectional stack, with the scratch that a step needs; its step
allocates nothing but the result, and nothing at all with `out=`.

Shapes: T steps, B rows, I input_size, H hidden_size, L num_layers, D directions (1 or 2), and
P = proj_size where there is one, else H.
"""

cimport cython
cimport numpy as np
from cpython.pycapsule cimport PyCapsule_GetPointer
from engine cimport (
    FR_ENGINE_CAPSULE, FR_FLOAT32, FR_FLOAT64, FR_GRU, FR_LSTM, FR_RNN, fr_engine, fr_layer,
    fr_params, fr_run,
)
from libc.limits cimport INT_MAX
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import numpy as np

np.import_array()

cdef extern from *:
    """
    #include <stdlib.h>
    #include "fpmode.h"
    /* 64 bytes: a cache line, and the widest vector */
    static void *fr_aligned_alloc(size_t bytes)
    {
        void *block = NULL;
        return posix_memalign(&block, 64, bytes ? bytes : 1) ? NULL : block;
    }
    static int fr_claim(char *busy) { return !__atomic_test_and_set(busy, __ATOMIC_ACQUIRE); }
    static void fr_release(char *busy) { __atomic_clear(busy, __ATOMIC_RELEASE); }
    """
    ctypedef unsigned long fr_fpmode
    fr_fpmode fr_fpmode_enter() nogil
    void fr_fpmode_leave(fr_fpmode) nogil
    void *fr_aligned_alloc(size_t) nogil
    bint fr_claim(char *) nogil
    void fr_release(char *) nogil

CELLS = {"LSTM": FR_LSTM, "GRU": FR_GRU, "RNN": FR_RNN}


def as_array(value, dtype, str what):
    """`value` as a C-contiguous, aligned, native array of `dtype`; itself if it already is one.

    Takes bool, integer and real floating input of any layout.

    Raises
    ------
    TypeError
        For anything else: complex, strings, objects.
    """
    if type(value) is np.ndarray and value.dtype == dtype and np.PyArray_ISCARRAY_RO(value):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, tensors with a gradient
        raise TypeError(f"{what} is {type(value).__name__}, expected an array or what NumPy makes "
                        f"one of: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} has dtype {array.dtype}, expected a real number type such as "
                        f"{np.dtype(dtype).name}")
    return np.require(array, dtype, ("C", "A"))


cdef void *data(object array, object dtype, tuple shape, str what, bint write=False) except NULL:
    """The buffer of `array`, which must be just what the kernels read (or write)."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} is {type(array).__name__}, expected a numpy.ndarray")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{what} is {array.dtype.name} {array.shape}, expected "
                         f"{np.dtype(dtype).name} {shape}")
    if not (np.PyArray_ISCARRAY(array) if write else np.PyArray_ISCARRAY_RO(array)):
        more = " and writeable" if write else ""
        raise ValueError(f"{what} must be a C-contiguous, aligned{more} array")
    return np.PyArray_DATA(array)


@cython.final
cdef class Stack:
    """Packed weights of a stack of recurrent layers. Immutable: any number of threads may run it.

    Parameters
    ----------
    engine : PyCapsule
        The engine that packs and runs, such as `fastrnn._kernels.blas.ENGINE`.
    cell : {"LSTM", "GRU", "RNN"}
    weights : sequence of L*D tuples (w_ih, w_hh, b_ih, b_hh, w_hr)
        In the order layer 0 forward, layer 0 reverse, layer 1 forward...; C-contiguous arrays of
        one dtype, float32 or float64: (G*H, I or D*P), (G*H, P), (G*H,), (G*H,), (P, H). The
        biases may be None (zeros), w_hr is None without projection. They are copied.
    bidirectional : bool
    reset_after : bool
        GRU: reset gate after the product (torch) or before it.
    relu : bool
        RNN: relu or tanh.
    threads : int
        At most so many for one run. SIMD engine only.
    """

    cdef fr_layer **layers
    cdef readonly object dtype
    cdef readonly Py_ssize_t num_layers, directions, input_size, hidden_size, output_size
    cdef readonly bint has_cell_state
    cdef size_t item
    cdef Py_ssize_t gate_width

    def __cinit__(self, engine, str cell, weights, *, bint bidirectional=False,
                  bint reset_after=True, bint relu=False, size_t threads=1):
        cdef const fr_engine *engine_ = <const fr_engine *> PyCapsule_GetPointer(
            engine, FR_ENGINE_CAPSULE)
        cdef Py_ssize_t gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
        cdef fr_params params
        w_ih, w_hh, _, _, w_hr = weights[0]
        self.dtype = w_ih.dtype
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"weights are {self.dtype}, expected float32 or float64")
        self.item = self.dtype.itemsize
        self.directions = 2 if bidirectional else 1
        self.num_layers = len(weights) // self.directions
        self.input_size = w_ih.shape[1]
        self.hidden_size = w_hh.shape[0] // gates
        self.output_size = w_hh.shape[1]
        self.has_cell_state = cell == "LSTM"
        self.gate_width = gates * self.hidden_size
        params.cell = CELLS[cell]
        params.dtype = FR_FLOAT32 if self.item == 4 else FR_FLOAT64
        params.reset_after = reset_after
        params.relu = relu
        params.threads = threads
        if w_hr is None and self.output_size != self.hidden_size:
            raise ValueError(f"w_hh is {w_hh.shape}, expected {self.hidden_size} columns")
        if w_hr is not None and cell != "LSTM":
            raise ValueError(f"a {cell} has no projection, but w_hr is given")
        params.hidden_size = self.hidden_size
        params.proj_size = 0 if w_hr is None else self.output_size
        self.layers = <fr_layer **> fr_aligned_alloc(len(weights) * sizeof(fr_layer *))
        if self.layers == NULL:
            raise MemoryError
        memset(self.layers, 0, len(weights) * sizeof(fr_layer *))
        for index in range(self.num_layers * self.directions):
            w_ih, w_hh, b_ih, b_hh, w_hr = weights[index]
            width = (self.input_size if index < self.directions
                     else self.directions * self.output_size)
            params.input_size = width
            params.w_ih = data(w_ih, self.dtype, (self.gate_width, width), "w_ih")
            params.w_hh = data(w_hh, self.dtype, (self.gate_width, self.output_size), "w_hh")
            params.b_ih = NULL if b_ih is None else data(
                b_ih, self.dtype, (self.gate_width,), "b_ih")
            params.b_hh = NULL if b_hh is None else data(
                b_hh, self.dtype, (self.gate_width,), "b_hh")
            params.w_hr = NULL if params.proj_size == 0 else data(
                w_hr, self.dtype, (self.output_size, self.hidden_size), "w_hr")
            self.layers[index] = engine_.pack(&params)
            if self.layers[index] == NULL:
                raise MemoryError(f"cannot pack {self.dtype} weights {w_ih.shape}, {w_hh.shape}: "
                                  f"no memory, or not for engine {engine_.name.decode()!r}")

    def __dealloc__(self):
        cdef Py_ssize_t index
        if self.layers != NULL:
            for index in range(self.num_layers * self.directions):
                if self.layers[index] != NULL:
                    self.layers[index].destroy(self.layers[index])
            free(self.layers)

    @property
    def packed_bytes(self):
        """Bytes of packed weights: what one step reads."""
        cdef Py_ssize_t index
        cdef size_t total = 0
        for index in range(self.num_layers * self.directions):
            total += self.layers[index].packed_bytes
        return total

    def run(self, x, h, c=None, y=None, rows=None, gates=None):
        """Run T steps of B rows; the state arrays are advanced in place.

        Parameters
        ----------
        x : (T, B, I)
        h : (L*D, B, P), in and out
        c : (L*D, B, H), in and out; LSTM only
        y : (T, B, D*P), out, optional
            Rows past their own end are left as they are.
        rows : (T,) intp, non-increasing, optional
            Rows [0, rows[t]) live at step t.
        gates : (D, T, B, G*H), out, optional
            Activated gates in torch's order. One-layer stacks of the BLAS engine only.
        """
        cdef fr_run run
        cdef void *scratch
        cdef fr_fpmode caller
        cdef Py_ssize_t states = self.num_layers * self.directions
        if not isinstance(x, np.ndarray) or x.ndim != 3:
            raise ValueError("x must be an array (T, B, I)")
        T, B, _ = x.shape
        if B > INT_MAX:  # BLAS counts in int
            raise ValueError(f"x has {B} rows, expected at most {INT_MAX}")
        run.steps = T
        run.batch = B
        run.x = data(x, self.dtype, (T, B, self.input_size), "x")
        run.h = data(h, self.dtype, (states, B, self.output_size), "h", write=True)
        run.c = NULL
        if self.has_cell_state:
            run.c = data(c, self.dtype, (states, B, self.hidden_size), "c", write=True)
        run.y = NULL if y is None else data(
            y, self.dtype, (T, B, self.directions * self.output_size), "y", write=True)
        run.rows = NULL
        if rows is not None:
            run.rows = <const ptrdiff_t *> data(rows, np.dtype(np.intp), (T,), "rows")
            if T and (rows[0] > B or rows[T - 1] < 0 or (rows[1:] > rows[:T - 1]).any()):
                raise ValueError(f"rows must fall from at most B={B} to at least 0")
        run.gates = NULL
        if gates is not None:
            if self.num_layers != 1:
                raise ValueError("gates are recorded one layer at a time")
            run.gates = data(gates, self.dtype, (self.directions, T, B, self.gate_width), "gates",
                             write=True)
        if T == 0 or B == 0:
            return
        scratch = fr_aligned_alloc(self.scratch_bytes(T, B))
        if scratch == NULL:
            raise MemoryError(f"no memory for {T} steps of {B} rows")
        run.scratch = scratch
        with nogil:
            caller = fr_fpmode_enter()
            self.forward(&run)
            fr_fpmode_leave(caller)
            free(scratch)

    cdef size_t between_bytes(self, size_t T, size_t B) noexcept nogil:
        """One buffer between layers: (T, B, D*P), rounded up to whole cache lines."""
        return (T * B * self.directions * self.output_size * self.item + 63) & ~<size_t> 63

    cdef size_t scratch_bytes(self, size_t T, size_t B) noexcept nogil:
        """Two buffers between layers, then what the hungriest layer asks for."""
        cdef size_t most = 0, need
        cdef Py_ssize_t index
        for index in range(self.num_layers * self.directions):
            need = self.layers[index].scratch_bytes(self.layers[index], T, B)
            most = need if need > most else most
        if self.num_layers > 1:
            most += 2 * self.between_bytes(T, B)
        return most

    cdef void forward(self, const fr_run *whole) noexcept nogil:
        """Every layer and direction over all steps; `whole` is the run of the stack, y and all."""
        cdef fr_run run = whole[0]
        cdef Py_ssize_t index, layer, direction
        cdef size_t between = self.between_bytes(run.steps, run.batch) if self.num_layers > 1 else 0
        cdef char *scratch = <char *> whole.scratch
        cdef char *out
        run.scratch = scratch + 2 * between
        run.y_stride = self.directions * self.output_size
        for layer in range(self.num_layers):
            out = (<char *> whole.y if layer == self.num_layers - 1
                   else scratch + (layer & 1) * between)
            for direction in range(self.directions):
                index = layer * self.directions + direction
                run.reverse = direction
                run.h = <char *> whole.h + index * run.batch * self.output_size * self.item
                if whole.c != NULL:
                    run.c = <char *> whole.c + index * run.batch * self.hidden_size * self.item
                if whole.gates != NULL:
                    run.gates = (<char *> whole.gates + direction * run.steps * run.batch
                                 * self.gate_width * self.item)
                run.y = NULL if out == NULL else out + direction * self.output_size * self.item
                self.layers[index].run(self.layers[index], &run)
            run.x = out


@cython.final
cdef class Stepper:
    """State and scratch of B streams through a unidirectional stack.

    Belongs to one thread at a time: a call that meets another in progress raises RuntimeError.

    Parameters
    ----------
    stack : Stack
    name : str
        Begins every error message.
    batch : int or None
        B >= 1. None: one stream, whose arrays have no batch dimension.
    """

    cdef readonly Stack stack
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

    def __cinit__(self, Stack stack not None, str name not None, batch):
        if stack.directions != 1:
            raise ValueError(f"{name}: a bidirectional layer cannot stream: its reverse direction "
                             "starts at the end of the sequence")
        if batch is not None and batch > INT_MAX:  # BLAS counts in int
            raise ValueError(f"{name}: batch={batch}, expected at most {INT_MAX}")
        self.stack = stack
        self.name = name
        self.batched = batch is not None
        self.batch = batch if self.batched else 1
        self.h = np.zeros((stack.num_layers, self.batch, stack.output_size), stack.dtype)
        self.one.h = np.PyArray_DATA(self.h)
        if stack.has_cell_state:
            self.c = np.zeros((stack.num_layers, self.batch, stack.hidden_size), stack.dtype)
            self.one.c = np.PyArray_DATA(self.c)
        self.one.steps = 1
        self.one.batch = self.batch
        self.one.scratch = fr_aligned_alloc(stack.scratch_bytes(1, self.batch))
        if self.one.scratch == NULL:
            raise MemoryError(f"{name}: no memory for a batch of {self.batch}")
        self.typenum = np.NPY_FLOAT if stack.item == 4 else np.NPY_DOUBLE
        self.out_shape[0] = self.batch
        self.out_shape[1] = stack.output_size
        self.out_bytes = self.batch * stack.output_size * stack.item
        self.last_h = <const char *> self.one.h + (stack.num_layers - 1) * self.out_bytes

    def __dealloc__(self):
        free(self.one.scratch)

    cdef inline bint fits(self, object array, Py_ssize_t width) noexcept:
        """Whether `array` is C-contiguous (B, width), or (width,) unbatched, of the right type."""
        cdef const np.npy_intp *shape
        if not np.PyArray_CheckExact(array):
            return False
        if np.PyArray_TYPE(array) != self.typenum or not np.PyArray_ISCARRAY_RO(array):
            return False
        shape = np.PyArray_DIMS(array)
        if self.batched:
            return np.PyArray_NDIM(array) == 2 and shape[0] == self.batch and shape[1] == width
        return np.PyArray_NDIM(array) == 1 and shape[0] == width

    def step(self, x, out=None):
        """One time step: x (B, I) to the last layer's h (B, P); without B if unbatched."""
        cdef fr_fpmode caller
        cdef void *out_data
        if not self.fits(x, self.stack.input_size):
            x = self.accept(x)
        if out is None:
            out = np.PyArray_EMPTY(2 if self.batched else 1, &self.out_shape[not self.batched],
                                   self.typenum, 0)
        elif not self.fits(out, self.stack.output_size) or not np.PyArray_ISWRITEABLE(out):
            self.refuse_out(out, self.shape(self.stack.output_size))
        self.claim()
        self.one.x = np.PyArray_DATA(x)
        out_data = np.PyArray_DATA(out)
        with nogil:
            caller = fr_fpmode_enter()
            self.stack.forward(&self.one)
            fr_fpmode_leave(caller)
            memcpy(out_data, self.last_h, self.out_bytes)
        fr_release(&self.busy)
        return out

    def run(self, x):
        """T steps: x (T, B, I) to y (T, B, P); without B if unbatched. T may be 0."""
        x = as_array(x, self.stack.dtype, f"{self.name}: x")
        self.check_features(x, 3 if self.batched else 2)
        steps = x.shape[0]
        out = np.empty((steps, *self.shape(self.stack.output_size)), self.stack.dtype)
        self.claim()
        try:
            self.stack.run(x.reshape(steps, self.batch, self.stack.input_size), self.h, self.c,
                           out.reshape(steps, self.batch, self.stack.output_size))
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
        h = self.accept_state(h, self.h, "h")
        if self.c is not None:
            c = self.accept_state(c, self.c, "c")
        self.claim()
        try:
            self.h[...] = h
            if self.c is not None:
                self.c[...] = c
        finally:
            fr_release(&self.busy)

    def reset(self, rows=None):
        """Zero the state of all rows, or of `rows`: an index, a sequence of them or a bool mask."""
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
            self.h[:, rows] = 0
            if self.c is not None:
                self.c[:, rows] = 0
        finally:
            fr_release(&self.busy)

    cdef int claim(self) except -1:
        """Take the stream for one call, which ends in fr_release."""
        if not fr_claim(&self.busy):
            raise RuntimeError(f"{self.name}: in use by another thread")
        return 0

    cdef tuple shape(self, Py_ssize_t width):
        if self.batched:
            return (self.batch, width)
        return (width,)

    cdef object accept(self, object x):
        """`x` made to fit a step, or an error that says why it cannot."""
        x = as_array(x, self.stack.dtype, f"{self.name}: x")
        self.check_features(x, 2 if self.batched else 1)
        return x

    cdef object check_features(self, object x, int ndim):
        """x must be (..., B, I), or (..., I) unbatched, with `ndim` dimensions."""
        lead = ("T, " if ndim == 3 else "") if self.batched else ("T, " if ndim == 2 else "")
        want = f"({lead}{f'{self.batch}, ' if self.batched else ''}{self.stack.input_size})"
        if x.ndim != ndim:
            raise ValueError(f"{self.name}: x has {x.ndim} dimensions, expected {ndim}: {want} "
                             f"(x.shape={x.shape})")
        if self.batched and x.shape[-2] != self.batch:
            raise ValueError(f"{self.name}: x has {x.shape[-2]} rows, expected batch={self.batch} "
                             f"(x.shape={x.shape})")
        if x.shape[-1] != self.stack.input_size:
            raise ValueError(f"{self.name}: x has {x.shape[-1]} features, expected "
                             f"input_size={self.stack.input_size} (x.shape={x.shape})")

    cdef object refuse_out(self, object out, tuple shape):
        what = type(out).__name__
        if isinstance(out, np.ndarray):
            what = f"{what if type(out) is not np.ndarray else ''} {out.dtype} {out.shape}".strip()
        raise ValueError(f"{self.name}: out is {what}, expected a writeable C-contiguous "
                         f"{self.stack.dtype.name} array {shape}")

    cdef object accept_state(self, object value, object state, str which):
        value = as_array(value, self.stack.dtype, f"{self.name}: state {which}")
        shape = state.shape if self.batched else (state.shape[0], state.shape[2])
        if value.shape != shape:
            raise ValueError(f"{self.name}: state {which} is {value.shape}, expected {shape}")
        return value.reshape(state.shape)
