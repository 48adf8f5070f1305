"""Options for what tensors do not say of a layer and how it stores them, and loading with them."""

from __future__ import annotations

import argparse
from typing import Any

from fastrnn.cli.output import USAGE, CommandError
from fastrnn.layers.options import WEIGHT_DTYPES
from fastrnn.loading import load


def add_unsaid(parser: argparse.ArgumentParser) -> None:
    """Add --nonlinearity and --reset-before."""
    group = parser.add_argument_group("what tensors do not say")
    group.add_argument("--nonlinearity", choices=("tanh", "relu"), help="of an RNN (tanh)")
    group.add_argument(
        "--reset-before",
        action="store_true",
        help="of a GRU: reset gate before the product (reset_after=False)",
    )


def add_weight_dtype(parser: argparse.ArgumentParser) -> None:
    """Add --weight-dtype."""
    parser.add_argument(
        "--weight-dtype",
        choices=WEIGHT_DTYPES,
        help="what weights are stored as in memory (as in the file, or else float32)",
    )


def load_stack(args: argparse.Namespace, prefix: str, **options: Any) -> Any:
    """Load the stack of `args.file` under `prefix`, with `options` and those added here.

    Raises
    ------
    CommandError
        If the file's cell has no such option.
    """
    options["weight_dtype"] = args.weight_dtype
    unsaid: dict[str, Any] = {}
    if args.nonlinearity is not None:
        unsaid["nonlinearity"] = args.nonlinearity
    if args.reset_before:
        unsaid["reset_after"] = False
    try:
        return load(args.file, prefix, **options, **unsaid)
    except TypeError:
        if not unsaid:
            raise
        raise CommandError(
            "--nonlinearity is for an RNN, --reset-before for a GRU: the stack is neither", USAGE
        ) from None
