"""Whole models from ONNX files.

graph.py       operators applied to named values, checked once; functions.py: calls written out
fold.py        what depends on constants alone is computed at load
fuse.py        nodes that belong together become one
plan.py        a flat list of steps; step.py: a node made into something to call
model.py       Model: what users call; inputs.py: checks of what they give; fingerprint.py
bound.py       the same for one set of shapes, over arrays that stay where they are
probe.py       shapes, found out by a run
stacks.py      the recurrent nodes of a graph as layers; summary.py: what a file holds, in words
ops/           the operators, plain functions in a table

From a file to an answer: `formats.onnx.read` gives plain data; `graph.build` checks it and finds
each node's `Op` in `ops.table`; `fold.fold` leaves a smaller `Graph` of the same kind; `fuse.fuse`
joins what belongs together. From there on, everything starts with that graph: with the shapes of a
run, `fold` leaves one in which no Shape is read and no If is left; `Plan` binds each node to a
function of its inputs (`step.Binder`: the operator with its attributes, or what the operator's
`prepare` made of constant weights) and runs them in order. A run of known shapes goes through
`Bound`: views are looked up once, and every other node is a few calls without arguments that write
to the arrays it owns (an operator's `over`, a ufunc's `out`, or the function and a copy).
"""

from fastrnn.models.model import Model
from fastrnn.models.stacks import Found, load_layer
from fastrnn.models.summary import Summary, summary

__all__ = ["Found", "Model", "Summary", "load_layer", "summary"]
