# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
# cython: binding=False
# cython: freethreading_compatible=True
"""`Product`: a linear layer y = x W^T + b on the SIMD engine's tiles.

Shapes: M rows, K inputs, N outputs.
"""

cimport cython
cimport numpy as np
from cpython.pycapsule cimport PyCapsule_GetPointer
from engine cimport (
    FR_ENGINE_CAPSULE, FR_ERF, FR_GELU, FR_SIGMOID, FR_TANH, fr_activation, fr_engine, fr_product,
    fr_product_params, fr_weights)
from libc.stdlib cimport free
from stack cimport fr_aligned_alloc

import math

import numpy as np

from fastrnn._kernels.core import WEIGHTS, as_array
from fastrnn._kernels.simd import ENGINES

np.import_array()

cdef extern from "fpmode.h" nogil:
    ctypedef struct fr_fpmode:
        pass
    fr_fpmode fr_fpmode_enter()
    void fr_fpmode_leave(fr_fpmode)

cdef extern from "rows.h" nogil:
    void fr_reduce_rows(int what, const float *x, size_t rows, size_t n, float *out)

cdef extern from "windows.h" nogil:
    ctypedef struct fr_axes:
        pass
    const size_t FR_TOGETHER
    bint fr_axes_add(fr_axes *axes, size_t length, size_t stride)
    void fr_gather(const fr_axes *outer, const fr_axes *inner, const float *from_, size_t first,
                   size_t rows, float *to)
    void fr_relu(float *x, size_t count)

ACTIVATIONS = {"sigmoid": FR_SIGMOID, "tanh": FR_TANH, "erf": FR_ERF, "gelu": FR_GELU}
REDUCTIONS = {"sum": 0, "max": 1, "min": -1}


