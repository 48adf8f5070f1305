"""The input of `fastrnn trace`: one row of an array in a .npy file."""

from __future__ import annotations

import argparse
import os
import stat
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.output import USAGE, CommandError, plural
from fastrnn.layers.recurrent import RecurrentLayer

Array = npt.NDArray[Any]


def read_sequence(args: argparse.Namespace, layer: RecurrentLayer) -> Array:
    """Return the row of x that is asked for: (T, I), in the layer's dtype.

    Raises
    ------
    CommandError
        If the file holds no such array, or `args` do not say which of its rows.
    """
    x = read_array(args.input)
    want = "(B, T, I)" if args.batch_first else "(T, B, I)"
    shape = f"(shape {x.shape})"
    if x.ndim not in (2, 3):
        raise CommandError(f"{args.input}: {x.ndim} dimensions, expected {want} or (T, I) {shape}")
    if x.shape[-1] != layer.input_size:
        raise CommandError(
            f"{args.input}: {x.shape[-1]} features, expected input_size={layer.input_size} {shape}"
        )
    if x.ndim == 2:
        if args.row is not None or args.lengths is not None:
            raise CommandError("--row and --lengths need an x with rows, (T, B, I)", USAGE)
    else:
        x = _row(args, x.swapaxes(0, 1) if args.batch_first else x)
    if not len(x):
        raise CommandError(f"{args.input}: no time steps, expected at least 1 {shape}")
    with np.errstate(over="ignore"):  # told below
        x = np.array(x, layer.dtype)
    if not np.isfinite(x).all():
        raise CommandError(f"{args.input}: holds NaN or infinite values, expected finite ones")
    return x


def read_array(path: str) -> Array:
    """Return the array of real numbers in an .npy file; CommandError if there is none."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise CommandError(f"{path}: not a regular file", USAGE)
    try:
        # Mapped: the shape in the header is held against the file's length, not allocated.
        with np.errstate(over="ignore"):  # of sizes: NumPy refuses them afterwards
            x = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # NumPy lets through what its parser and a wrong header raise
        reason = " ".join(str(error).split())
        raise CommandError(f"{path}: cannot be read as .npy: {reason}") from None
    if not isinstance(x, np.ndarray):
        x.close()
        raise CommandError(f"{path}: an .npz archive, expected the .npy of one array")
    if x.dtype.kind not in "fiu":
        raise CommandError(f"{path}: dtype {x.dtype}, expected real numbers")
    return x


def _row(args: argparse.Namespace, x: Array) -> Array:
    """Return the one row (T, I) of x (T, B, I), up to its length."""
    steps, rows = x.shape[:2]
    row = 0 if args.row is None and rows == 1 else args.row
    if row is None:
        raise CommandError(f"{args.input}: {plural(rows, 'row')}, say which with --row", USAGE)
    if not 0 <= row < rows:
        raise CommandError(f"--row {row}: expected 0 to {rows - 1} ({args.input})", USAGE)
    if args.lengths is None:
        return x[:, row]
    if len(args.lengths) != rows or not all(1 <= length <= steps for length in args.lengths):
        raise CommandError(
            f"--lengths: expected {plural(rows, 'number')} from 1 to {steps} ({args.input})", USAGE
        )
    return x[: args.lengths[row], row]
