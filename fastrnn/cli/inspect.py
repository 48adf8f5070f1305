"""`fastrnn inspect`: what a file holds."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.models.inspect import run as inspect_model
from fastrnn.cli.models.options import add_options, is_model
from fastrnn.cli.output import OK, plural, say, say_json, say_table, size
from fastrnn.formats import Contents, contents
from fastrnn.layers.weights import (
    StackConfig,
    common_dtype,
    freeze,
    infer_config,
    stack_parameters,
    stack_prefixes,
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FoundStack:
    """A recurrent stack in a file: its sizes, or the reason why it cannot be loaded."""

    prefix: str
    config: StackConfig | None
    dtype: np.dtype[Any] | None  # what it computes in
    problem: str = ""

    @property
    def title(self) -> str:
        """The prefix, or words where there is none."""
        return self.prefix or "(no prefix)"


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "inspect",
        help="show a file's tensors and recurrent stacks",
        description="Show what a weights file holds: tensors, the recurrent stacks that fastrnn "
        "can load, foreign objects by name, and tensors that could not be read, with the reason. "
        "Of a whole model (.onnx): inputs, outputs, states, operators, and what runs in the "
        "kernels.",
    )
    parser.add_argument(
        "file", metavar="FILE", help=".pt/.pth, TorchScript, .safetensors, .npz or .onnx"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what `args.file` holds."""
    if is_model(args.file):
        return inspect_model(args)
    found = contents(args.file)
    stacks = find_stacks(found.weights, stack_prefixes(found.weights))
    if args.json:
        say_json(_as_json(args.file, found, stacks))
    else:
        _print(args.file, found, stacks)
    return OK


def find_stacks(weights: Mapping[str, Array], prefixes: Iterable[str]) -> list[FoundStack]:
    """Return the recurrent stacks under `prefixes`; one that cannot be loaded says why."""
    return [_find(weights, prefix) for prefix in prefixes]


def _find(weights: Mapping[str, Array], prefix: str) -> FoundStack:
    found = stack_parameters(weights, prefix)
    try:
        config = infer_config(weights, prefix)
        dtype = common_dtype(found)
        freeze(found, dtype, f"{prefix}." if prefix else "")
    except (ValueError, TypeError) as error:
        return FoundStack(prefix, None, None, str(error))
    return FoundStack(prefix, config, dtype)


def _as_json(path: str, found: Contents, stacks: list[FoundStack]) -> dict[str, Any]:
    return {
        "file": path,
        "bytes": os.stat(path).st_size,
        "format": found.format,
        "values": _values(found.weights),
        "stacks": [stack_as_json(stack) for stack in stacks],
        "tensors": [
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
            for name, array in found.weights.items()
        ],
        "foreign": list(found.foreign),
        "skipped": [{"name": name, "reason": why} for name, why in found.skipped.items()],
    }


def stack_as_json(stack: FoundStack) -> dict[str, Any]:
    """Return the stack's sizes, or its problem, as plain data."""
    if stack.config is None or stack.dtype is None:
        return {"prefix": stack.prefix, "problem": stack.problem}
    return {
        "prefix": stack.prefix,
        **asdict(stack.config),
        "dtype": stack.dtype.name,
        "parameters": stack.config.parameters,
        "bytes": stack.config.parameters * stack.dtype.itemsize,
    }


def _print(path: str, found: Contents, stacks: list[FoundStack]) -> None:
    say(f"{path}: {found.format}, {size(os.stat(path).st_size)}")
    say(f"{plural(len(found.weights), 'tensor')}, {plural(_values(found.weights), 'value')}")
    say()
    if stacks:
        say("recurrent stacks:")
        say_table([_stack_row(stack) for stack in stacks])
    else:
        say("recurrent stacks: none (no weight_ih_l0, weight_hh_l0... in the file)")
    say()
    say("tensors:")
    say_table(
        [(name, array.dtype.name, _shape(array.shape)) for name, array in found.weights.items()]
    )
    if found.skipped:
        say()
        say("tensors that could not be read:")
        say_table(list(found.skipped.items()))
    if found.foreign:
        say()
        say("foreign objects, which the file names; they were neither imported nor called:")
        say_table([(name,) for name in found.foreign])


def _stack_row(stack: FoundStack) -> tuple[str, str]:
    if stack.config is None or stack.dtype is None:
        return stack.title, f"cannot be loaded: {stack.problem}"
    parameters = stack.config.parameters
    memory = size(parameters * stack.dtype.itemsize)
    counted = plural(parameters, "parameter")
    return stack.title, f"{stack.config}: {counted}, {memory} in {stack.dtype.name}"


def _values(weights: Mapping[str, Array]) -> int:
    """Numbers in all tensors; those of tied tensors once."""
    return sum({id(array): array.size for array in weights.values()}.values())


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
