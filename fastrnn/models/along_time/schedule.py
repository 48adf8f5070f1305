"""Which frames are where: integers alone, without any array.

A phase says how many frames each window holds, and how many that are yet to come it will skip. It
depends on nothing but how many frames of the input there have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastrnn.models.along_time.parts import Part, Window

Phase = tuple[tuple[int, int], ...]  # of each window in order: frames held, frames to skip


@dataclass(frozen=True)
class Move:
    """What one window does in one turn. Frames: `held` ones, then `new` ones, then `trail`.

    cut: frames skipped in front of all. used: frames needed, after those. left: frames held
    afterwards.
    """

    held: int
    new: int
    trail: int
    cut: int
    used: int
    left: int

    @property
    def total(self) -> int:
        """How many frames there are."""
        return self.held + self.new + self.trail


@dataclass(frozen=True)
class Turned:
    """What one part does in one turn: the units that it computes, and what its windows do."""

    units: int
    moves: Mapping[int, Move]


def start(parts: Sequence[Part]) -> Phase:
    """The phase before the first frame."""
    return tuple((window.lead, window.skip) for part in parts for window in part.windows.values())


def turn(
    parts: Sequence[Part], given: Mapping[str, int], phase: Phase, last: bool
) -> tuple[list[Turned], dict[str, int], Phase]:
    """What each part does, the frames of each value, and the next phase.

    Parameters
    ----------
    given : frames of each input that come
    last : whether these are the last ones

    Raises
    ------
    ValueError
        Inputs of a node end at different frames.
    """
    counts = dict(given)
    turned, after, at = [], [], 0
    for part in parts:
        windows = list(part.windows.items())
        own = phase[at : at + len(windows)]
        at += len(windows)
        ready = []
        for (number, window), (held, skip) in zip(windows, own, strict=True):
            total = held + counts[part.node.inputs[number]] + (window.trail if last else 0)
            enough = total - min(skip, total) - window.drop
            ready.append(
                (enough - window.span) // window.stride + 1 if enough >= window.span else 0
            )
        units = min(ready)
        if last and len(set(ready)) > 1:
            raise ValueError(f"{part.node}: its inputs end at different frames")
        moves = {}
        for (number, window), (held, skip) in zip(windows, own, strict=True):
            moves[number], following = _move(
                window, held, skip, counts[part.node.inputs[number]], units, last
            )
            after.append(following)
        turned.append(Turned(units, moves))
        for name in part.node.outputs:
            counts[name] = units * part.gives
    return turned, counts, tuple(after)


def _move(
    window: Window, held: int, skip: int, new: int, units: int, last: bool
) -> tuple[Move, tuple[int, int]]:
    trail = window.trail if last else 0
    total = held + new + trail
    cut = min(skip, total)
    used = (units - 1) * window.stride + window.span if units else 0
    gone = cut + units * window.stride
    left = max(total - gone, 0)
    return (
        Move(held, new, trail, cut, used, left),
        (left, skip - cut + max(gone - total, 0)),
    )
