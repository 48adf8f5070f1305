"""Time things turn by turn: every round samples every contestant once, in CPU and wall time.

Whatever else the machine does meets all alike, so that the ratio in the same round is worth more
than the times.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice, repeat
from time import perf_counter, process_time
from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]  # (rounds, 2): microseconds per call, CPU and wall
Clocks = Callable[[], tuple[float, float]]  # seconds: CPU of the process, wall

SAMPLE = 5e-4  # seconds: short enough to fall between two interruptions, mostly
LONG = 1e-2  # seconds: a call of this length has its weights in the cache soon enough
ROUNDS = (5, 151)


def clocks() -> tuple[float, float]:
    """Return the seconds of this process's CPU time, and those of the wall's clock."""
    return process_time(), perf_counter()


class Contestant:
    """What is timed, and how many calls make a sample."""

    def __init__(
        self,
        run: Callable[[int], object],
        enter: Callable[[], object] | None = None,
        clocks: Clocks = clocks,
    ) -> None:
        """`run(calls)` makes so many calls, after `enter()`, which is not timed."""
        self._run, self._enter, self._clocks = run, enter, clocks
        self.calls = 1
        took, _ = self.seconds(1)
        if took < LONG:  # or else the first call, which finds nothing in the cache, tells enough
            took, _ = self.seconds(1)
        while took < SAMPLE / 2:
            self.calls *= 2
            took, _ = self.seconds(self.calls)
        self.calls = max(1, round(self.calls * SAMPLE / took))
        self.first_look = 1e6 * took  # microseconds per call
        if took < LONG:
            self.first_look = min(self.sample()[0] for _ in range(3))

    def seconds(self, calls: int) -> tuple[float, float]:
        """CPU and wall seconds of so many calls."""
        if self._enter:
            self._enter()
        cpu, wall = self._clocks()
        self._run(calls)
        cpu_end, wall_end = self._clocks()
        return cpu_end - cpu, wall_end - wall

    def sample(self) -> tuple[float, float]:
        """Microseconds per call: CPU, wall."""
        cpu, wall = self.seconds(self.calls)
        return 1e6 * cpu / self.calls, 1e6 * wall / self.calls

    def warm(self) -> None:
        """Make some calls unmeasured, to have the weights back in the cache."""
        if self.first_look < 1e6 * LONG:
            self.seconds(max(1, self.calls // 4))


def calling(call: Callable[[], object]) -> Callable[[int], None]:
    """Return `run` of a Contestant: calls `call`."""

    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            call()

    return run


def calling_with(call: Callable[[Any], object], inputs: Sequence[Any]) -> Callable[[int], None]:
    """Return `run` of a Contestant: calls `call` with the inputs in turn."""

    def run(calls: int) -> None:
        for x in islice(cycle(inputs), calls):
            call(x)

    return run


def interleave(
    calls: Mapping[str, Callable[[], object] | Contestant],
    seconds: float,
    rounds: tuple[int, int] = ROUNDS,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Times]:
    """Time every one of `calls` once in every round.

    Parameters
    ----------
    calls : mapping of name to callable without arguments, or to Contestant
    seconds : float
        After so long, and the least number of rounds, no more is begun.
    rounds : (int, int)
        The least and the most.
    progress : callable, optional
        Gets the part that is done, 0 to 1, after every round.

    Returns
    -------
    dict of name to array (rounds, 2)
        Microseconds per call: CPU time of the process, wall time.
    """
    contestants = {
        name: call if isinstance(call, Contestant) else Contestant(calling(call))
        for name, call in calls.items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    least, most = rounds
    collects = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = perf_counter()
        for done in range(1, most + 1):
            for name, contestant in contestants.items():
                contestant.warm()
                times[name].append(contestant.sample())
            spent = perf_counter() - start
            enough = done == most or (done >= least and spent > seconds)
            if progress:
                by_time = min(spent / seconds, done / least, 1.0) if seconds > 0 else 0.0
                progress(1.0 if enough else max(done / most, by_time))
            if enough:
                break
    finally:
        if collects:
            gc.enable()
    return {name: np.array(values) for name, values in times.items()}


def paired(times: Times, base: Times, column: int = 0) -> float:
    """Median over the rounds of `times` over `base` in the same round; column 0: CPU, 1: wall."""
    return float(np.median(times[:, column] / base[:, column]))


def geometric_mean(ratios: Iterable[float]) -> float:
    """Return the mean of ratios."""
    return float(np.exp(np.mean(np.log(list(ratios)))))
