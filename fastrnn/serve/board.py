"""`Board`: the figures of several processes, in memory that they share."""

from __future__ import annotations

import mmap
import os

import numpy as np

from fastrnn.serve.figures import Figures, keys


class Board:
    """Has a row for each process, made before they are forked.

    A process writes its own row, and anybody reads all of them: numbers of eight bytes each, so
    that none is read half written. Who takes the row of one that is gone counts on from there.
    """

    def __init__(self, rows: int) -> None:
        self._keys = keys()
        shape = rows, len(self._keys) + 2  # then its process, and how often it was taken
        self._memory = mmap.mmap(-1, 8 * shape[0] * shape[1])
        self._cells = np.frombuffer(self._memory, np.float64).reshape(shape)
        self._base = np.zeros(len(self._keys))
        self._row = 0

    def take(self, row: int) -> None:
        """Say that the figures of this process go into `row`."""
        self._row = row
        cells = self._cells[row]
        cells[self._keys.index("streams")] = 0
        self._base = cells[:-2].copy()
        cells[-2] = os.getpid()
        cells[-1] += 1

    def publish(self, figures: Figures) -> None:
        """Write the figures of this process into its row."""
        self._cells[self._row, :-2] = self._base + [figures[key] for key in self._keys]

    def leave(self, row: int) -> None:
        """Say that the process of `row` is gone: its streams are, what it counted stays."""
        self._cells[row, self._keys.index("streams")] = 0
        self._cells[row, -2] = 0

    def total(self) -> Figures:
        """Return the sums over all rows."""
        sums = self._cells[:, :-2].sum(axis=0).tolist()
        return dict(zip(self._keys, sums, strict=True))

    def processes(self) -> list[int]:
        """Return the processes that are there now."""
        return [int(process) for process in self._cells[:, -2] if process]

    def restarts(self) -> int:
        """How often a row was taken anew."""
        return int(np.maximum(self._cells[:, -1] - 1, 0).sum())
