"""`Unrolled`: a model along time, as graphs of turns that are made once and kept."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from fastrnn.models.along_time.analysis import Analysis, analyse
from fastrnn.models.along_time.axes import InputAxes, find_axes
from fastrnn.models.along_time.facts import Axis, Fact, measure
from fastrnn.models.along_time.phases import Phases
from fastrnn.models.along_time.turn import Draft, Kept, ends, recurrent_states, waiting
from fastrnn.models.graph import Graph
from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan
from fastrnn.models.runner import MOST_ROWS, Run, Runner
from fastrnn.models.step import Binder
from fastrnn.models.trial import noise

PHASE = "phase"  # the key of a state that says which it is
_TURNS = 256  # that are kept
_STILL = 16  # batches whose values without frames are kept; turns hold what they need themselves


@dataclass(frozen=True)
class Turn:
    """What happens with so many frames in one phase, for a batch.

    before, after: what is kept; made: the outputs that have frames, the first of the graph's.
    """

    runner: Runner
    before: tuple[Kept, ...]
    after: tuple[Kept, ...]
    made: tuple[str, ...]
    phase: int  # afterwards


class Advanced(NamedTuple):
    """What came of some frames: arrays (B, ...) of outputs by name, of what is kept instead of
    before by key, the keys of what is no longer kept, and the phase.
    """

    made: dict[str, Array]
    kept: dict[str, Array]
    gone: list[str]
    phase: int


class Settled(NamedTuple):
    """A run after which all is as before it, but for what is in its arrays (B, ...).

    given, made: its inputs and outputs with their frames, by name. kept: by key, where it reads
    what is kept and where it leaves that for the next run. give_back: to be called once it is not
    needed any more.
    """

    run: Run
    give_back: Callable[[], None]
    given: dict[str, Array]
    made: dict[str, Array]
    kept: dict[str, tuple[Array, Array]]


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
        known = self.analysis.facts
        self.inputs = {v.name: self._with_rows(known[v.name]) for v in graph.inputs}
        self.outputs = {name: self._with_rows(known[v]) for name, v in graph.outputs.items()}
        self._lock = Lock()
        self._turns: OrderedDict[Any, Turn] = OrderedDict()
        self._still: OrderedDict[int, dict[str, Array]] = OrderedDict()  # by batch
        self._phases = Phases(self.analysis.parts, self.axes.time, graph.outputs)
        self.delay, self.prompt = self._phases.delay, self._phases.prompt

    def _with_rows(self, fact: Fact) -> Fact:
        """The first axis of 1 as the batch, where a batch of 1 is written into the file."""
        ones = [i for i, axis in enumerate(fact.axes) if axis == Axis("still", 1)]
        if not self.axes.single or not ones:
            return fact
        axes = list(fact.axes)
        axes[ones[0]] = Axis("batch")
        return replace(fact, axes=tuple(axes))

    def _noise(self, rows: int, frames: int) -> list[Array]:
        lengths = dict.fromkeys(self.axes.time.items(), frames)
        for name, batch in self.axes.batch.items():
            if batch is not None:
                lengths[name, batch] = rows
        return noise(self.graph.inputs, lengths, math.inf)  # as many as the caller asked for

    @property
    def phases(self) -> int:
        """How many phases there are."""
        return len(self._phases)

    def kept(self, phase: int) -> list[Kept]:
        """What a stream keeps in a phase."""
        facts, found, at = self.analysis.facts, [], 0
        for part in self.analysis.parts:
            for number in part.windows:
                held = self._phases.at(phase)[at][0]
                at += 1
                if held:
                    found.append(waiting(part, number, facts, held))
            if part.states:
                found += recurrent_states(part, facts)
        return found

    def turn(self, phase: int, frames: int, last: bool, rows: int) -> Turn:
        """The turn of so many frames and rows; ValueError where inputs of a node end apart."""
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
        turned, counts, after = self._phases.turn(phase, frames, last)
        facts = self.analysis.facts
        draft = Draft(self.graph, facts, rows, self.still(rows), self.analysis.endless, last)
        for node in self.analysis.steady:
            draft.add(node)
        for part, one in zip(self.analysis.parts, turned, strict=True):
            draft.take(part, one)
        given = self.takes(frames)
        graph = draft.finished(given, counts)
        number = -1 if last else self._phases.number(after)
        own = [name for name, value in self.graph.outputs.items() if counts[value]]
        inputs = [*(self.inputs[name] for name in given), *(k.fact for k in draft.before)]
        outputs = [*(self.outputs[name] for name in own), *(k.fact for k in draft.after)]
        runner = Runner(
            graph, self._binder, ([f.batch for f in inputs], [f.batch for f in outputs])
        )
        return Turn(runner, tuple(draft.before), tuple(draft.after), tuple(own), number)

    def _nothing(self, rows: int) -> dict[str, Array]:
        """The outputs without frames."""
        return {
            name: front(np.empty(fact.shape(rows, 0), fact.dtype), fact)
            for name, fact in self.outputs.items()
        }

    def takes(self, frames: int) -> list[str]:
        """The inputs that a turn has: those with time if there are frames, and the others."""
        names = [value.name for value in self.graph.inputs]
        return [name for name in names if frames or name not in self.axes.time]

    def still(self, rows: int) -> dict[str, Array]:
        """The values without frames, for a batch."""
        found = self._still.get(rows)
        if found is None:
            names = self.analysis.still
            graph = Graph(
                self.graph.nodes, self.graph.constants, self.graph.inputs,
                {name: name for name in names}, self.graph.declared, self.graph.budget,
            )  # fmt: skip
            made = (
                Plan.of(graph, self._binder).run(self._noise(rows, self.axes.frames))
                if names
                else []
            )
            found = dict(zip(names, made, strict=True))
            with self._lock:
                self._still[rows] = found
                while len(self._still) > _STILL:
                    self._still.popitem(last=False)
        return found

    def shapes(self, phase: int, rows: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """The shapes (B, ...) and dtypes of what a stream keeps in a phase."""
        found = {}
        for one in self.kept(phase):
            array = front(np.empty(one.fact.shape(rows, one.frames), one.fact.dtype), one.fact)
            found[one.key] = array.shape, array.dtype
        return found

    def taken(self, state: Any, rows: int, what: str) -> tuple[int, dict[str, Array]]:
        """The phase and what is kept of a stream's `state`; ValueError if it is none."""
        phase = state.get(PHASE) if isinstance(state, Mapping) else None
        number = np.asarray(-1 if phase is None else phase)
        if number.shape or number.dtype.kind not in "iu" or not 0 <= number < self.phases:
            raise ValueError(f"{what}: state is not what a stream's `state` was")
        wanted = self.shapes(int(number), rows)
        if set(wanted) != set(state) - {PHASE}:
            raise ValueError(f"{what}: state has not the arrays of its phase")
        kept = {}
        for key, (shape, dtype) in wanted.items():
            array = np.asarray(state[key])
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{what}: state {key} is {array.dtype} {array.shape}, expected {dtype} {shape}"
                )
            kept[key] = array.copy()
        return int(number), kept

    def advance(
        self,
        phase: int,
        given: Mapping[str, Array],
        kept: Mapping[str, Array],
        frames: int,
        rows: int,
        last: bool = False,
    ) -> Advanced:
        """Let frames come to rows that are in one phase; nothing is changed.

        Parameters
        ----------
        given : arrays (B, ...) of the inputs, with `frames` along time, by name
        kept : what the rows keep, (B, ...)
        rows : B
        last : whether these are the last frames

        Raises
        ------
        ValueError
            A node cannot be computed, or its inputs end at different frames.
        """
        most = 1 if self.axes.single else MOST_ROWS
        parts = [
            self._advance(phase, given, kept, frames, last, slice(start, min(start + most, rows)))
            for start in range(0, rows, most)
        ]
        if len(parts) == 1:
            return parts[0]
        return Advanced(
            {name: np.concatenate([p.made[name] for p in parts]) for name in self.outputs},
            {key: np.concatenate([p.kept[key] for p in parts]) for key in parts[0].kept},
            parts[0].gone,
            parts[0].phase,
        )

    def _advance(
        self,
        phase: int,
        given: Mapping[str, Array],
        kept: Mapping[str, Array],
        frames: int,
        last: bool,
        rows: slice,
    ) -> Advanced:
        count = rows.stop - rows.start
        if not frames and not last:  # so that a phase is what so many frames made of it
            return Advanced(self._nothing(count), {}, [], phase)
        turn = self.turn(phase, frames, last, count)
        run = self._filled(
            turn,
            {name: array[rows] for name, array in given.items()},
            {key: array[rows] for key, array in kept.items()},
            frames,
            count,
        )
        run.run()
        arrays = [np.array(array, order="C") for array in run.outputs]
        turn.runner.give(run)
        made = dict(zip(turn.made, arrays, strict=False))
        made = self._nothing(count) | made
        after = {
            one.key: array for one, array in zip(turn.after, arrays[len(turn.made) :], strict=True)
        }
        gone = [one.key for one in turn.before if one.key not in after]
        return Advanced(made, after, gone, turn.phase)

    def _filled(
        self,
        turn: Turn,
        given: Mapping[str, Array],
        kept: Mapping[str, Array],
        frames: int,
        rows: int,
    ) -> Run:
        """A run of a turn with its inputs in it, to be run."""
        inputs = [given[name] for name in self.takes(frames)]
        inputs += [kept[one.key] for one in turn.before]
        run = turn.runner.take(rows, inputs)
        for buffer, array in zip(run.inputs, inputs, strict=True):
            np.copyto(buffer, array)
        return run

    def settled(
        self,
        phase: int,
        given: Mapping[str, Array],
        kept: Mapping[str, Array],
        frames: int,
        rows: int,
    ) -> Settled | None:
        """A run to have for oneself, with what is kept in it; arguments as of `advance`.

        None where the next such frames need another one: their phase is another, rows come in
        pieces, or nothing stays where it is.
        """
        if not frames or rows > (1 if self.axes.single else MOST_ROWS):
            return None
        turn = self.turn(phase, frames, False, rows)
        keys = [one.key for one in turn.after]
        if (
            turn.phase != phase
            or {one.key for one in turn.before} != set(keys)
            or set(turn.made) != set(self.outputs)
        ):
            return None
        run = self._filled(turn, given, kept, frames, rows)
        if run.bound is None:
            turn.runner.give(run)
            return None
        names, many = self.takes(frames), len(turn.made)
        news = dict(zip(keys, run.outputs[many:], strict=True))
        before = zip((one.key for one in turn.before), run.inputs[len(names) :], strict=True)
        return Settled(
            run,
            partial(turn.runner.give, run),
            dict(zip(names, run.inputs, strict=False)),
            dict(zip(turn.made, run.outputs[:many], strict=True)),
            {key: (array, news[key]) for key, array in before},
        )

    def begin(self, rows: int) -> dict[str, Array]:
        """What is kept before the first frame, (B, ...)."""
        if self.axes.single and rows > 1:
            return {key: np.repeat(array, rows, 0) for key, array in self.begin(1).items()}
        kept: dict[str, Array] = {}
        facts = self.analysis.facts
        arrays = {**self.graph.constants, **self.still(rows)}
        for part in self.analysis.parts:
            for number, window in part.windows.items():
                if window.lead:
                    fact = facts[part.node.inputs[number]]
                    lead = arrays[window.lead_of] if window.lead_of else window.fill
                    array = ends(fact, rows, window.lead, lead)
                    kept[waiting(part, number, facts, 0).key] = front(array, fact)
            if part.states:
                for state, number in zip(recurrent_states(part, facts), part.states, strict=True):
                    shape = state.fact.shape(rows, 0)
                    name = part.node.inputs[number] if number < len(part.node.inputs) else ""
                    array = np.broadcast_to(arrays[name], shape) if name else np.zeros(shape)
                    kept[state.key] = front(array.astype(state.fact.dtype), state.fact)
        return kept


def front(array: Array, fact: Fact) -> Array:
    """The rows in front, in memory, too."""
    axis = fact.batch
    return np.array(array[None] if axis is None else np.moveaxis(array, axis, 0), order="C")
