"""What the name of a tensor can be."""

from __future__ import annotations

from fastrnn.errors import FormatError
from fastrnn.formats.source import shown

MAX_NAME = 1000
EXPECTED = f"expected printable text of at most {MAX_NAME} characters"


def is_name(name: str) -> bool:
    """Whether it is printable, and not endless."""
    return len(name) <= MAX_NAME and name.isprintable()


def check_name(name: str) -> None:
    """FormatError unless `name` can be the name of a tensor."""
    if not is_name(name):
        raise FormatError(f"a tensor is named {shown(name)}, {EXPECTED}")
