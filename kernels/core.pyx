# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
# cython: binding=False
# cython: freethreading_compatible=True
"""The boundary between Python and the engines: checks arrays, releases the GIL once per call.

`Stack` is the packed weights of all layers and directions of one model. What steps through it,
`Stepper` and `Pool`, has modules of its own, which get at the C side by `Stack.capsule`.

Shapes: T steps, B rows, I input_size, H hidden_size, L num_layers, D directions (1 or 2), and
P = proj_size where there is one, else H.
"""

cimport cython
cimport numpy as np
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from engine cimport (
    FR_ENGINE_CAPSULE, FR_FLOAT32, FR_FLOAT64, FR_GRU, FR_INT8, FR_INT16, FR_LSTM, FR_REAL, FR_RNN,
    fr_engine, fr_layer, fr_params, fr_run,
)
from libc.limits cimport INT_MAX
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from signals cimport fr_signals, fr_watch_signals, is_watched, raised
from stack cimport (
    FR_STACK_CAPSULE, fr_aligned_alloc, fr_stack, fr_stack_run, fr_stack_scratch_bytes,
)

import numpy as np

np.import_array()

CELLS = {"LSTM": FR_LSTM, "GRU": FR_GRU, "RNN": FR_RNN}
# By the dtype of the arrays: what is computed in, and how the engine is given weights.
WEIGHTS = {
    np.dtype(np.float32): (np.dtype(np.float32), FR_REAL),
    np.dtype(np.float64): (np.dtype(np.float64), FR_REAL),
    np.dtype(np.int8): (np.dtype(np.float32), FR_INT8),
    np.dtype(np.int16): (np.dtype(np.float32), FR_INT16),
}
# Of a layer and direction, in the order that Stack takes them.
PARAMETERS = ("w_ih", "w_hh", "b_ih", "b_hh", "w_hr", "scale_ih", "scale_hh", "scale_hr")


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


