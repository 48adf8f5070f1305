"""`fastrnn trace` of a whole model: the gates of one of its recurrent nodes."""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from fastrnn.cli.models.given import is_batch, states_of
from fastrnn.cli.models.options import load
from fastrnn.cli.output import USAGE, CommandError, plural
from fastrnn.cli.trace_input import read_array
from fastrnn.models import Model

Array = npt.NDArray[np.floating]


def traced(args: argparse.Namespace) -> tuple[str, dict[str, Array]]:
    """Run the model on `args.input`: the cell of the node `args.prefix`, and its gates and states.

    Returns
    -------
    str, dict of arrays (L, D, T, H)
        "LSTM", "GRU" or "RNN"; as a layer's `trace` of the row that is asked for.
    """
    model = load(argparse.Namespace(**{**vars(args), "prefix": ""}))  # it names a node here
    (name, x), batch = _input(args, model)
    states = states_of(model, x.shape[batch])
    try:
        found = model.trace(args.prefix, **{name: x}, **states)
    except (ValueError, TypeError) as error:
        raise CommandError(f"{args.file}: {error}") from None
    rows = found["h"].shape[3]
    if args.row is None and rows > 1:
        raise CommandError(f"{args.input}: {plural(rows, 'row')}, say which with --row", USAGE)
    row = args.row or 0
    if not 0 <= row < rows:
        raise CommandError(f"--row {row}: expected 0 to {rows - 1} ({args.input})", USAGE)
    cell = {"forget": "LSTM", "update": "GRU"}
    kind = next((cell[gate] for gate in found if gate in cell), "RNN")
    return kind, {gate: values[:, :, :, row] for gate, values in found.items()}


def _input(args: argparse.Namespace, model: Model) -> tuple[tuple[str, Array], int]:
    """The one input that is no state, and which of its axes is the batch."""
    names = [name for name in model.inputs if name not in model.states]
    if len(names) != 1:
        raise CommandError(
            f"{args.file}: the inputs are {', '.join(names)}, expected one: --fix the others", USAGE
        )
    (name,) = names
    value = model.inputs[name]
    x = read_array(args.input)
    axes = value.shape or ()
    batch = next((axis for axis, n in enumerate(axes) if is_batch(n, axis)), 0)
    if x.ndim == len(axes) - 1:
        x = np.expand_dims(x, batch)
    return (name, np.array(x, np.dtype(str(value.element)))), batch
