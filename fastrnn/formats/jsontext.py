"""JSON from a file, with what it will take in memory counted before it is parsed."""

from __future__ import annotations

import json
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats.source import Budget, shown

# Bytes that CPython takes at most, measured on 3.11: a list with room for 4, a dict with room for
# 8, an element (a pointer with its share of a list that grows, and a float), and an entry of a dict
# that grows, with its key but for the key's text.
_LIST, _DICT, _ELEMENT, _ENTRY = 96, 240, 40, 240


def parse(text: bytes, budget: Budget, what: str) -> Any:
    """The value that `text` (UTF-8, a mark before it or not) stands for.

    A name that comes twice in an object is refused.

    Raises
    ------
    FormatError
        It is not JSON, or takes more memory than is left in the budget.
    """
    budget.take(
        len(text) * (1 if text.isascii() else 4) * 2  # decoded whole, and once more as strings
        + text.count(b"[") * _LIST
        + text.count(b"{") * _DICT
        + text.count(b",") * _ELEMENT
        + text.count(b":") * _ENTRY
    )
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique)
    except RecursionError:
        raise FormatError(f"{what} is JSON nested too deep") from None
    except FormatError as error:
        raise FormatError(f"{what} {error}") from None
    except ValueError as error:
        raise FormatError(f"{what} is not JSON: {str(error)[:200]}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise FormatError(f"has the name {shown(twice)} twice in one object")
    return made
