"""A clock for pytest-benchmark that replays samples which were taken before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_readings: Iterator[float] = iter(())


def replayed_time() -> float:
    """Return the next reading: 0 at the start of a round, the sample's seconds at its end."""
    return next(_readings)


def _around(samples: Sequence[float]) -> Iterator[float]:
    for us in samples:
        yield 0.0
        yield us / 1e6


class Replay:
    """Makes the fixture `benchmark` have run rounds that took `us`, microseconds each.

    Its test is marked `benchmark(timer=replayed_time)`.
    """

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(self, us: Sequence[float], name: str, info: dict[str, Any]) -> None:
        """`name` is what the table says, `info` becomes extra_info."""
        global _readings  # pytest-benchmark wants its timer to be a function
        _readings = _around(us)
        self.benchmark.name = name
        self.benchmark.extra_info.update(info)
        self.benchmark.pedantic(lambda: None, rounds=len(us))
