"""The operators that a graph is made of: plain functions on arrays, in a table.

table.py         which function is which operator, from which version on; how one is entered
room.py          how much memory operators may claim
elements.py      element types
product.py       products with constant weights: the one place they all go through

elementwise.py   arithmetic, comparison, logic, casts
activations.py   activations, softmax
reduce.py        sums and their like along axes, ArgMax, TopK, CumSum
shape.py         Shape, Reshape, Transpose and their like
slicing.py       Slice, Gather, Concat, Split, Tile, scatters; pad.py: Pad
creating.py      Constant, ConstantOfShape, Range, OneHot
linear.py        MatMul, Gemm, Einsum
conv.py          Conv, ConvTranspose; windows.py: where windows lie
pool.py          pools
normalise.py     batch, layer, instance and group normalisation
quantise.py      quantised numbers and their products
recurrent.py     LSTM, GRU, RNN: cells.py in plain NumPy, packed.py in fastrnn's layers
"""

from fastrnn.models.ops import (  # noqa: F401 - each enters its operators into the table
    activations,
    conv,
    creating,
    elementwise,
    linear,
    normalise,
    packed,
    pad,
    pool,
    quantise,
    recurrent,
    reduce,
    shape,
    slicing,
)
