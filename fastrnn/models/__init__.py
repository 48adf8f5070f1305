"""Whole models from ONNX files.

graph.py       operators applied to named values, checked once; functions.py: calls written out
fold.py        what depends on constants alone is computed at load
plan.py        a flat list of steps; step.py: a node made into something to call
model.py       Model: what users call; inputs.py: checks of what they give
stacks.py      the recurrent nodes of a graph as layers
ops/           the operators, plain functions in a table

From a file to an answer: `formats.onnx.read` gives plain data; `graph.build` checks it and finds
each node's `Op` in `ops.table`; `fold.fold` leaves a smaller `Graph` of the same kind (with the
shapes of a run, one in which no Shape is read and no If is left); `Plan` binds each node to a
function of its inputs (`step.bind`: the operator with its attributes, or what the operator's
`prepare` made of constant weights) and runs them in order.
"""

from fastrnn.models.model import Model
from fastrnn.models.stacks import load_layer

__all__ = ["Model", "load_layer"]
