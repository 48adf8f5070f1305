"""A model as its ONNX file has it: plain data, unchecked beyond its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrnn.formats.arrays import ELEMENTS, made_dtype
from fastrnn.formats.onnx.tensors import Tensor
from fastrnn.formats.source import Budget


@dataclass(frozen=True)
class Value:
    """What a file says of an input, an output or a value between.

    element: "float32", ...; None where the file does not say.
    shape: per axis its length, its name, or None where the file has neither; None where it does
        not even say how many axes.
    kind: "tensor", or what else the file declares: "sequence", "map", "optional", ...
    """

    name: str
    element: str | None = None
    shape: tuple[int | str | None, ...] | None = None
    kind: str = "tensor"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type as NumPy's; TypeError where NumPy has none or the file does not say."""
        if self.element not in ELEMENTS or made_dtype(self.element) != self.element:
            raise TypeError(f"{self.name[:80]!r} has the element type {self.element}")
        return np.dtype(self.element)


@dataclass(frozen=True)
class Unread:
    """An attribute of a kind that is not read: what it is, in words."""

    what: str


@dataclass(frozen=True)
class Reference:
    """In a function's node: the value of an attribute of the node that calls it."""

    name: str


@dataclass(frozen=True)
class Node:
    """One node. Attributes are float, int, str, Tensor, Graph, tuples of the first three, Unread,
    or Reference.

    domain: "" for ONNX's own.
    doc, metadata: what an exporter wrote of its origin.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        domain = f" of domain {self.domain}" if self.domain else ""
        name = self.name or " ".join(name for name in self.outputs if name)
        return f"node {name[:200]!r} ({self.op[:80]}{domain[:80]})"


@dataclass(frozen=True)
class Graph:
    """A graph or subgraph, in the order of the file."""

    name: str
    nodes: tuple[Node, ...]
    initializers: Mapping[str, Tensor]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    values: Mapping[str, Value]  # what the file says of values between


@dataclass(frozen=True)
class Function:
    """A function of the model's own: nodes that stand for one node."""

    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    defaults: Mapping[str, Any]
    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]


@dataclass(frozen=True)
class Model:
    """What an .onnx file holds.

    opsets: the version of each domain's operators; "" is ONNX's own domain.
    ignored: what the file has besides and that does not bear on what it computes, in words.
    budget: what may still be made from the file.
    """

    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    graph: Graph
    functions: Mapping[tuple[str, str], Function]
    metadata: Mapping[str, str]
    ignored: tuple[str, ...]
    budget: Budget
