"""What callers pass: batches of sequences in their layouts, and pairs of states."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def time_major(x: Array) -> Array:
    """(B, T, I) as a contiguous (T, B, I)."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


def batch_major(y: Array) -> Array:
    """(T, B, P) as a view (B, T, P)."""
    return y.swapaxes(0, 1)


def state_pair(value: Any, what: str, names: str) -> tuple[Any, Any]:
    """Return `value`, LSTM's two states, as a tuple; ValueError if it is not a pair."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{what} is {type(value).__name__}, expected a pair {names}")
    return value[0], value[1]


def state_parts(value: Any, has_cell_state: bool, what: str) -> tuple[Any, Any]:
    """Return `value`, a state, as (h, c): LSTM's pair, or h and None; ValueError if it is none."""
    return state_pair(value, what, "(h, c)") if has_cell_state else (value, None)


def row_order(
    lengths: npt.ArrayLike, steps: int, batch: int, what: str
) -> tuple[Array, npt.NDArray[np.intp] | None]:
    """Order rows so that those alive at any step come first, as torch's PackedSequence does.

    Parameters
    ----------
    lengths : int array (B,), each 0 to T

    Returns
    -------
    order : int array (B,)
        Rows, longest first.
    rows : intp array (T,) or None
        How many rows are alive at each step. None if there are no rows, whatever T is.

    Raises
    ------
    ValueError
        For lengths of another shape or outside 0 to T.
    TypeError
        For lengths that are not integers.
    """
    try:
        array = np.asarray(lengths)
    except ValueError as error:
        raise TypeError(f"{what}: lengths is no array of integers: {error}") from None
    if array.shape != (batch,):
        raise ValueError(f"{what}: lengths is {array.shape}, expected one for each row ({batch},)")
    if array.dtype.kind not in "iu" and batch:
        raise TypeError(f"{what}: lengths has dtype {array.dtype}, expected integers")
    bad = np.flatnonzero((array < 0) | (array > steps))
    if bad.size:
        raise ValueError(
            f"{what}: lengths[{bad[0]}] is {array[bad[0]]}, expected 0 to {steps} steps"
        )
    order = np.argsort(-array.astype(np.int64), kind="stable")
    if not batch:
        return order, None
    rows = batch - np.searchsorted(np.sort(array), np.arange(steps), side="right")
    return order, rows.astype(np.intp)
