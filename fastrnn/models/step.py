"""A node made into something to call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.models.graph import Node
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import VARYING, Array

# What an operator raises where inputs do not fit it.
FAULTS = (ValueError, TypeError, IndexError, KeyError, AttributeError, ArithmeticError, MemoryError)


class Binder:
    """Makes nodes callable; what it prepared of a node's constants it keeps for other plans of the
    same graph.

    options : how recurrent layers compute: engine, isa, threads, weight_dtype
    allowed : bytes of constants that may be prepared until `settle` is called
    """

    def __init__(self, options: Mapping[str, Any], allowed: float = math.inf) -> None:
        self.options = dict(options)
        self._left = allowed
        self._prepared: dict[Any, tuple[list[Any], Callable[..., Any] | None]] = {}

    def bind(self, node: Node, constants: Mapping[str, Array]) -> Callable[..., Any]:
        """The function of the node's inputs: with its attributes, prepared where that is possible.

        Parameters
        ----------
        constants : arrays by name
            Inputs that are among them are the same in each call.

        Raises
        ------
        FormatError
            More would be packed than is allowed.
        """
        assert node.op is not None
        keywords = dict(node.attributes)
        if node.op.counts_outputs:
            keywords["outputs"] = len(node.outputs)
        if node.op.prepare is not None:
            known = [constants.get(name, VARYING) if name else None for name in node.inputs]
            # Nodes that are alike share what was packed: a file may name its weights many times.
            key = (id(node.op), tuple(map(id, known)), _told(keywords))
            if key not in self._prepared:
                self._left -= sum(x.nbytes for x in known if isinstance(x, np.ndarray))
                if self._left < 0:
                    raise FormatError(
                        f"{node}: the weights that are packed for it and the nodes before it would "
                        "take more memory than the file's size justifies"
                    )
                prepared = node.op.prepare(known, self.options, **keywords)
                self._prepared[key] = known, prepared  # `known`, so that no other gets its ids
            function = self._prepared[key][1]
            if function is not None:
                return function
        return partial(node.op.function, **keywords) if keywords else node.op.function

    def settle(self) -> None:
        """Let what is bound from now on take what it needs: it depends on callers, not the file."""
        self._left = math.inf


def _told(keywords: Mapping[str, Any]) -> tuple[Any, ...]:
    """Attributes as a key: arrays, which stay in the graph, by their identity."""
    return tuple(
        (name, id(value) if isinstance(value, np.ndarray) else repr(value))
        for name, value in sorted(keywords.items())
    )


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
