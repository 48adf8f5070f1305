"""`fastrnn info`: what this installation and this machine offer."""

from __future__ import annotations

import argparse
from typing import Any

from fastrnn.cli.output import OK, say_json, say_table
from fastrnn.machine import in_words, info


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "info",
        help="show versions, CPU, engines and BLAS",
        description="Show what this installation and this machine offer: what a bug report needs.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print `fastrnn.info()`."""
    found = info()
    if args.json:
        say_json(found)
    else:
        say_table([(key, in_words(value)) for key, value in found.items()])
    return OK
