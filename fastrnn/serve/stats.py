"""`Stats`: what a `Batcher` did and how long it took, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

WINDOW = 16_384  # samples kept of each quantity: p99.9 rests on 16, and is found in a millisecond

QUANTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


class Window:
    """The last WINDOW samples of one quantity, and the count and sum of all."""

    def __init__(self) -> None:
        self._samples = np.zeros(WINDOW)
        self.count = 0
        self.sum = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Take in any number of samples."""
        kept = values[-WINDOW:]
        at = (self.count + len(values) - len(kept)) % WINDOW
        head = min(len(kept), WINDOW - at)
        self._samples[at : at + head] = kept[:head]
        self._samples[: len(kept) - head] = kept[head:]
        self.count += len(values)
        self.sum += float(sum(values))

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

    `batch_size` is rows in one kernel call, `step_ms` the time of that call in the worker thread,
    `queue_ms` the time from a call of `step` or `run` to the kernel call that has its first frame.
    `unmeasured` counts kernel calls that were made, but for whose figures there was no memory.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.batches = 0
        self.nan_frames = 0
        self.errors = 0
        self.unmeasured = 0
        self.batch_size = Window()
        self.queue_ms = Window()
        self.step_ms = Window()

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
