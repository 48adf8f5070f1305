"""Models without states, run along time: frames come, and frames that are complete are returned.

axes.py        which axes of the inputs are the batch and time
facts.py       the same of every value, by running two batches and two lengths
parts.py       what a rule answers; the table of rules
analysis.py    each node's rule asked, and why one cannot
schedule.py    which frames are where, in integers; phases.py: what that can come to
turn.py        the graph of one turn, in which what waits is inputs and outputs
unrolled.py    a model along time: turns made and kept
stream.py      `TimeStream`;  pool.py  `TimePool`

Rules, in files named as those of `ops`: elementwise.py (and all that is pointwise), activations.py,
reduce.py, shape.py, slicing.py, linear.py, conv.py (and pools), normalise.py, recurrent.py.
"""

from fastrnn.models.along_time import (  # noqa: F401 - each enters its rules into the table
    activations,
    conv,
    elementwise,
    linear,
    normalise,
    recurrent,
    reduce,
    shape,
    slicing,
)
