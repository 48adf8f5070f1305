"""A node made into something to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.models.graph import Node
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array

# What an operator raises where inputs do not fit it.
FAULTS = (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError)


def bind(
    node: Node, constants: Mapping[str, Array], options: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function of the node's inputs: with its attributes, prepared where that is possible.

    Parameters
    ----------
    constants : arrays by name
        Inputs that are among them are the same in each call.
    options : how recurrent layers compute: engine, isa, threads
    """
    assert node.op is not None
    keywords = dict(node.attributes)
    if node.op.counts_outputs:
        keywords["outputs"] = len(node.outputs)
    if node.op.prepare is not None:
        known = tuple(constants.get(name) for name in node.inputs)
        prepared = node.op.prepare(known, dict(options), **keywords)
        if prepared is not None:
            return prepared  # type: ignore[no-any-return]
    return partial(node.op.function, **keywords) if keywords else node.op.function


def guard(node: Node, values: Sequence[Array | None]) -> None:
    """Claim what any operator may take: as much as its largest input, broadcast with the others."""
    shapes = [value.shape for value in values if value is not None]
    if not shapes:
        return
    widest = max((v.dtype for v in values if v is not None), key=lambda dtype: dtype.itemsize)
    if node.op is not None and node.op.kind == "pointwise" and len(shapes) > 1:
        claim(np.broadcast_shapes(*shapes), widest)
    else:
        claim((max(int(np.prod(shape, dtype=object)) for shape in shapes),), widest)
