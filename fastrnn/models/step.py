"""A node made into something to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.models.graph import Node
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import VARYING, Array

# What an operator raises where inputs do not fit it.
FAULTS = (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError)


class Prepared:
    """What `prepare` made, for whichever plans bind the same operator to the same constants."""

    def __init__(self) -> None:
        self._made: dict[Any, tuple[Any, Any]] = {}

    def make(self, node: Node, known: tuple[Any, ...], options: Any, keywords: Any) -> Any:
        """`node.op.prepare` of these, once."""
        assert node.op is not None
        assert node.op.prepare is not None
        attributes = (
            (name, value.tobytes() if isinstance(value, np.ndarray) else repr(value))
            for name, value in sorted(keywords.items())
        )
        key = (id(node.op), *attributes, *map(id, known))
        if key not in self._made:  # an array that is kept alive keeps its id
            self._made[key] = (node.op.prepare(known, dict(options), **keywords), known)
        return self._made[key][0]


def bind(
    node: Node,
    constants: Mapping[str, Array],
    options: Mapping[str, Any],
    shared: Prepared | None = None,
) -> Callable[..., Any]:
    """The function of the node's inputs: with its attributes, prepared where that is possible.

    Parameters
    ----------
    constants : arrays by name
        Inputs that are among them are the same in each call.
    options : how recurrent layers compute: engine, isa, threads
    shared : what other plans have prepared, optional
    """
    assert node.op is not None
    keywords = dict(node.attributes)
    if node.op.counts_outputs:
        keywords["outputs"] = len(node.outputs)
    if node.op.prepare is not None:
        known = tuple(constants.get(name, VARYING) if name else None for name in node.inputs)
        prepared = (shared or Prepared()).make(node, known, options, keywords)
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
