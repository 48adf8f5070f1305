"""`fastrnn inspect` of a whole model: what goes in and out, and what runs."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable
from typing import Any

from fastrnn.cli.models.options import load
from fastrnn.cli.output import NO, OK, CommandError, plural, say, say_json, say_table, size
from fastrnn.errors import FormatError
from fastrnn.formats import onnx
from fastrnn.models import Model, example
from fastrnn.models.summary import Summary, summary


def run(args: argparse.Namespace) -> int:
    """Print what the model in `args.file` is; NO if it cannot be run."""
    file, found = onnx.read(args.file), summary(args.file)
    model, problem = _load(args, found)
    say_what = _say_json if args.json else _say
    say_what(args.file, file, found, model, problem)
    return OK if model else NO


def _load(args: argparse.Namespace, found: Summary) -> tuple[Model | None, str]:
    """The model, or why it cannot be run."""
    if found.problem:
        return None, found.problem
    try:
        return load(args), ""
    except (FormatError, CommandError) as error:
        return None, str(error).removeprefix(f"{args.file}: ")


def _say(path: str, file: onnx.Model, found: Summary, model: Model | None, problem: str) -> None:
    opsets = ", ".join(f"{domain} {version}".strip() for domain, version in found.opsets.items())
    by = f", by {found.producer}" if found.producer else ""
    say(f"{path}: onnx, {size(os.stat(path).st_size)}, opset {opsets}{by}")
    if problem:
        say(f"cannot be run: {problem}")
    for title, values in _values(found, model).items():
        say()
        say(f"{title}:")
        say_table([(v.name, v.element or v.kind, _shape(v.shape)) for v in values])
    say()
    if model is not None:
        say(_streams(model))
        say()
    if found.recurrent:
        say("recurrent nodes:")
        layers = {} if model is None else model.layers
        say_table([(name, what) for name, what in _recurrent(found, layers).items()])
        say()
    say("nodes:")
    say_table([(name, str(count)) for name, count in found.operators.items()])
    say()
    tensors = [tensor.shape for tensor in file.graph.initializers.values()]
    say(f"{plural(len(tensors), 'tensor')}, {plural(sum(map(math.prod, tensors)), 'value')}")
    for what, names in (("not used", found.unused), ("ignored", found.ignored)):
        if names:
            say(f"{what}:")
            say_table([(name,) for name in names])
    kept = "an example with its answer" if example.KEY in file.metadata else "none"
    say(f"recorded for `fastrnn verify`: {kept}")


def _say_json(
    path: str, file: onnx.Model, found: Summary, model: Model | None, problem: str
) -> None:
    values = {
        title: [
            {"name": value.name, "element": value.element, "kind": value.kind, "shape": value.shape}
            for value in values
        ]
        for title, values in _values(found, model).items()
    }
    say_json(
        {
            "file": path,
            "bytes": os.stat(path).st_size,
            "format": "onnx",
            "opsets": dict(found.opsets),
            "producer": found.producer,
            "problem": problem or None,
            **values,
            "states": dict(model.states) if model else {},
            "streams": _streams(model) if model else None,
            "recurrent": _recurrent(found, model.layers if model else {}),
            "nodes": dict(found.operators),
            "tensors": [
                {"name": name, "dtype": tensor.element, "shape": list(tensor.shape)}
                for name, tensor in file.graph.initializers.items()
            ],
            "unused": list(found.unused),
            "ignored": list(found.ignored),
            "example": example.KEY in file.metadata,
        }
    )


def _values(found: Summary, model: Model | None) -> dict[str, Iterable[onnx.Value]]:
    if model is None:
        return {"inputs": found.inputs, "outputs": found.outputs}
    return {"inputs": model.inputs.values(), "outputs": model.outputs.values()}


def _streams(model: Model) -> str:
    """Whether the model can be stepped, in words."""
    if model.states:
        pairs = ", ".join(f"{name} -> {after}" for name, after in model.states.items())
        return f"streams carry the states {pairs}"
    try:
        stream: Any = model.stream()
    except ValueError as error:
        return f"does not stream: {str(error).partition(': ')[2]}"
    return f"streams along time, {stream.delay} frames late"


def _recurrent(found: Summary, layers: Any) -> dict[str, str]:
    """Each recurrent node, and how it runs."""
    made = {name: f"in the kernels: {layer}" for name, layer in layers.items()}
    for stack in found.recurrent:
        if len(stack.nodes) == 1 and stack.name not in made:
            made[stack.name] = f"{stack.kind}, not in the kernels: {stack.problem or 'not run'}"
    return made


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    if shape is None:
        return "of any shape"
    return " x ".join("?" if n is None else str(n) for n in shape) or "scalar"
