"""What stepper.pyx and pool.pyx ask of stacks and arrays: inline, not imported at run time."""

cimport numpy as np
from cpython.pycapsule cimport PyCapsule_GetPointer
from stack cimport FR_STACK_CAPSULE, fr_stack


cdef inline const fr_stack *unidirectional(object stack, str name) except NULL:
    """The C side of a Stack that can be stepped. Whoever keeps it keeps the Stack."""
    cdef const fr_stack *s = <const fr_stack *> PyCapsule_GetPointer(
        stack.capsule, FR_STACK_CAPSULE)
    if s.directions != 1:
        raise ValueError(f"{name}: a bidirectional layer cannot stream: its reverse direction "
                         "starts at the end of the sequence")
    return s


cdef inline int typenum_of(const fr_stack *s) noexcept:
    return np.NPY_FLOAT if s.item == 4 else np.NPY_DOUBLE


cdef inline bint is_plain(object array, int typenum, int ndim) noexcept:
    """Whether it is a C-contiguous, aligned, native ndarray of this type and ndim, no subclass."""
    return (np.PyArray_CheckExact(array) and np.PyArray_TYPE(array) == typenum
            and np.PyArray_ISCARRAY_RO(array) and np.PyArray_NDIM(array) == ndim)


cdef inline bint is_matrix(object array, int typenum, Py_ssize_t rows, Py_ssize_t width) noexcept:
    """Whether it is plain and (rows, width)."""
    return (is_plain(array, typenum, 2) and np.PyArray_DIMS(array)[0] == rows
            and np.PyArray_DIMS(array)[1] == width)


cdef inline object refuse_out(str name, object out, object dtype, tuple shape):
    what = type(out).__name__
    if np.PyArray_Check(out):
        what = f"{what if not np.PyArray_CheckExact(out) else ''} {out.dtype} {out.shape}".strip()
    raise ValueError(f"{name}: out is {what}, expected a writeable C-contiguous "
                     f"{dtype.name} array {shape}")
