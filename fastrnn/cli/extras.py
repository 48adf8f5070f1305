"""Options that need more than fastrnn itself: a clear word where it is not installed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastrnn.cli.output import USAGE, CommandError, printable


@contextmanager
def without_extra(option: str, extra: str) -> Iterator[None]:
    """Make a usage error of an import that fails, which names what `option` needs.

    Only for packages outside fastrnn: a module of its own that is missing is a bug.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "fastrnn":
            raise
        raise CommandError(
            f"{option} needs {error.name.partition('.')[0]}: pip install 'fastrnn[{extra}]'", USAGE
        ) from None


def with_suffix(*suffixes: str) -> Callable[[str], str]:
    """Return an argparse type for a file to write: a mistaken name overwrites no weights."""

    def check(path: str) -> str:
        if os.path.splitext(path)[1].lower() not in suffixes:
            raise argparse.ArgumentTypeError(
                f"{printable(path)!r}, expected it to end in {' or '.join(suffixes)}"
            )
        return path

    return check
