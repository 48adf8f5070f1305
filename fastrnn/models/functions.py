"""Functions of a model's own: a node that calls one becomes the nodes it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats import onnx
from fastrnn.formats.source import Budget

_MOST_DEPTH = 32  # of functions that call functions; a function may not call itself
_CALL_BYTES = 1024

Functions = Mapping[tuple[str, str], onnx.Function]


def inline(
    nodes: tuple[onnx.Node, ...],
    opsets: Mapping[str, int],
    functions: Functions,
    budget: Budget,
    depth: int = 0,
) -> Iterator[tuple[onnx.Node, Mapping[str, int]]]:
    """Yield the nodes, those of called functions in place of calls, with the opsets of each.

    Raises
    ------
    FormatError
        A call does not fit its function, functions call each other without end, or what they are
        written out to is larger than the budget.
    """
    for node in nodes:
        function = functions.get((node.domain, node.op))
        if function is None:
            yield node, opsets
            continue
        if depth == _MOST_DEPTH:
            raise FormatError(f"{node}: functions call each other more than {_MOST_DEPTH} deep")
        called = _written_out(node, function, budget)
        yield from inline(called, function.opsets or opsets, functions, budget, depth + 1)


def _written_out(call: onnx.Node, function: onnx.Function, budget: Budget) -> tuple[onnx.Node, ...]:
    if len(call.inputs) > len(function.inputs) or len(call.outputs) > len(function.outputs):
        raise FormatError(
            f"{call}: has {len(call.inputs)} inputs and {len(call.outputs)} outputs, its function "
            f"{len(function.inputs)} and {len(function.outputs)}"
        )
    known = {*function.attributes, *function.defaults}
    for name in call.attributes:
        if name not in known:
            raise FormatError(f"{call}: attribute {name[:80]!r} is not one of its function's")
    values = {**function.defaults, **call.attributes}
    names = dict.fromkeys(function.inputs, "")
    names.update(zip(function.inputs, call.inputs, strict=False))
    outputs = {name for name in call.outputs if name}
    for inner, outer in zip(function.outputs, call.outputs, strict=False):
        if inner in function.inputs:
            raise FormatError(f"{call}: output {inner[:80]!r} of its function is an input of it")
        if outer:
            names[inner] = outer
    prefix = f"{call.name or '/'.join(sorted(outputs))}/"

    def name_of(name: str) -> str:
        return names.setdefault(name, prefix + name) if name else ""

    made = []
    for node in function.nodes:
        budget.take(_CALL_BYTES)
        attributes: dict[str, Any] = {}
        for name, value in node.attributes.items():
            if isinstance(value, onnx.Graph):
                raise FormatError(f"{call}: its function has a subgraph, expected none")
            if not isinstance(value, onnx.Reference):
                attributes[name] = value
            elif value.name in values:
                attributes[name] = values[value.name]
        made.append(
            replace(
                node,
                name=prefix + node.name if node.name else "",
                inputs=tuple(map(name_of, node.inputs)),
                outputs=tuple(map(name_of, node.outputs)),
                attributes=attributes,
            )
        )
    return tuple(made)
