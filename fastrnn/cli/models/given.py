"""Inputs to run a model with: those recorded in its file, or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.output import USAGE, CommandError
from fastrnn.models import Model

Array = npt.NDArray[Any]

SEED = 0
BATCH_NAMES = ("batch", "batch_size", "batchsize", "b", "n")  # of an axis
MOST_BYTES = 1 << 30  # of one input


def random_inputs(
    model: Model,
    rows: int,
    frames: int,
    shapes: Mapping[str, tuple[int, ...]],
    like: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Return an array for every input: the same for the same model and sizes.

    Floats are normal, of deviation 0.3; states are zeros. Integers are drawn from `like`, inputs
    for which the model is known to run, or are 0.

    Parameters
    ----------
    rows, frames : int
        The lengths of axes that are called as a batch, or that come first and have no name; and of
        the others that the file leaves open.
    shapes : mapping of input name to shape
        Those that are said.
    """
    random = np.random.default_rng(SEED)
    states = states_of(model, rows)
    for name in shapes:
        if name not in model.inputs:
            raise CommandError(f"--shape {name}: expected one of {', '.join(model.inputs)}", USAGE)
    made = {}
    for name, value in model.inputs.items():
        dtype = np.dtype(str(value.element))
        if name in states and name not in shapes:
            made[name] = states[name]
            continue
        if name not in shapes and value.shape is None:
            raise CommandError(f"input {name!r} may have any shape: say it with --shape", USAGE)
        shape = shapes.get(name) or tuple(
            n if isinstance(n, int) else rows if is_batch(n, axis) else frames
            for axis, n in enumerate(value.shape or ())
        )
        if np.prod(shape, dtype=object) * dtype.itemsize > MOST_BYTES:
            raise CommandError(f"input {name!r} of {shape} is too large to be made up", USAGE)
        if dtype.kind == "f":
            made[name] = (0.3 * random.standard_normal(shape)).astype(dtype)
        elif like is not None and name in like and like[name].size:
            made[name] = random.choice(like[name].reshape(-1), shape).astype(dtype)
        else:
            made[name] = np.zeros(shape, dtype)
    return made


def call(model: Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs by name.

    Raises
    ------
    CommandError
        If the inputs do not fit: shapes that were made up may not.
    """
    try:
        answer = model(**inputs)
    except (ValueError, TypeError) as error:
        raise CommandError(
            f"{error} (with {described(inputs)}; other shapes: --shape NAME=N,N,...)"
        ) from None
    if isinstance(answer, dict):
        return answer
    return dict(zip(model.outputs, [answer], strict=True))


def states_of(model: Model, rows: int) -> dict[str, Array]:
    """Return what so many streams begin with, by name."""
    if not model.states:
        return {}
    state = model.stream(rows).state
    return state if isinstance(state, dict) else dict(zip(model.states, [state], strict=True))


def is_batch(name: int | str | None, axis: int) -> bool:
    """Whether an axis of this name, or number, is the batch, as exporters and people call it."""
    if isinstance(name, int):
        return False
    return axis == 0 if name is None else name.lower() in BATCH_NAMES


def open_axes(model: Model, name: str) -> list[int]:
    """Return the axes of an input that the file leaves open and that are not the batch."""
    if name in model.states:
        return []
    return [
        axis
        for axis, n in enumerate(model.inputs[name].shape or ())
        if not isinstance(n, int) and not is_batch(n, axis)
    ]


def described(arrays: Mapping[str, Array]) -> str:
    """Return names and shapes in a line."""
    return ", ".join(
        f"{name} {' x '.join(map(str, array.shape)) or 'scalar'}" for name, array in arrays.items()
    )
