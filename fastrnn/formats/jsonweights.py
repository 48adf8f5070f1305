"""Weights that were dumped as JSON, `json.dump({k: v.tolist() for ...})`: nested lists of numbers.

JSON does not say an element type; the numbers are taken for float32, as the models that are saved
so are. Objects, and lists of anything else, are levels of names, as in a checkpoint.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn.formats.arrays import MAX_DIMENSIONS
from fastrnn.formats.inventory import Contents, Stored, Weights
from fastrnn.formats.names import MAX_NAME
from fastrnn.formats.said import holds_weights, said_by
from fastrnn.formats.source import Budget

MAX_FILE = 256 << 20  # bytes; as text a weight takes some 20
_EXACT = 1 << 24  # every int up to here is a float32


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with `head` can be one: text that is a JSON object."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    return text.startswith(b"{") and b"\0" not in head


def contents(value: dict[str, Any], budget: Budget) -> Contents:
    """Every list of numbers in `value`, by the names and indices that lead to it.

    Lists whose rows differ in length, and ints that float32 has not, are skipped; numbers, text and
    other single values are no tensors.

    Raises
    ------
    FormatError
        As Contents.add.
    """
    found = Contents("json", Weights(budget))
    for name, numbers in _lists(value, budget):
        if isinstance(numbers, dict):
            said = said_by(numbers) if holds_weights(numbers) else None
            if said is not None:
                found.weights.said[name] = said
            continue
        made = _array(numbers, budget)
        if isinstance(made, str):
            found.add(name, made)
        else:
            found.add(name, Stored(name, made.dtype, made.shape, made.copy))
    return found


def _lists(value: dict[str, Any], budget: Budget) -> Iterator[tuple[str, Any]]:
    """Every list of numbers with its name, and before them each object that they are in."""
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        parent, holder = pending.pop()
        pairs = holder.items() if isinstance(holder, dict) else enumerate(holder)
        if isinstance(holder, dict):
            yield parent, holder
        below = []
        for key, child in pairs:
            if isinstance(child, (dict, list)) and child:
                name = f"{parent}.{key}"[: MAX_NAME + 1] if parent else str(key)[: MAX_NAME + 1]
                budget.take(len(name))
                if isinstance(child, list) and _first(child):
                    yield name, child
                else:
                    below.append((name, child))
        pending.extend(reversed(below))


def _first(numbers: list[Any]) -> bool:
    """Whether the first thing in nested lists is a number."""
    value: Any = numbers
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shape(numbers: list[Any]) -> tuple[int, ...]:
    shape: list[int] = []
    value: Any = numbers
    while isinstance(value, list) and len(shape) <= MAX_DIMENSIONS:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _array(numbers: list[Any], budget: Budget) -> np.ndarray | str:
    shape = _shape(numbers)
    if len(shape) > MAX_DIMENSIONS:
        return f"is nested more than {MAX_DIMENSIONS} deep"
    flat: list[Any] = numbers
    for length in shape[1:]:
        if not all(isinstance(row, list) and len(row) == length for row in flat):
            return "has rows of different lengths"
        budget.take(8 * len(flat) * length)
        flat = [value for row in flat for value in row]
    if not all(type(value) in (int, float) for value in flat):
        return "holds something else than numbers"
    if any(type(value) is int and abs(value) > _EXACT for value in flat):
        return "holds ints that float32 has not"
    budget.take(2 * 4 * len(flat))
    with np.errstate(over="ignore"):
        return np.array(flat, np.float32).reshape(shape)
