"""ONNX files: models as graphs of nodes, and their tensors.

wire.py      the protobuf wire format
schema.py    ONNX's messages: numbers, names, kinds
tensors.py   a tensor's array, from the file or from one beside it
model.py     Model, Graph, Node, Value: plain data
reader.py    from messages to a Model

The `onnx` package weighs 31 MB, which is why this is a reader of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastrnn.errors import FormatError
from fastrnn.formats.inventory import Contents, Weights
from fastrnn.formats.onnx import reader, tensors
from fastrnn.formats.onnx.model import (
    Function,
    Graph,
    Model,
    Node,
    Reference,
    Unread,
    Value,
)
from fastrnn.formats.onnx.tensors import Tensor
from fastrnn.formats.opening import Readable, source_of, title
from fastrnn.formats.source import Source

# The IR version, and then a producer, domain, model version, text, graph or opset.
_HEAD = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]")

__all__ = [
    "Function",
    "Graph",
    "Model",
    "Node",
    "Reference",
    "Tensor",
    "Unread",
    "Value",
    "contents",
    "looks_like",
    "read",
]


def read(path: Readable) -> Model:
    """Read the model in a file; tensors' arrays are made when they are asked for.

    Raises
    ------
    FormatError
        If the file is damaged, hostile or no ONNX model.
    TypeError, OSError
        As `fastrnn.read`.
    """
    try:
        with source_of(path) as source:
            return model(source)
    except FormatError as error:
        raise FormatError(f"{title(path)}: {error}") from None


def model(source: Source) -> Model:
    """As `read`, of an open file."""
    source.budget.take(source.size)
    data = memoryview(source.at(0, source.size))
    try:
        return reader.read(data, tensors.Folder(source), source.budget)
    except FormatError as error:
        raise FormatError(f"as an ONNX model: {error}") from None


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with `head` can be one: writers put the IR version first."""
    return _HEAD.match(head) is not None


def contents(source: Source) -> Contents:
    """The graph's tensors: initializers, and constants of floating-point numbers with axes.

    Those of types that NumPy has not are skipped. A name that two branches have is told apart by
    "~1" and so on.
    """
    found = Contents("onnx", Weights(source.budget))
    for name, tensor in _tensors(model(source).graph):
        own, count = name, 1
        while own in found.weights or own in found.skipped:
            own, count = f"{name}~{count}", count + 1
        found.add(own, tensor.stored(own))
    return found


def _tensors(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """The names and tensors of a graph and its subgraphs."""
    yield from graph.initializers.items()
    for node in graph.nodes:
        for value in node.attributes.values():
            if isinstance(value, Graph):
                yield from _tensors(value)
            elif (
                isinstance(value, Tensor)
                and (value.shape and "float" in value.element)
                and (node.op == "Constant" and node.outputs)
            ):
                yield node.outputs[0], value
