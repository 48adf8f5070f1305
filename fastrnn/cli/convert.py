"""`fastrnn convert`: a file's tensors into a safe format."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from fastrnn.cli.extras import with_suffix
from fastrnn.cli.output import OK, USAGE, CommandError, note, plural, say, say_json, size
from fastrnn.cli.prefix import add_prefix
from fastrnn.errors import FormatError
from fastrnn.formats import SUFFIXES, Weights, opened, write
from fastrnn.layers.compact import LARGEST
from fastrnn.layers.statedict import StateDict
from fastrnn.layers.weights import freeze_compact


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "convert",
        help="write a file's tensors as .safetensors or .npz",
        description="Write the tensors of SRC to DST, in the format that DST's suffix names. "
        "Element types are kept, but bfloat16 and what is quantized become float32. DST is "
        "written whole or not at all. With --weight-dtype the matrices of recurrent stacks become "
        "small integers, and beside each, with _scale after its name, stands what its rows are "
        "multiplied by: fastrnn.load takes them as they are.",
    )
    parser.add_argument("src", metavar="SRC", help="weights, as fastrnn.load takes them")
    parser.add_argument(
        "dst", metavar="DST", type=with_suffix(*SUFFIXES), help=" or ".join(SUFFIXES)
    )
    add_prefix(parser, "only the tensors named PREFIX.*, by what comes after it")
    parser.add_argument(
        "--weight-dtype", choices=sorted(LARGEST), help="store the matrices of stacks so"
    )
    parser.add_argument("--force", action="store_true", help="overwrite DST if it is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert `args.src` to `args.dst`."""
    if os.path.lexists(args.dst) and not args.force:  # before any work
        raise _there(args.dst)
    with opened(args.src) as found:
        names = select(found.weights, args.prefix, args.src)
        left_out = select(found.skipped, args.prefix)
        _check_stacks(found.weights, names)
        sizes = (found.weights[name] for name in names.values())
        found.weights.budget.check(
            "what would be written", sum(math.prod(s.shape) * s.dtype.itemsize for s in sizes)
        )
        read = found.in_memory(names.values())
        weights = {short: read.weights[name] for short, name in names.items()}
        if args.weight_dtype:
            _store_compact(weights, args.weight_dtype)
    try:
        write(args.dst, weights, overwrite=args.force)
    except FileExistsError:
        raise _there(args.dst) from None
    except (ValueError, TypeError) as error:
        raise CommandError(f"{args.dst}: {str(error).removeprefix('write: ')}") from None
    except OSError as error:  # it may name the temporary file
        raise CommandError(f"{args.dst}: {error.strerror or error}", USAGE) from None
    for name in left_out.values():
        note(f"fastrnn: left out: {name} {found.skipped[name]}")
    for prefix, said in found.weights.said.items():
        if any(name.startswith(f"{prefix}.") for name in names.values()):
            note(f"fastrnn: left out: what is said of {prefix}: load it with {said}")
    nbytes = os.stat(args.dst).st_size
    if args.json:
        say_json(
            {
                "file": args.dst,
                "bytes": nbytes,
                "from": args.src,
                "format": found.format,
                "tensors": list(weights),
                "skipped": [
                    {"name": name, "reason": found.skipped[name]} for name in left_out.values()
                ],
            }
        )
    else:
        under = f" under {args.prefix}" if args.prefix else ""
        say(
            f"{args.dst}: {plural(len(weights), 'tensor')}, {size(nbytes)}, "
            f"from {args.src} ({found.format}){under}"
        )
    return OK


def _there(path: str) -> CommandError:
    return CommandError(f"{path}: is there already, --force overwrites it", USAGE)


def _store_compact(weights: dict[str, Any], weight_dtype: str) -> None:
    """Replace the parameters of every stack in `weights` by codes, scales and biases.

    Raises
    ------
    FormatError
        If there is no stack, or one that cannot be loaded.
    """
    state = StateDict(weights)
    if not state.prefixes:
        raise FormatError(state.in_words)
    for prefix in state.prefixes:
        where = f"{prefix}." if prefix else ""
        try:
            stack = state.stack(prefix)
            stored = freeze_compact(stack.parameters, weight_dtype, where)
        except (ValueError, TypeError) as error:
            raise FormatError(str(error)) from None
        for name in stack.tensors:
            del weights[name]
        weights.update((where + name, array) for name, array in stored.items())


def _check_stacks(weights: Weights, names: Mapping[str, str]) -> None:
    """FormatError if a stack would be another one in a file that has only `names` of `weights`."""
    state = StateDict(weights)
    chosen = set(names.values())
    for prefix in state.prefixes:
        if chosen.isdisjoint(state.parts(prefix)):
            continue
        for name in state.scope(prefix):
            if name not in chosen:
                why = weights.unread.get(name, "belongs to it and would be left out")
                raise FormatError(
                    f"{name} {why}: without it, the stack under {prefix!r} would be another one"
                )


def select(names: Iterable[str], prefix: str | None, path: str = "") -> dict[str, str]:
    """Return the `names` that start with `prefix` and a dot, by what comes after; all if None.

    Raises
    ------
    CommandError
        If there are none, of a file at `path`.
    """
    if not prefix:
        return {name: name for name in names}
    dotted = prefix.rstrip(".") + "."
    chosen = {
        name.removeprefix(dotted): name
        for name in names
        if name.startswith(dotted) and name != dotted
    }
    if path and not chosen:
        there = dict.fromkeys(name.partition(".")[0] for name in names)
        raise CommandError(
            f"{path}: no tensor under prefix {prefix!r}; names start with "
            + ", ".join(repr(first) for first in list(there)[:8])
            + (", ..." if len(there) > 8 else "")
        )
    return chosen
