"""`Unrolled`: a model along time, as graphs of turns that are made once and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from fastrnn.models.along_time import schedule
from fastrnn.models.along_time.analysis import Analysis, analyse
from fastrnn.models.along_time.axes import InputAxes, find_axes, noise
from fastrnn.models.along_time.facts import Fact, measure
from fastrnn.models.along_time.turn import Draft, Kept, recurrent_states
from fastrnn.models.graph import Graph
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.runner import Runner
from fastrnn.models.step import Binder

_TURNS = 256  # that are kept
_MOST_PHASES = 1 << 16  # before a period is found


@dataclass(frozen=True)
class Turn:
    """What happens with so many frames in one phase, for a batch.

    before, after: what is kept; made: the outputs that have frames, the first of the graph's.
    """

    runner: Runner
    before: tuple[Kept, ...]
    after: tuple[Kept, ...]
    made: tuple[str, ...]
    takes: tuple[int, ...]  # of the inputs
    phase: int  # afterwards


class Unrolled:
    """A graph whose frames come one after another. Any number of threads may use it.

    Raises ValueError where the graph does not run along time, naming the node.
    """

    def __init__(self, graph: Graph, binder: Binder, said: int | Mapping[str, int] | None) -> None:
        for node in graph.nodes:
            if node.branches is not None:
                raise ValueError(f"{node}: which branch it takes is known only when it runs")
        self.graph, self._binder = graph, binder
        self._plan = Plan.of(graph, binder)
        self.axes: InputAxes = find_axes(graph, self._plan, said)
        facts = measure(graph, binder, self._noise, self.axes.single, self.axes.frames)
        self.analysis: Analysis = analyse(graph, facts)
        self.outputs: dict[str, Fact] = {
            name: self.analysis.facts[value] for name, value in graph.outputs.items()
        }
        self._phases: list[schedule.Phase] = []
        self._numbers: dict[schedule.Phase, int] = {}
        self._lock = Lock()
        self._turns: OrderedDict[Any, Turn] = OrderedDict()
        self._still: dict[int, dict[str, Array]] = {}
        self._number(schedule.start(self.analysis.parts))
        self.delay, self.prompt = self._delay()

    def _noise(self, rows: int, frames: int) -> list[Array]:
        lengths = {}
        for name, axis in self.axes.time.items():
            lengths[name, axis] = frames
            batch = self.axes.batch[name]
            if batch is not None:
                lengths[name, batch] = rows
        return noise(self.graph.inputs, lengths)

    def _number(self, phase: schedule.Phase) -> int:
        if phase not in self._numbers:
            self._numbers[phase] = len(self._phases)
            self._phases.append(phase)
        return self._numbers[phase]

    def _schedule(self, phase: schedule.Phase, frames: int, last: bool) -> Any:
        given = {value.name: frames for value in self.graph.inputs}
        return schedule.turn(self.analysis.parts, given, phase, last)

    def _delay(self) -> tuple[dict[str, int], bool]:
        """By how many frames each output lags at most, and whether each frame in is one out at once."""
        phase, seen = self._phases[0], set()
        delay = dict.fromkeys(self.outputs, 0)
        prompt = True
        for _ in range(_MOST_PHASES):
            if phase in seen:
                break
            seen.add(phase)
            _, counts, phase = self._schedule(phase, 1, False)
            prompt &= all(counts[value] == 1 for value in self.graph.outputs.values())
            try:
                _, rest, _ = self._schedule(phase, 0, True)
            except ValueError:
                continue
            for name, value in self.graph.outputs.items():
                delay[name] = max(delay[name], rest[value])
        return delay, prompt and not any(delay.values())

    def turn(self, phase: int, frames: int, last: bool, rows: int) -> Turn:
        """The turn of so many frames and rows; raises ValueError where inputs of a node end apart."""
        key = (phase, frames, last, rows)
        turn = self._turns.get(key)
        if turn is None:
            turn = self._make(phase, frames, last, rows)
            with self._lock:
                self._turns[key] = turn
                while len(self._turns) > _TURNS:
                    self._turns.popitem(last=False)
        return turn

    def _make(self, phase: int, frames: int, last: bool, rows: int) -> Turn:
        turned, counts, after = self._schedule(self._phases[phase], frames, last)
        facts = self.analysis.facts
        draft = Draft(self.graph, facts, rows, self.still(rows), last)
        for part, one in zip(self.analysis.parts, turned, strict=True):
            draft.take(part, one)
        given = {value.name: frames for value in self.graph.inputs}
        graph = draft.finished(given, counts)
        with self._lock:
            number = self._number(after)
        own = [name for name, value in self.graph.outputs.items() if counts[value]]
        inputs = [*(facts[v.name] for v in self.graph.inputs if frames), *(k.fact for k in draft.before)]
        outputs = [*(self.outputs[name] for name in own), *(k.fact for k in draft.after)]
        runner = Runner(
            graph, self._binder, ([f.batch for f in inputs], [f.batch for f in outputs])
        )
        takes = tuple(range(len(self.graph.inputs))) if frames else ()
        return Turn(runner, tuple(draft.before), tuple(draft.after), tuple(own), takes, number)

    def still(self, rows: int) -> dict[str, Array]:
        """The values without frames, for a batch."""
        found = self._still.get(rows)
        if found is None:
            names = self.analysis.still
            graph = Graph(
                self.graph.nodes, self.graph.constants, self.graph.inputs,
                {name: name for name in names}, self.graph.declared, self.graph.budget,
            )  # fmt: skip
            made = Plan.of(graph, self._binder).run(self._noise(rows, self.axes.frames)) if names else []
            found = dict(zip(names, made, strict=True))
            self._still[rows] = found
        return found

    def begin(self, rows: int) -> dict[str, Array]:
        """What is kept before the first frame, (B, ...)."""
        kept: dict[str, Array] = {}
        facts = self.analysis.facts
        arrays = {**self.graph.constants, **self.still(rows)}
        for part in self.analysis.parts:
            for number, window in part.windows.items():
                if window.lead:
                    fact = facts[part.node.inputs[number]]
                    array = np.full(fact.shape(rows, window.lead), window.fill, fact.dtype)
                    kept[f"{part.node.outputs[0]}<{number}"] = _front(array, fact)
            if part.states:
                for state, number in zip(recurrent_states(part, facts), part.states, strict=True):
                    shape = state.fact.shape(rows, 0)
                    name = part.node.inputs[number] if number < len(part.node.inputs) else ""
                    array = np.broadcast_to(arrays[name], shape) if name else np.zeros(shape)
                    kept[state.key] = _front(array.astype(state.fact.dtype), state.fact)
        return kept


def _front(array: Array, fact: Fact) -> Array:
    """The rows in front, in memory, too."""
    axis = fact.batch
    moved: Sequence[Any] | Array = array[None] if axis is None else np.moveaxis(array, axis, 0)
    return np.array(moved, order="C")
