"""The name of a stack in a file: a PREFIX behind it, in every command."""

from __future__ import annotations

import argparse


def add_prefix(
    parser: argparse.ArgumentParser, text: str = "which stack, if FILE has several"
) -> None:
    """Add PREFIX, and --prefix and --stack, which say the same, to `parser`."""
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help=text)
    for name in ("--prefix", "--stack"):
        parser.add_argument(name, metavar="PREFIX", dest="named_prefix", help=argparse.SUPPRESS)


def settle_prefix(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Make `args.prefix` of what was said either way; a usage error where they differ."""
    named = getattr(args, "named_prefix", None)
    if named is None:
        return
    if args.prefix and args.prefix != named:
        parser.error(f"PREFIX is {args.prefix}, and --prefix or --stack {named}: one is enough")
    args.prefix = named
