"""What an ONNX file holds as a graph, for people to read: `fastrnn inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, onnx
from fastrnn.models.graph import build
from fastrnn.models.stacks import Found, find


@dataclass(frozen=True)
class Summary:
    """A model file's graph.

    operators: how many nodes of each, "domain::" before those that are not ONNX's own; nodes in
        branches and in functions of the model's own count.
    recurrent: every recurrent node, and every stack of several.
    unused: tensors that no output needs.
    ignored: what else the file has and that does not bear on what it computes, in words.
    problem: why it cannot be run; "" where it can. `recurrent` and `unused` are empty then.
    """

    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[onnx.Value, ...]
    outputs: tuple[onnx.Value, ...]
    operators: Mapping[str, int]
    recurrent: tuple[Found, ...] = ()
    unused: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    problem: str = ""


def summary(path: Readable) -> Summary:
    """What the file `path` holds.

    Raises
    ------
    FormatError
        If it is damaged, hostile or no ONNX model.
    OSError
        If it cannot be opened.
    """
    model = onnx.read(path)
    graph = model.graph
    nodes = [*_all(graph.nodes), *(n for f in model.functions.values() for n in _all(f.nodes))]
    operators = Counter(f"{n.domain}::{n.op}" if n.domain else n.op for n in nodes)
    inputs = tuple(value for value in graph.inputs if value.name not in graph.initializers)
    found: tuple[Found, ...] = ()
    unused: tuple[str, ...] = ()
    problem = ""
    try:
        built = build(model)
        found, unused = tuple(find(built)), built.unused
    except FormatError as error:
        problem = str(error)
    return Summary(
        model.producer,
        model.opsets,
        inputs,
        graph.outputs,
        dict(operators.most_common()),
        found,
        unused,
        model.ignored,
        problem,
    )


def _all(nodes: Iterable[onnx.Node]) -> Iterator[onnx.Node]:
    """The nodes and those in their subgraphs."""
    for node in nodes:
        yield node
        for value in node.attributes.values():
            if isinstance(value, onnx.Graph):
                yield from _all(value.nodes)