@cython.final
cdef class Product:
    """Packed weights of a linear layer. Immutable: any number of threads may run it.

    A row of the result has the same bits whatever the other rows are, however many, wherever it
    stands, and whatever `threads` is. Denormals count as zeros.

    Parameters
    ----------
    isa : str
        An instruction set of `fastrnn._kernels.simd.ENGINES`.
    weight : array (N, K)
        Copied. int8, of at most 127 in magnitude, and int16, of at most 4095, are multiplied as
        they are, each row then by its scale; anything else is converted to float32.
    bias : array (N,) or None
    threads : int
        At most so many for one run.
    scale : array (N,) or None
        For int8 and int16, else None.

    Raises
    ------
    ValueError
        For an unknown ISA, or shapes that do not fit or are empty.
    TypeError
        For arrays that are not of real numbers.
    MemoryError
    """

    cdef fr_product *product
    cdef readonly Py_ssize_t inputs     # K
    cdef readonly Py_ssize_t outputs    # N

    def __cinit__(self, str isa not None, weight, bias=None, size_t threads=1, scale=None):
        cdef const fr_engine *engine = engine_of(isa)
        cdef fr_product_params params
        compact = getattr(weight, "dtype", None) in (np.int8, np.int16)
        if compact != (scale is not None):
            raise ValueError("Product: weights of int8 or int16 have a scale, others have none")
        weight = as_array(weight, weight.dtype if compact else np.float32, "Product: weight")
        if weight.ndim != 2 or weight.size == 0:
            raise ValueError(f"Product: weight is {weight.shape}, expected (N, K), none of them 0")
        self.outputs, self.inputs = weight.shape
        bias, scale = self.per_output(bias, "bias"), self.per_output(scale, "scale")
        params.depth = self.inputs
        params.units = self.outputs
        params.threads = threads
        params.weights = <fr_weights> <int> WEIGHTS[weight.dtype][1]
        params.w = np.PyArray_DATA(weight)
        params.scale = params.bias = NULL
        if scale is not None:
            params.scale = <const float *> np.PyArray_DATA(scale)
        if bias is not None:
            params.bias = <const float *> np.PyArray_DATA(bias)
        self.product = engine.pack_product(&params)
        if self.product == NULL:
            raise MemoryError(f"Product: no memory for weights {weight.shape}")

    cdef object per_output(self, value, str what):
        if value is None:
            return None
        array = as_array(value, np.float32, f"Product: {what}")
        if array.shape != (self.outputs,):
            raise ValueError(f"Product: {what} is {array.shape}, expected ({self.outputs},)")
        return array

    def __dealloc__(self):
        if self.product != NULL:
            self.product.destroy(self.product)

    @property
    def packed_bytes(self):
        """Bytes of packed weights: what one run reads at least."""
        return self.product.packed_bytes

    def run(self, x, out=None):
        """y = x W^T + b.

        Parameters
        ----------
        x : float32 array (M, K)
            The numbers of a row stand one after another; rows may stand at any distance, and
            overlap, as the windows of a convolution do.
        out : float32 array (M, N), C-contiguous, optional
            Written to and returned; must not overlap x.

        Raises
        ------
        ValueError
            For an array that does not fit.
        """
        cdef size_t rows, stride
        cdef void *scratch
        cdef const float *from_
        cdef float *to
        stride = self.checked(x)
        shape = (x.shape[0], self.outputs)
        if out is None:
            out = np.empty(shape, np.float32)
        else:
            self.check_out(x, out, shape)
        rows = x.shape[0]
        if rows == 0:
            return out
        scratch = fr_aligned_alloc(self.product.scratch_bytes(self.product, rows))
        if scratch == NULL:
            raise MemoryError(f"Product: no memory for {rows} rows")
        from_, to = <const float *> np.PyArray_DATA(x), <float *> np.PyArray_DATA(out)
        with nogil:
            compute(self.product, from_, stride, rows, to, scratch)
        free(scratch)
        return out

    def over(self, x, out, Py_ssize_t axes=1):
        """A function without arguments that computes `out` from x, arrays that stay where they are:
        it checks and allocates nothing. One thread at a time may call it.

        Parameters
        ----------
        x : float32 array (M, K) as `run` takes it, or windows of any strides
            Its last `axes` axes have K elements, the others M.
        """
        cdef Over over = Over.__new__(Over)
        cdef size_t rows, most
        if isinstance(x, np.ndarray) and (axes != 1 or x.ndim != 2
                                          or x.strides[1] != sizeof(float)):
            rows = self.take_windows(over, x, axes)
        else:
            over.stride = self.checked(x)
            rows = x.shape[0]
        self.check_out(x, out, (rows, self.outputs))
        over.owner, over.x, over.out = self, x, out
        over.product, over.rows = self.product, rows
        over.from_, over.to = <const float *> np.PyArray_DATA(x), <float *> np.PyArray_DATA(out)
        over.outputs, over.inputs = self.outputs, self.inputs
        most = min(rows, FR_TOGETHER) if over.gathers else rows
        over.scratch = fr_aligned_alloc(self.product.scratch_bytes(self.product, most or 1))
        if over.gathers:
            over.gathered = <float *> fr_aligned_alloc((most or 1) * self.inputs * sizeof(float))
        if over.scratch == NULL or (over.gathers and over.gathered == NULL):
            raise MemoryError(f"Product: no memory for {rows} rows")
        return over

    cdef size_t take_windows(self, Over over, object x, Py_ssize_t axes) except? 0:
        """How many windows there are; ValueError if they do not fit."""
        cdef fr_axes *part
        count = x.ndim - axes
        if (x.dtype != np.float32 or not x.flags.aligned or axes < 1 or count < 0
                or math.prod(x.shape[count:]) != self.inputs
                or min(x.strides, default=0) < 0 or any(s % sizeof(float) for s in x.strides)):
            raise ValueError(f"Product: x is {described(x)} of strides {x.strides}, expected "
                             f"float32 windows of {self.inputs}")
        over.gathers = True
        for axis in range(x.ndim):
            part = &over.outer if axis < count else &over.inner
            if not fr_axes_add(part, x.shape[axis], x.strides[axis] // sizeof(float)):
                raise ValueError(f"Product: x has too many axes: {x.shape}")
        return math.prod(x.shape[:count])

    cdef size_t checked(self, object x) except? 0:
        """How many floats apart the rows of x are; ValueError if it does not fit."""
        if (not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != self.inputs
                or x.dtype != np.float32):
            raise ValueError(f"Product: x is {described(x)}, expected float32 (M, {self.inputs})")
        if not x.flags.aligned or x.size and (
                (self.inputs > 1 and x.strides[1] != sizeof(float))
                or (x.shape[0] > 1 and (x.strides[0] < 0 or x.strides[0] % sizeof(float)))):
            raise ValueError(
                f"Product: x has strides {x.strides}, expected rows of adjacent floats")
        return x.strides[0] // sizeof(float) if x.shape[0] > 1 else 0

    cdef object check_out(self, object x, object out, tuple shape):
        if (not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != np.float32
                or not out.flags.carray):
            raise ValueError(f"Product: out is {described(out)}, expected a writeable "
                             f"C-contiguous float32 array {shape}")
        if np.may_share_memory(x, out):
            raise ValueError("Product: out overlaps x")


@cython.final
cdef class Over:
    """A product of arrays that stay where they are; made by `Product.over`."""

    cdef object owner, x, out       # kept alive
    cdef fr_product *product
    cdef const float *from_
    cdef float *to
    cdef void *scratch
    cdef float *gathered
    cdef fr_axes outer, inner       # of windows
    cdef size_t stride, rows, inputs, outputs
    cdef bint gathers
    cdef public bint relu           # whether what is negative becomes 0

    def __dealloc__(self):
        free(self.scratch)
        free(self.gathered)

    def __call__(self):
        """Compute."""
        cdef size_t row = 0, rows
        if not self.rows:
            return
        if not self.gathers:
            with nogil:
                compute(self.product, self.from_, self.stride, self.rows, self.to, self.scratch)
                if self.relu:
                    fr_relu(self.to, self.rows * self.outputs)
            return
        with nogil:
            while row < self.rows:
                rows = min(self.rows - row, FR_TOGETHER)
                fr_gather(&self.outer, &self.inner, self.from_, row, rows, self.gathered)
                compute(self.product, self.gathered, self.inputs, rows,
                        self.to + row * self.outputs, self.scratch)
                if self.relu:
                    fr_relu(self.to + row * self.outputs, rows * self.outputs)
                row += rows


@cython.final
cdef class Activation:
    """A function of the elements of an array; made by `activation_over`."""

    cdef object x, out              # kept alive
    cdef void (*run)(fr_activation, const float *, float *, size_t) noexcept nogil
    cdef fr_activation kind
    cdef const float *from_
    cdef float *to
    cdef size_t count

    def __call__(self):
        """Compute."""
        if self.count < 4096:   # too short for others to gain from
            self.run(self.kind, self.from_, self.to, self.count)
            return
        with nogil:
            self.run(self.kind, self.from_, self.to, self.count)


@cython.final
cdef class Reduction:
    """A number of each row of an array; made by `rows_over`."""

    cdef object x, out              # kept alive
    cdef int what
    cdef const float *from_
    cdef float *to
    cdef size_t rows, length

    def __call__(self):
        """Compute."""
        with nogil:
            fr_reduce_rows(self.what, self.from_, self.rows, self.length, self.to)


def activation_over(str isa not None, str name not None, x, out):
    """A function without arguments that computes `out` from x, arrays that stay where they are.

    Parameters
    ----------
    isa : str
        As of `Product`.
    name : {"sigmoid", "tanh", "erf", "gelu"}
    x, out : float32 arrays of one shape and the same strides, without gaps
        They may be one array, but not overlap otherwise. An element has the same bits wherever it
        stands.
    """
    cdef Activation over = Activation.__new__(Activation)
    if name not in ACTIVATIONS:
        raise ValueError(f"name={name!r}, expected one of " + ", ".join(map(repr, ACTIVATIONS)))
    for array in (x, out):
        if (not isinstance(x, np.ndarray) or not isinstance(array, np.ndarray)
                or array.dtype != np.float32
                or not array.flags.aligned or array.shape != x.shape or array.strides != x.strides
                or not is_dense(array)):
            raise ValueError(f"activation_over: an array is {described(array)}, expected float32 "
                             "without gaps, both alike")
    if not out.flags.writeable:
        raise ValueError("activation_over: out cannot be written to")
    over.x, over.out = x, out
    over.run = engine_of(isa).activate
    over.kind = <fr_activation> <int> ACTIVATIONS[name]
    over.from_, over.to = <const float *> np.PyArray_DATA(x), <float *> np.PyArray_DATA(out)
    over.count = x.size
    return over


def rows_over(str name not None, x, out):
    """A function without arguments that computes `out` from x, arrays that stay where they are.

    Parameters
    ----------
    name : {"sum", "max", "min"}
        Of each row. A sum has the same bits for the same numbers in their order, wherever they
        stand, on every CPU.
    x : float32 array (M, K), C-contiguous, K >= 1
    out : float32 array (M,), C-contiguous; must not overlap x
    """
    cdef Reduction over = Reduction.__new__(Reduction)
    if name not in REDUCTIONS:
        raise ValueError(f"name={name!r}, expected one of " + ", ".join(map(repr, REDUCTIONS)))
    if (not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype != np.float32 or x.shape[1] == 0
            or not x.flags.c_contiguous or not x.flags.aligned):
        raise ValueError(f"rows_over: x is {described(x)}, expected C-contiguous float32 (M, K)")
    if (not isinstance(out, np.ndarray) or out.shape != x.shape[:1] or out.dtype != np.float32
            or not out.flags.carray or np.may_share_memory(x, out)):
        raise ValueError(f"rows_over: out is {described(out)}, expected a writeable float32 array "
                         f"{x.shape[:1]} that is no part of x")
    over.x, over.out, over.what = x, out, REDUCTIONS[name]
    over.from_, over.to = <const float *> np.PyArray_DATA(x), <float *> np.PyArray_DATA(out)
    over.rows, over.length = x.shape
    return over


def is_dense(x):
    """Whether an array's elements fill its memory from where it begins, in any order of axes."""
    size = x.itemsize
    for stride, length in sorted(zip(x.strides, x.shape)):
        if length > 1:
            if stride != size:
                return False
            size *= length
    return True


cdef const fr_engine *engine_of(str isa) except NULL:
    if isa not in ENGINES:
        raise ValueError(f"isa={isa!r}, expected one of " + ", ".join(map(repr, ENGINES)))
    return <const fr_engine *> PyCapsule_GetPointer(ENGINES[isa], FR_ENGINE_CAPSULE)


cdef void compute(fr_product *product, const float *from_, size_t stride, size_t rows, float *to,
                  void *scratch) noexcept nogil:
    """The product, without denormals."""
    cdef fr_fpmode caller = fr_fpmode_enter()
    product.run(product, from_, stride, rows, to, scratch)
    fr_fpmode_leave(caller)


cdef str described(array):
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    return f"{array.dtype} {array.shape}"
