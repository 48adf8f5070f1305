"""`Stats`: what a `Batcher` did and how long it took, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np
import numpy.typing as npt

WINDOW = 16_384  # samples kept of each quantity: p99.9 rests on 16, and is found in a millisecond

QUANTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}

# Upper edges of the bins in which all samples are counted: such counts of many processes add up.
ROWS = tuple(float(2**i) for i in range(13))
MS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 10000.0)
FEW = 16  # samples: fewer are faster counted one by one


class Window:
    """The last WINDOW samples of one quantity; count, sum, and counts by `edges` of all.

    Of len(edges) + 1 bins, bin i has the samples up to edges[i] and over the edge before.
    """

    def __init__(self, edges: tuple[float, ...] = MS) -> None:
        self._samples = np.zeros(WINDOW)
        self.edges = edges
        self.bins = [0] * (len(edges) + 1)
        self.count = 0
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Take in a sample."""
        self._samples[self.count % WINDOW] = value
        self.bins[bisect_left(self.edges, value)] += 1
        self.count += 1
        self.sum += value

    def add_all(self, values: npt.NDArray[np.float64]) -> None:
        """Take in any number of samples."""
        if len(values) < FEW:
            for value in values.tolist():
                self.add(value)
            return
        kept = values[-WINDOW:]
        at = (self.count + len(values) - len(kept)) % WINDOW
        head = min(len(kept), WINDOW - at)
        self._samples[at : at + head] = kept[:head]
        self._samples[: len(kept) - head] = kept[head:]
        self.count += len(values)
        self.sum += float(values.sum())
        found = np.bincount(np.searchsorted(self.edges, values), minlength=len(self.bins))
        self.bins = [a + b for a, b in zip(self.bins, found.tolist(), strict=True)]

    def quantiles(self) -> dict[str, float]:
        """Return p50, p99, p99.9 and max of the samples kept, and the mean of all; {} if none."""
        if self.count == 0:
            return {}
        samples = self._samples[: min(self.count, WINDOW)].copy()
        found = np.percentile(samples, list(QUANTILES.values()))
        return {
            **{name: float(value) for name, value in zip(QUANTILES, found, strict=True)},
            "max": float(samples.max()),
            "mean": self.sum / self.count,
        }


class Stats:
    """What a batcher did: counts since it was made, distributions over the last 16,384 samples.

    `batch_size` is rows in one kernel call, `step_ms` the time of that call, `queue_ms` the time
    from a call of `step` or `run` to the kernel call that has its first frame. `unmeasured` counts
    kernel calls that were made, but for whose figures there was no memory.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.batches = 0
        self.nan_frames = 0
        self.errors = 0
        self.unmeasured = 0
        self.batch_size = Window(ROWS)
        self.queue_ms = Window()
        self.step_ms = Window()

    def add(
        self, rows: int, frames: int, nan_frames: int, step_ms: float, queue_ms: npt.NDArray[Any]
    ) -> None:
        """Take in a kernel call."""
        self.frames += frames
        self.batches += 1
        self.nan_frames += nan_frames
        self.batch_size.add(rows)
        self.step_ms.add(step_ms)
        self.queue_ms.add_all(queue_ms)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, and p50, p99, p99.9, max and mean of each distribution."""
        return {
            "frames": self.frames,
            "batches": self.batches,
            "nan_frames": self.nan_frames,
            "errors": self.errors,
            "unmeasured": self.unmeasured,
            "batch_size": self.batch_size.quantiles(),
            "queue_ms": self.queue_ms.quantiles(),
            "step_ms": self.step_ms.quantiles(),
        }
