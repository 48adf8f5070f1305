"""Options for what an .onnx file leaves open, and loading with them."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from fastrnn.cli.output import USAGE, CommandError
from fastrnn.errors import FormatError
from fastrnn.formats import is_onnx
from fastrnn.loading import load_model
from fastrnn.models import Model

MOST = 1 << 24  # of an axis on the command line
OF_WEIGHTS = (
    "prefix",
    "nonlinearity",
    "reset_before",
    "lengths",
    "batch_first",
)  # no model has them


def add_options(parser: argparse.ArgumentParser) -> Any:
    """Add --fix and --state, and return the group that they are in."""
    group = parser.add_argument_group("of a whole model, in an .onnx file")
    group.add_argument(
        "--fix",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_fixed,
        help="an input that is the same in every call, such as sr=16000; may be repeated",
    )
    group.add_argument(
        "--state",
        metavar="IN=OUT",
        action="append",
        default=[],
        type=_pair,
        help="an input that is a state, and the output that is its next value; may be repeated",
    )
    return group


def add_shape(group: Any) -> None:
    """Add --shape, for commands that make inputs up."""
    group.add_argument(
        "--shape",
        metavar="NAME=N,N,...",
        action="append",
        default=[],
        type=_shape,
        help="the shape of an input, where the file leaves it open; may be repeated",
    )


def is_model(path: str) -> bool:
    """Whether `path` is an ONNX model; not so if it cannot be opened, which the command tells."""
    try:
        return is_onnx(path)
    except OSError:
        return False


def add_frame_shape(group: Any) -> None:
    """Add --shape, for what serves frames: with ? for axes that stay open, the batch and time."""
    group.add_argument(
        "--shape",
        metavar="NAME=N,N,...",
        action="append",
        default=[],
        type=partial(_shape, open_axes=True),
        help="the shape of an input where the file leaves it open, ? for the batch and time: "
        "input=?,576; may be repeated",
    )


def load(args: argparse.Namespace, **options: Any) -> Model:
    """Load the model `args.file` with what `add_options` added.

    Raises
    ------
    CommandError
        If an option is not for this model, or not for models at all.
    """
    for name in OF_WEIGHTS:
        if getattr(args, name, None):
            option = "PREFIX" if name == "prefix" else f"--{name.replace('_', '-')}"
            raise CommandError(f"{option} is for weights, {args.file} is a whole model", USAGE)
    if getattr(args, "weight_dtype", None):
        options.setdefault("weight_dtype", args.weight_dtype)
    try:
        return load_model(
            args.file, fixed=dict(args.fix), states=dict(args.state) or None, **options
        )
    except FormatError:
        raise
    except (ValueError, TypeError) as error:
        raise CommandError(as_typed(error), USAGE) from None


def as_typed(error: Exception) -> str:
    """A message in which load_model's arguments are the command's options."""
    text = str(error)
    for argument, option in (("shapes=", "--shape"), ("fixed=", "--fix"), ("states=", "--state")):
        text = text.replace(f"load_model's {argument}", option)
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r}, expected two names with = between them")
    return name, value


def _fixed(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        numbers = [_number(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not (name and equals and numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r}, expected NAME=NUMBER or NAME=NUMBER,NUMBER,..."
        )
    return name, numbers if len(numbers) > 1 else numbers[0]


def _shape(text: str, open_axes: bool = False) -> tuple[str, tuple[int | None, ...]]:
    name, value = _pair(text)
    try:
        shape = tuple(None if open_axes and part == "?" else int(part) for part in value.split(","))
    except ValueError:
        shape = ()
    if not shape or not all(n is None or 0 < n <= MOST for n in shape):
        more = ", or ?" if open_axes else ""
        raise argparse.ArgumentTypeError(f"{text!r}, expected NAME=N,N,... of 1 to {MOST}{more}")
    return name, shape


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
