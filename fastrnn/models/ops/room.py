"""How much memory a graph may take while it runs: operators claim theirs before they take it.

A file of a few bytes can ask for any shape. Whoever runs operators says how much there is.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt


class _Left(threading.local):
    nbytes: float = math.inf


_left = _Left()


class RoomError(ValueError):
    """An operator asks for more memory than the graph may take."""


@contextmanager
def room(nbytes: float) -> Iterator[None]:
    """Let the operators that this thread runs claim at most `nbytes` at a time."""
    before = _left.nbytes
    _left.nbytes = nbytes
    try:
        yield
    finally:
        _left.nbytes = before


def resize(nbytes: float) -> None:
    """Change what is left of the room that this thread is in."""
    _left.nbytes = nbytes


def claim(shape: Sequence[int], dtype: npt.DTypeLike, times: int = 1) -> None:
    """Raise RoomError unless there is room for `times` arrays of that shape."""
    if _left.nbytes == math.inf:
        return
    nbytes = math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize * times
    if nbytes > _left.nbytes:
        shown = "x".join(map(str, shape)) if len(shape) <= 8 else f"{len(shape)} axes"
        raise RoomError(
            f"would take {nbytes if nbytes < 1 << 64 else 'far too many'} bytes for {shown}, of "
            f"{max(int(_left.nbytes), 0)} that are left"
        )
