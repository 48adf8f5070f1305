"""`fastrnn inspect` of a whole model: what goes in and out, and what runs."""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastrnn.cli.models.options import load
from fastrnn.cli.output import NO, OK, CommandError, plural, say, say_json, say_table, size
from fastrnn.errors import FormatError
from fastrnn.formats import onnx
from fastrnn.models import Model, example

MOST_OPERATORS = 12  # named in a line


def run(args: argparse.Namespace) -> int:
    """Print what the model in `args.file` is; NO if it cannot be run."""
    file = onnx.read(args.file)
    problem = ""
    model: Model | None = None
    try:
        model = load(args)
    except (FormatError, CommandError) as error:
        problem = str(error)
    if args.json:
        say_json(_as_json(args.file, file, model, problem))
    else:
        _print(args.file, file, model, problem)
    return OK if model else NO


def _print(path: str, file: onnx.Model, model: Model | None, problem: str) -> None:
    opsets = ", ".join(f"{domain or 'ONNX'} {version}" for domain, version in file.opsets.items())
    say(f"{path}: ONNX, {size(os.stat(path).st_size)}, opset {opsets}, by {file.producer or '?'}")
    say()
    if model is None:
        say(f"cannot be run: {problem}")
        say()
    for title, values in _values(file, model).items():
        say(f"{title}:")
        say_table([(v.name, v.element or v.kind, _shape(v.shape)) for v in values])
        say()
    operators = _operators(file)
    say(f"{plural(sum(operators.values()), 'node')}: {_counted(operators)}")
    if model is not None:
        _print_model(model)
    tensors = _tensors(file)
    count = sum(math.prod(tensor.shape) for tensor in tensors)
    say(f"{plural(len(tensors), 'tensor')}, {plural(count, 'value')}")
    if model is not None and model.unused:
        say(f"  unused: {', '.join(model.unused)}")
    for what in file.ignored:
        say(f"  ignored: {what}")
    recorded = example.KEY in file.metadata
    say(f"example: {'recorded, for fastrnn verify' if recorded else 'none recorded'}")


def _print_model(model: Model) -> None:
    if model.states:
        pairs = ", ".join(f"{name} -> {after}" for name, after in model.states.items())
        say(f"states, which streams carry: {pairs}")
    total = sum(model.operators.values())
    say(f"a call runs {total}: {_counted(model.operators)}")
    if model.layers:
        say("in the kernels:")
        say_table([(name, str(layer)) for name, layer in model.layers.items()])


def _values(file: onnx.Model, model: Model | None) -> dict[str, Iterable[onnx.Value]]:
    if model is None:
        return {"inputs": file.graph.inputs, "outputs": file.graph.outputs}
    return {"inputs": model.inputs.values(), "outputs": model.outputs.values()}


def _as_json(path: str, file: onnx.Model, model: Model | None, problem: str) -> dict[str, Any]:
    return {
        "file": path,
        "bytes": os.stat(path).st_size,
        "format": "onnx",
        "opsets": dict(file.opsets),
        "producer": file.producer,
        "problem": problem or None,
        **{
            title: [
                {
                    "name": value.name,
                    "element": value.element,
                    "kind": value.kind,
                    "shape": None if value.shape is None else list(value.shape),
                }
                for value in values
            ]
            for title, values in _values(file, model).items()
        },
        "states": dict(model.states) if model else {},
        "nodes": _operators(file),
        "runs": dict(model.operators) if model else {},
        "layers": {name: str(layer) for name, layer in model.layers.items()} if model else {},
        "tensors": [
            {"name": name, "dtype": tensor.element, "shape": list(tensor.shape)}
            for name, tensor in file.graph.initializers.items()
        ],
        "unused": list(model.unused) if model else [],
        "ignored": list(file.ignored),
        "example": example.KEY in file.metadata,
    }


def _graphs(graph: onnx.Graph) -> Iterator[onnx.Graph]:
    """The graph, and those in its nodes."""
    yield graph
    for node in graph.nodes:
        for value in node.attributes.values():
            if isinstance(value, onnx.Graph):
                yield from _graphs(value)


def _operators(file: onnx.Model) -> dict[str, int]:
    """How often each operator stands in the file, the most frequent first."""
    nodes = (node for graph in _graphs(file.graph) for node in graph.nodes)
    return dict(Counter(f"{node.domain}.{node.op}".lstrip(".") for node in nodes).most_common())


def _tensors(file: onnx.Model) -> list[onnx.Tensor]:
    found = [tensor for graph in _graphs(file.graph) for tensor in graph.initializers.values()]
    constants = (
        value
        for graph in _graphs(file.graph)
        for node in graph.nodes
        for value in node.attributes.values()
        if isinstance(value, onnx.Tensor)
    )
    return [*found, *constants]


def _counted(operators: Mapping[str, int]) -> str:
    named = [f"{name} {count}" for name, count in operators.items()]
    more = [f"{len(named) - MOST_OPERATORS} more operators"] if len(named) > MOST_OPERATORS else []
    return ", ".join([*named[:MOST_OPERATORS], *more]) or "none"


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "of any shape"
    return " x ".join("?" if n is None else str(n) for n in shape) or "scalar"
