"""`Phases`: all the states that a schedule can be in, and what is late in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fastrnn.models.along_time import schedule
from fastrnn.models.along_time.parts import Part
from fastrnn.models.along_time.schedule import Phase, Turned

_MOST = 1 << 16  # before they come round


class Phases:
    """The phases by number, in the order in which frames lead to them; then they come round.

    A phase depends on nothing but how many frames there were.

    delay: by how many frames each output lags, at most. prompt: whether each frame in is one frame
    out at once.

    Parameters
    ----------
    inputs : those that have frames
    outputs : name -> value
    """

    def __init__(
        self, parts: Sequence[Part], inputs: Iterable[str], outputs: Mapping[str, str]
    ) -> None:
        self._parts, self._inputs = parts, tuple(inputs)
        self._phases: list[Phase] = []
        self._numbers: dict[Phase, int] = {}
        self.delay = dict.fromkeys(outputs, 0)
        self.prompt = True
        phase = schedule.start(parts)
        while phase not in self._numbers:
            if len(self._phases) == _MOST:
                raise ValueError(f"what waits does not come round within {_MOST} frames")
            number = self._numbers[phase] = len(self._phases)
            self._phases.append(phase)
            try:
                _, rest, _ = self.turn(number, 0, True)
            except ValueError:  # too few frames for the whole call, too
                rest = {}
            _, counts, phase = self.turn(number, 1, False)
            for name, value in outputs.items():
                self.delay[name] = max(self.delay[name], rest.get(value, 0))
                self.prompt &= counts[value] == 1
        self.prompt &= not any(self.delay.values())

    def __len__(self) -> int:
        return len(self._phases)

    def at(self, number: int) -> Phase:
        """The phase of a number."""
        return self._phases[number]

    def number(self, phase: Phase) -> int:
        """The number of a phase."""
        return self._numbers[phase]

    def turn(
        self, number: int, frames: int, last: bool
    ) -> tuple[list[Turned], dict[str, int], Phase]:
        """As `schedule.turn`, from a phase on, with so many frames of each input."""
        given = dict.fromkeys(self._inputs, frames)
        return schedule.turn(self._parts, given, self._phases[number], last)
