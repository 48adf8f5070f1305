"""`fastrnn inspect`: what a file holds."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastrnn.cli.models.inspect import run as inspect_model
from fastrnn.cli.models.options import add_options, is_model
from fastrnn.cli.output import NO, OK, plural, say, say_json, say_table, size
from fastrnn.formats import Contents, Stored, opened
from fastrnn.layers.statedict import StackWeights, StateDict, told
from fastrnn.layers.weights import StackConfig, check_values, common_dtype


@dataclass(frozen=True)
class FoundStack:
    """A recurrent stack in a file, or the reason why it cannot be loaded."""

    prefix: str
    weights: StackWeights | None
    problem: str = ""

    @property
    def config(self) -> StackConfig | None:
        """Its sizes; None if it cannot be loaded."""
        return self.weights.config if self.weights else None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """What it computes in; None if it cannot be loaded."""
        return common_dtype(self.weights.parameters) if self.weights else None

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
        epilog="Exit code 0: at least one stack, or the model, can be loaded; 1: none.",
    )
    parser.add_argument(
        "file", metavar="FILE", help="weights, as fastrnn.load takes them, or a whole model (.onnx)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what `args.file` holds; NO if no stack in it can be loaded."""
    if is_model(args.file):
        return inspect_model(args)
    with opened(args.file) as found:
        state = StateDict(found.weights)
        read: set[int] = set()
        stacks = [_checked(stack, read) for stack in find_stacks(state, state.prefixes)]
        for stored in found.weights.values():  # so that a file that is damaged is refused
            if id(stored) not in read:
                read.add(id(stored))
                stored.array()
        if args.json:
            say_json(_as_json(args.file, found, stacks))
        else:
            _print(args.file, found, stacks)
    return OK if any(stack.weights for stack in stacks) else NO


def find_stacks(state: StateDict, prefixes: Iterable[str]) -> list[FoundStack]:
    """Return the recurrent stacks under `prefixes`; one that cannot be loaded says why.

    Their values are not read yet.
    """
    return [_find(state, prefix) for prefix in prefixes]


def _find(state: StateDict, prefix: str) -> FoundStack:
    try:
        return FoundStack(prefix, state.stack(prefix))
    except (ValueError, TypeError) as error:
        return FoundStack(prefix, None, str(error))


def _checked(stack: FoundStack, read: set[int]) -> FoundStack:
    """The stack, or its problem if its values are not finite numbers.

    Tensors whose ids are in `read` are known to be; those that are read are added.
    """
    if stack.weights is None or stack.dtype is None:
        return stack
    where = f"{stack.prefix}." if stack.prefix else ""
    try:
        for name, value in stack.weights.parameters.items():
            if id(value) not in read:
                check_values({name: value}, stack.dtype, where)
                if isinstance(value, Stored):
                    read.add(id(value))
    except (ValueError, TypeError) as error:
        return FoundStack(stack.prefix, None, str(error))
    return stack


def _left(found: Contents, stacks: list[FoundStack]) -> list[str]:
    """The names of the tensors that no stack is loaded from."""
    taken = {name for stack in stacks if stack.weights for name in stack.weights.tensors}
    return [name for name in found.weights if name not in taken]


def _as_json(path: str, found: Contents, stacks: list[FoundStack]) -> dict[str, Any]:
    return {
        "file": path,
        "bytes": found.nbytes,
        "format": found.format,
        "values": _values(found.weights),
        "stacks": [stack_as_json(stack) for stack in stacks],
        "tensors": [
            {"name": name, "dtype": stored.dtype.name, "shape": list(stored.shape)}
            for name, stored in found.weights.items()
        ],
        "left": _left(found, stacks),
        "foreign": list(found.foreign),
        "skipped": [{"name": name, "reason": why} for name, why in found.skipped.items()],
    }


def stack_as_json(stack: FoundStack) -> dict[str, Any]:
    """Return the stack's sizes and what was folded, or its problem, as plain data."""
    if stack.weights is None or stack.config is None or stack.dtype is None:
        return {"prefix": stack.prefix, "problem": stack.problem}
    return {
        "prefix": stack.prefix,
        **asdict(stack.config),
        "dtype": stack.dtype.name,
        "parameters": stack.config.parameters,
        "bytes": stack.config.parameters * stack.dtype.itemsize,
        **stack.weights.options,
        **({"folded": stack.weights.folded} if stack.weights.folded else {}),
        **({"said": list(stack.weights.said.in_words)} if stack.weights.said else {}),
    }


def _print(path: str, found: Contents, stacks: list[FoundStack]) -> None:
    say(f"{path}: {found.format}, {size(found.nbytes)}")
    say(f"{plural(len(found.weights), 'tensor')}, {plural(_values(found.weights), 'value')}")
    say()
    if stacks:
        say("recurrent stacks:")
        say_table([row for stack in stacks for row in _stack_rows(stack)])
        say(f"in no stack that can be loaded: {plural(len(_left(found, stacks)), 'tensor')}")
    else:
        say("recurrent stacks: none (no weight_ih_l0, weight_hh_l0... in the file)")
    say()
    say("tensors:")
    say_table(
        [(name, stored.dtype.name, _shape(stored.shape)) for name, stored in found.weights.items()]
    )
    if found.skipped:
        say()
        say("tensors that could not be read:")
        say_table(list(found.skipped.items()))
    if found.foreign:
        say()
        say("foreign objects, which the file names; they were neither imported nor called:")
        say_table([(name,) for name in found.foreign])


def _stack_rows(stack: FoundStack) -> list[tuple[str, str]]:
    if stack.weights is None or stack.config is None or stack.dtype is None:
        return [(stack.title, f"cannot be loaded: {stack.problem}")]
    parameters = stack.config.parameters
    memory = size(parameters * stack.dtype.itemsize)
    counted = plural(parameters, "parameter")
    options = "".join(f", {name}={value!r}" for name, value in stack.weights.options.items())
    sizes = f"{str(stack.config)[:-1]}{options}): {counted}, {memory} in {stack.dtype.name}"
    rows = [(stack.title, sizes)]
    if stack.weights.folded:
        rows.append(("", f"folded: {told(stack.weights.folded)}"))
    if stack.weights.said:
        rows += [("", words) for words in stack.weights.said.in_words]
    return rows


def _values(weights: Mapping[str, Any]) -> int:
    """Numbers in all tensors; those of tied tensors once."""
    return sum({id(stored): math.prod(stored.shape) for stored in weights.values()}.values())


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
