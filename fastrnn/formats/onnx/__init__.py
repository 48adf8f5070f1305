"""ONNX files: models as graphs of nodes, and their tensors.

wire.py      the protobuf wire format
schema.py    ONNX's messages: numbers, names, kinds
tensors.py   a tensor's array, from the file or from one beside it
model.py     Model, Graph, Node, Value: plain data
reader.py    from messages to a Model

The `onnx` package weighs 31 MB, which is why this is a reader of our own.
"""

from __future__ import annotations

import os

from fastrnn.errors import FormatError
from fastrnn.formats.inventory import Contents
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
from fastrnn.formats.source import Source, open_regular

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


def read(path: str | os.PathLike[str]) -> Model:
    """Read the model in the file `path`; tensors' arrays are made when they are asked for.

    Raises
    ------
    FormatError
        If the file is damaged, hostile or no ONNX model.
    OSError
        If the file cannot be opened.
    """
    name = os.fspath(path)
    with open_regular(name) as file:
        try:
            return model(Source(file))
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from None


def model(source: Source) -> Model:
    """As `read`, of an open file."""
    folder = tensors.Folder(os.path.dirname(os.fspath(source.file.name)) or ".", source.budget)
    source.budget.take(source.size)
    return reader.read(memoryview(source.at(0, source.size)), folder, source.budget)


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with `head` can be one: writers put the IR version first."""
    return len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x80 and head[2] & 7 in (0, 2)


def contents(source: Source) -> Contents:
    """Every initializer of the graph; those of types that NumPy has not are skipped."""
    found = Contents("onnx")
    for name, tensor in model(source).graph.initializers.items():
        found.add(name, tensor.widened, source.budget)
    return found
