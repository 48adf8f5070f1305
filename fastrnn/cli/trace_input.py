"""The input of `fastrnn trace`: one row of an array in a .npy file."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.output import USAGE, CommandError, plural
from fastrnn.formats import npy
from fastrnn.formats.arrays import View
from fastrnn.layers.recurrent import RecurrentLayer

Array = npt.NDArray[Any]


def read_sequence(args: argparse.Namespace, layer: RecurrentLayer[Any]) -> Array:
    """Return the row of x that is asked for: (T, I), in the layer's dtype.

    Raises
    ------
    CommandError
        If the file holds no such array, or `args` do not say which of its rows.
    """
    with opened(args.input) as file:
        x = file.read(_sequence(args, file.view, layer))
    with np.errstate(over="ignore"):  # told below
        x = x.astype(layer.dtype, copy=False)
    if not np.isfinite(x).all():
        raise CommandError(f"{args.input}: holds NaN or infinite values, expected finite ones")
    return x


def _sequence(args: argparse.Namespace, x: View, layer: RecurrentLayer[Any]) -> View:
    """Return the one row of x, up to its length: (T, I)."""
    shape, input_size = f"(shape {x.shape})", layer.input_size
    batch_first = args.batch_first or layer.batch_first
    if np.dtype(x.dtype).kind not in "fiu":
        raise CommandError(f"{args.input}: dtype {x.dtype}, expected real numbers")
    if len(x.shape) not in (2, 3):
        want = "(B, T, I)" if batch_first else "(T, B, I)"
        raise CommandError(
            f"{args.input}: {len(x.shape)} dimensions, expected {want} or (T, I) {shape}"
        )
    if x.shape[-1] != input_size:
        raise CommandError(
            f"{args.input}: {x.shape[-1]} features, expected input_size={input_size} {shape}"
        )
    if len(x.shape) == 2:
        if args.row is not None or args.lengths is not None:
            raise CommandError("--row and --lengths need an x with rows, (T, B, I)", USAGE)
        steps, offset, stride = x.shape[0], 0, x.strides[0]
    else:
        rows, time = (0, 1) if batch_first else (1, 0)
        row, steps = _row(args, x.shape[rows], x.shape[time])
        offset, stride = row * x.strides[rows], x.strides[time]
    if not steps:
        raise CommandError(f"{args.input}: no time steps, expected at least 1 {shape}")
    return View(x.dtype, (steps, input_size), (stride, x.strides[-1]), offset)


def read_array(path: str) -> Array:
    """Return the array in a .npy file; CommandError if it holds none of real numbers."""
    with opened(path) as file:
        if np.dtype(file.view.dtype).kind not in "fiu":
            raise CommandError(f"{path}: dtype {file.view.dtype}, expected real numbers")
        return file.whole()


@contextmanager
def opened(path: str) -> Iterator[npy.Npy]:
    """Open a .npy file, which has to be a regular one."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CommandError(f"{path}: not a regular file", USAGE)
    with npy.opened(path) as file:
        yield file


def _row(args: argparse.Namespace, rows: int, steps: int) -> tuple[int, int]:
    """Return which of so many rows of so many steps is asked for, and its own steps."""
    row = 0 if args.row is None and rows == 1 else args.row
    if row is None:
        raise CommandError(f"{args.input}: {plural(rows, 'row')}, say which with --row", USAGE)
    if not 0 <= row < rows:
        raise CommandError(f"--row {row}: expected 0 to {rows - 1} ({args.input})", USAGE)
    if args.lengths is None:
        return row, steps
    if len(args.lengths) != rows or not all(1 <= length <= steps for length in args.lengths):
        raise CommandError(
            f"--lengths: expected {plural(rows, 'number')} from 1 to {steps} ({args.input})", USAGE
        )
    return row, args.lengths[row]