def as_state(value, dtype, tuple shape, str what):
    """`value` as a C-contiguous array (L, B, W) of `dtype`: one state for each row, or for all.

    Takes (L, B, W), and (L, W) or (L, 1, W), which stand for every row.

    Raises
    ------
    TypeError
        As as_array.
    ValueError
        For another shape.
    """
    array = as_array(value, dtype, what)
    layers, _, width = shape
    if array.shape == (layers, width):
        array = array[:, None]
    if array.shape == (layers, 1, width):
        array = np.ascontiguousarray(np.broadcast_to(array, shape))
    if array.shape != shape:
        raise ValueError(f"{what} is {array.shape}, expected {shape}, or {(layers, width)} for "
                         "every row")
    return array


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
    weights : sequence of L*D tuples (w_ih, w_hh, b_ih, b_hh, w_hr, scale_ih, scale_hh, scale_hr)
        In the order layer 0 forward, layer 0 reverse, layer 1 forward...; C-contiguous arrays of
        one dtype, float32 or float64: (G*H, I or D*P), (G*H, P), (G*H,), (G*H,), (P, H). The
        biases may be None (zeros), w_hr is None without projection. The w may also be int8, of at
        most 127 in magnitude, or int16, of at most 4095: then the rest is float32, and the scales
        (G*H,), (G*H,), (P,), otherwise None, are what a row is multiplied by. All are copied.
    bidirectional : bool
    reset_after : bool
        GRU: reset gate after the product (torch) or before it.
    relu : bool
        RNN: relu or tanh.
    threads : int
        At most so many for one run. SIMD engine only.
    """

    cdef fr_stack stack
    cdef readonly object dtype          # computed in
    cdef readonly object weight_dtype   # of the matrices
    cdef size_t gates
    cdef bint has_projection

    def __cinit__(self, engine, str cell, weights, *, bint bidirectional=False,
                  bint reset_after=True, bint relu=False, size_t threads=1):
        cdef const fr_engine *engine_ = <const fr_engine *> PyCapsule_GetPointer(
            engine, FR_ENGINE_CAPSULE)
        cdef size_t gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
        cdef fr_stack *s = &self.stack
        cdef fr_params params
        w_ih, w_hh, _, _, w_hr = weights[0][:5]
        self.weight_dtype = stored = w_ih.dtype
        if stored not in WEIGHTS:
            raise TypeError(f"weights are {stored}, expected float32, float64, int8 or int16")
        self.dtype, params.weights = WEIGHTS[stored]
        self.gates = gates
        self.has_projection = w_hr is not None
        s.item = self.dtype.itemsize
        s.directions = 2 if bidirectional else 1
        s.num_layers = len(weights) // s.directions
        s.input_size = w_ih.shape[1]
        s.hidden_size = w_hh.shape[0] // gates
        s.output_size = w_hh.shape[1]
        s.has_cell_state = cell == "LSTM"
        s.gate_width = gates * s.hidden_size
        params.cell = CELLS[cell]
        params.dtype = FR_FLOAT32 if s.item == 4 else FR_FLOAT64
        params.reset_after = reset_after
        params.relu = relu
        params.threads = threads
        if w_hr is None and s.output_size != s.hidden_size:
            raise ValueError(f"w_hh is {w_hh.shape}, expected {s.hidden_size} columns")
        if w_hr is not None and cell != "LSTM":
            raise ValueError(f"a {cell} has no projection, but w_hr is given")
        params.hidden_size = s.hidden_size
        params.proj_size = 0 if w_hr is None else s.output_size
        s.layers = <fr_layer **> fr_aligned_alloc(len(weights) * sizeof(fr_layer *))
        if s.layers == NULL:
            raise MemoryError
        memset(s.layers, 0, len(weights) * sizeof(fr_layer *))
        for index in range(s.num_layers * s.directions):
            self.point_to(&params, index, weights[index])
            s.layers[index] = engine_.pack(&params)
            if s.layers[index] == NULL:
                raise MemoryError(f"cannot pack {stored} weights {weights[index][0].shape}, "
                                  f"{weights[index][1].shape}: no memory, or not for engine "
                                  f"{engine_.name.decode()!r}")
            s.weights += s.layers[index].packed_bytes // stored.itemsize

    cdef object point_to(self, fr_params *params, size_t index, tuple arrays, bint write=False):
        """Check the arrays of a layer and direction, and let `params` point to them."""
        cdef const fr_stack *s = &self.stack
        w_ih, w_hh, b_ih, b_hh, w_hr = arrays[:5]
        stored, real = self.weight_dtype, self.dtype
        width = s.input_size if index < s.directions else s.directions * s.output_size
        rows = (s.gate_width,)
        params.input_size = width
        params.w_ih = data(w_ih, stored, (s.gate_width, width), "w_ih", write)
        params.w_hh = data(w_hh, stored, (s.gate_width, s.output_size), "w_hh", write)
        params.b_ih = NULL if b_ih is None else data(b_ih, real, rows, "b_ih", write)
        params.b_hh = NULL if b_hh is None else data(b_hh, real, rows, "b_hh", write)
        params.w_hr = NULL
        if self.has_projection:
            params.w_hr = data(w_hr, stored, (s.output_size, s.hidden_size), "w_hr", write)
        params.scale_ih = params.scale_hh = params.scale_hr = NULL
        if params.weights != FR_REAL:
            scale_ih, scale_hh, scale_hr = arrays[5:]
            params.scale_ih = <const float *> data(scale_ih, real, rows, "scale_ih", write)
            params.scale_hh = <const float *> data(scale_hh, real, rows, "scale_hh", write)
            if self.has_projection:
                params.scale_hr = <const float *> data(
                    scale_hr, real, (s.output_size,), "scale_hr", write)
        return None

    def unpack(self, size_t index):
        """Return what was packed for a layer and direction, as the constructor takes it.

        Biases that were None are zeros. For the SIMD engine.
        """
        cdef const fr_stack *s = &self.stack
        cdef fr_layer *layer
        cdef fr_params params
        if index >= s.num_layers * s.directions:
            raise IndexError(f"layer {index} of {s.num_layers * s.directions}")
        layer = s.layers[index]
        if layer.unpack == NULL:
            raise ValueError("the BLAS engine does not unpack")
        width = s.input_size if index < s.directions else s.directions * s.output_size
        shapes = [(s.gate_width, width), (s.gate_width, s.output_size), s.gate_width, s.gate_width,
                  (s.output_size, s.hidden_size), s.gate_width, s.gate_width, s.output_size]
        params.weights = WEIGHTS[self.weight_dtype][1]
        compact = params.weights != FR_REAL
        arrays = tuple(
            None if name.endswith("hr") and not self.has_projection
            or name.startswith("scale") and not compact
            else np.empty(shape, self.weight_dtype if name.startswith("w") else self.dtype)
            for name, shape in zip(PARAMETERS, shapes)
        )
        self.point_to(&params, index, arrays, write=True)
        layer.unpack(layer, &params)
        return arrays

    def __dealloc__(self):
        cdef fr_layer *layer
        cdef size_t index
        if self.stack.layers != NULL:
            for index in range(self.stack.num_layers * self.stack.directions):
                layer = self.stack.layers[index]
                if layer != NULL:
                    layer.destroy(layer)
            free(self.stack.layers)

    @property
    def num_layers(self):
        return self.stack.num_layers

    @property
    def directions(self):
        return self.stack.directions

    @property
    def input_size(self):
        return self.stack.input_size

    @property
    def hidden_size(self):
        return self.stack.hidden_size

    @property
    def output_size(self):
        return self.stack.output_size

    @property
    def has_cell_state(self):
        return bool(self.stack.has_cell_state)

    @property
    def capsule(self):
        """The fr_stack of stack.h, for the modules beside this one; lives as long as this."""
        return PyCapsule_New(&self.stack, FR_STACK_CAPSULE, NULL)

    @property
    def packed_bytes(self):
        """Bytes of packed weights: what one step reads."""
        cdef size_t index, total = 0
        for index in range(self.stack.num_layers * self.stack.directions):
            total += self.stack.layers[index].packed_bytes
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

        Raises
        ------
        What a signal's handler raises during a long run in the main thread: h and c are then as
        they were, y and gates are not.
        """
        cdef fr_run run
        cdef fr_signals signals
        cdef const fr_stack *s = &self.stack
        cdef size_t states = s.num_layers * s.directions
        if not isinstance(x, np.ndarray) or x.ndim != 3:
            raise ValueError("x must be an array (T, B, I)")
        T, B, _ = x.shape
        if B > INT_MAX:  # BLAS counts in int
            raise ValueError(f"x has {B} rows, expected at most {INT_MAX}")
        memset(&run, 0, sizeof(run))
        run.steps = T
        run.batch = B
        run.x = data(x, self.dtype, (T, B, s.input_size), "x")
        run.h = data(h, self.dtype, (states, B, s.output_size), "h", write=True)
        if s.has_cell_state:
            run.c = data(c, self.dtype, (states, B, s.hidden_size), "c", write=True)
        if y is not None:
            run.y = data(y, self.dtype, (T, B, s.directions * s.output_size), "y", write=True)
        if rows is not None:
            run.rows = <const ptrdiff_t *> data(rows, np.dtype(np.intp), (T,), "rows")
            if T and (rows[0] > B or rows[T - 1] < 0 or (rows[1:] > rows[:T - 1]).any()):
                raise ValueError(f"rows must fall from at most B={B} to at least 0")
        if gates is not None:
            if s.num_layers != 1:
                raise ValueError("gates are recorded one layer at a time")
            run.gates = data(gates, self.dtype, (s.directions, T, B, s.gate_width), "gates",
                             write=True)
        if T == 0 or B == 0:
            return
        run.scratch = fr_aligned_alloc(fr_stack_scratch_bytes(s, T, B))
        if run.scratch == NULL:
            raise MemoryError(f"no memory for {T} steps of {B} rows")
        if is_watched(s, T, B):
            run.watch = fr_watch_signals(&signals)
            before = [state.copy() for state in (h, c) if state is not None]
        with nogil:
            fr_stack_run(s, &run)
            free(run.scratch)
        if run.watch != NULL and run.watch.ended:
            memcpy(run.h, np.PyArray_DATA(before[0]), np.PyArray_NBYTES(before[0]))
            if run.c != NULL:
                memcpy(run.c, np.PyArray_DATA(before[1]), np.PyArray_NBYTES(before[1]))
            raised()
