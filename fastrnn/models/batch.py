"""Which axis of each input, state and output is the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.formats import onnx
from fastrnn.models.ops.table import Array
from fastrnn.models.trial import TooLargeError, noise

Run = Callable[[list[Array]], list[Array]]

# What axes that are neither the batch nor written may be, tried in this order.
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 576, 1024, 2048, 4096)


@dataclass(frozen=True)
class Batch:
    """Where the batch stands.

    axes: name -> axis. None: the value has none, and a batch of it has one in front.
    single: whether one row at a time can be computed.
    """

    axes: Mapping[str, int | None]
    single: bool


def find_batch(
    inputs: Mapping[str, onnx.Value],
    outputs: Mapping[str, onnx.Value],
    states: Mapping[str, str],
    run: Run,
) -> Batch:
    """Find the batch by the axes' names and by running two batches.

    Parameters
    ----------
    states : input -> output
    run : computes the outputs from the inputs; raises ValueError where they do not fit

    Raises
    ------
    ValueError
        The states have a batch, and an input has none; or the inputs are too large to be tried.
    """
    symbol = _symbol(inputs, states)
    axes: dict[str, int | None] = {}
    for name, value in {**inputs, **outputs}.items():
        axes[name] = _axis(value, symbol)
    for before, after in states.items():
        axes[after] = axes[before]
    if symbol is not None:
        for name in inputs:
            if axes[name] is None:
                raise ValueError(
                    f"input {name!r} is {inputs[name].shape}, without an axis for the batch that "
                    "the states have: fix it with load_model's fixed="
                )
        measured = _measure(inputs, outputs, axes, run)
        if measured is not None:
            return Batch(measured, single=False)
    return Batch(_ones(inputs, outputs, states), single=True)


def _symbol(inputs: Mapping[str, onnx.Value], states: Mapping[str, str]) -> str | None:
    """The name of the batch: of the axis that is not written in the states; "" if it has none."""
    names: set[str] = set()
    for name in states or inputs:
        shape = inputs[name].shape
        free = [axis for axis in shape or () if not isinstance(axis, int)]
        if not free:
            return None
        names = names & {axis or "" for axis in free} or {free[0] or ""}
    return min(names)


def _axis(value: onnx.Value, symbol: str | None) -> int | None:
    if value.shape is None:
        return 0 if symbol is not None else None
    free = [i for i, axis in enumerate(value.shape) if not isinstance(axis, int)]
    named = [i for i in free if symbol and value.shape[i] == symbol]
    return named[0] if named else free[0] if free else None


def _measure(
    inputs: Mapping[str, onnx.Value],
    outputs: Mapping[str, onnx.Value],
    axes: Mapping[str, int | None],
    run: Run,
) -> dict[str, int | None] | None:
    """The axes with those of the outputs measured; None where rows are not computed apart."""
    for length in LENGTHS:
        lengths = {
            (name, i): 3 if i == axes[name] else length
            for name, value in inputs.items()
            for i, axis in enumerate(value.shape or ())
            if i == axes[name] or not isinstance(axis, int)
        }
        try:
            three = noise(inputs.values(), lengths)
            made = run(three)
            rows = [axes[name] for name in inputs]
            one = run([np.take(x, [1], axis) for x, axis in zip(three, rows, strict=True)])
        except TooLargeError:
            if length == LENGTHS[0]:
                raise
            break
        except ValueError:
            continue
        found = dict(axes)
        for name, many, lone in zip(outputs, made, one, strict=True):
            moved = [
                i for i, (a, b) in enumerate(zip(many.shape, lone.shape, strict=True)) if a != b
            ]
            if len(moved) != 1:
                return None
            found[name] = moved[0]
            if not np.array_equal(np.take(many, [1], moved[0]), lone, equal_nan=True):
                return None
        return found
    return dict(axes)


def _ones(
    inputs: Mapping[str, onnx.Value], outputs: Mapping[str, onnx.Value], states: Mapping[str, str]
) -> dict[str, int | None]:
    """Where a batch of one is written: the first axis of one, of (L, 1, H) the second."""
    after = {output: name for name, output in states.items()}
    found: dict[str, int | None] = {}
    for name, value in {**inputs, **outputs}.items():
        said = inputs[after[name]] if name in after else value
        ones = [i for i, axis in enumerate(said.shape or ()) if axis == 1]
        is_state = name in states or name in after
        found[name] = (
            1 if is_state and len(said.shape or ()) == 3 and 1 in ones else next(iter(ones), None)
        )
    return found


def pieces(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut rows into pieces of a few sizes: powers of two up to `most`."""
    start = 0
    while start < rows:
        size = min(most, 1 << (rows - start).bit_length() - 1)
        yield start, start + size
        start += size


def lone_shape(value: onnx.Value, axis: int | None) -> tuple[Any, ...]:
    """The shape of one row, the batch left out."""
    shape = tuple(value.shape or ())
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]
