"""`fastrnn convert`: a file's tensors into a safe format."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from fastrnn.cli.extras import with_suffix
from fastrnn.cli.output import OK, USAGE, CommandError, note, plural, say, say_json, size
from fastrnn.formats import SUFFIXES, contents, write

Array = npt.NDArray[Any]


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "convert",
        help="write a file's tensors as .safetensors or .npz",
        description="Write the tensors of SRC to DST, in the format that DST's suffix names. "
        "Element types are kept, but bfloat16 becomes float32. DST is written whole or not at all.",
    )
    parser.add_argument("src", metavar="SRC", help=".pt/.pth, TorchScript, .safetensors or .npz")
    parser.add_argument(
        "dst", metavar="DST", type=with_suffix(*SUFFIXES), help=" or ".join(SUFFIXES)
    )
    parser.add_argument(
        "--prefix", metavar="P", help="only the tensors named P.*, without the prefix"
    )
    parser.add_argument("--force", action="store_true", help="overwrite DST if it is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert `args.src` to `args.dst`."""
    if os.path.lexists(args.dst) and not args.force:
        raise CommandError(f"{args.dst}: is there already, --force overwrites it", USAGE)
    found = contents(args.src)
    weights = select(found.weights, args.prefix, args.src) if args.prefix else found.weights
    left_out = {
        name: why
        for name, why in found.skipped.items()
        if not args.prefix or name.startswith(_dotted(args.prefix))
    }
    try:
        write(args.dst, weights)
    except (ValueError, TypeError) as error:
        raise CommandError(f"{args.dst}: {str(error).removeprefix('write: ')}") from None
    except OSError as error:  # it may name the temporary file
        raise CommandError(f"{args.dst}: {error.strerror or error}", USAGE) from None
    for name, why in left_out.items():
        note(f"fastrnn: left out: {name} {why}")
    nbytes = os.stat(args.dst).st_size
    if args.json:
        say_json(
            {
                "file": args.dst,
                "bytes": nbytes,
                "from": args.src,
                "format": found.format,
                "tensors": list(weights),
                "skipped": [{"name": name, "reason": why} for name, why in left_out.items()],
            }
        )
    else:
        under = f" under {args.prefix}" if args.prefix else ""
        say(
            f"{args.dst}: {plural(len(weights), 'tensor')}, {size(nbytes)}, "
            f"from {args.src} ({found.format}){under}"
        )
    return OK


def select(weights: Mapping[str, Array], prefix: str, path: str) -> dict[str, Array]:
    """Return the tensors of file `path` whose names start with `prefix` and a dot, without them.

    Raises
    ------
    CommandError
        If there are none.
    """
    dotted = _dotted(prefix)
    chosen = {
        name.removeprefix(dotted): array
        for name, array in weights.items()
        if name.startswith(dotted) and name != dotted
    }
    if not chosen:
        there = dict.fromkeys(name.partition(".")[0] for name in weights)
        raise CommandError(
            f"{path}: no tensor under prefix {prefix!r}; names start with "
            + ", ".join(repr(first) for first in list(there)[:8])
            + (", ..." if len(there) > 8 else "")
        )
    return chosen


def _dotted(prefix: str) -> str:
    return prefix.rstrip(".") + "."
