"""A graph as a flat list of steps over numbered values, each freed after its last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.models.fold import reads
from fastrnn.models.graph import Branch, Graph, Node
from fastrnn.models.ops.room import resize, room
from fastrnn.models.ops.table import Array
from fastrnn.models.step import FAULTS, Prepared, bind, guard

ROOM_BYTES = 1 << 30
ROOM_FACTOR = 256


@dataclass(frozen=True)
class Step:
    """One node: what to call with the values of `inputs` (None for -1), where results go (nowhere
    for -1), and which values nobody needs afterwards.
    """

    node: Node
    function: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    freed: tuple[int, ...]


class Plan:
    """The steps of a folded graph.

    A run holds at most ROOM_BYTES and ROOM_FACTOR times its inputs' and constants' bytes at a time
    in values between; what asks for more raises ValueError, which names the node.
    """

    def __init__(
        self, graph: Graph, options: Mapping[str, Any], shared: Prepared | None = None
    ) -> None:
        self.graph = graph
        self.shared = shared or Prepared()
        names = [value.name for value in graph.inputs]
        self._build(graph.nodes, names, graph.outputs.values(), graph.constants, options)

    @classmethod
    def of_branch(
        cls, branch: Branch, captured: Sequence[str], whole: Plan, options: Mapping[str, Any]
    ) -> Plan:
        """The plan of one side of an If, whose inputs are what it reads from outside."""
        plan, graph = cls.__new__(cls), whole.graph
        plan.graph, plan.shared = graph, whole.shared
        plan._build(branch.nodes, captured, branch.outputs, graph.constants, options)
        return plan

    def _build(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[str],
        outputs: Any,
        constants: Mapping[str, Array],
        options: Mapping[str, Any],
    ) -> None:
        self.options = options
        self._places: dict[str, int] = {}
        self._start: list[Array | None] = []
        self._own = {name: array for name, array in constants.items() if name not in inputs}
        for name in inputs:
            self._place(name)
        self.arity = len(self._start)
        last: dict[str, int] = {}
        for number, node in enumerate(nodes):
            last.update(dict.fromkeys(reads(node), number))
            last.update({name: number for name in node.outputs if name and name not in last})
        kept = set(outputs)
        freed: list[list[str]] = [[] for _ in nodes]
        for name, number in last.items():
            if name not in kept and name not in self._own:
                freed[number].append(name)
        self.steps = [self._step(node, free) for node, free in zip(nodes, freed, strict=True)]
        self.results = [self._place(name) for name in outputs]
        self._names = list(self._places)
        self.weight = sum(array.nbytes for array in self._start if array is not None)

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self._start)
            self._start.append(self._own.get(name))
        return self._places[name]

    def _step(self, node: Node, freed: list[str]) -> Step:
        if node.branches is None:
            names: Sequence[str] = node.inputs
            try:
                function = bind(node, self._own, self.options, self.shared)
            except FAULTS as error:
                raise FormatError(f"{node}: {error}") from None
        else:
            names, function = self._either(node)
        return Step(
            node,
            function,
            tuple(self._place(name) if name else -1 for name in names),
            tuple(self._place(name) if name else -1 for name in node.outputs),
            tuple(self._place(name) for name in freed),
        )

    def _either(self, node: Node) -> tuple[list[str], Callable[..., Any]]:
        """An If whose condition is known only when it runs."""
        assert node.branches is not None
        captured = sorted(reads(replace(node, inputs=())) - self._own.keys())
        plans = [Plan.of_branch(b, captured, self, self.options) for b in node.branches]

        def choose(condition: Array, *values: Array, left: float, shapes: Any) -> Any:
            if np.size(condition) != 1:
                raise ValueError(f"the condition is {np.shape(condition)}, expected one value")
            taken = plans[0] if np.reshape(condition, ())[()] else plans[1]
            return taken.steps_over(values, left, shapes)

        return [node.inputs[0], *captured], choose

    def start(self, inputs: Sequence[Array]) -> list[Any]:
        """The numbered values as they are before the first step: inputs and constants."""
        values: list[Any] = self._start.copy()
        values[: self.arity] = inputs
        return values

    def run(self, inputs: Sequence[Array], shapes: dict[str, Any] | None = None) -> list[Array]:
        """The outputs for `inputs`, in the graph's order.

        Parameters
        ----------
        inputs : arrays of the graph's inputs
        shapes : dict, optional
            Filled with the shape of every value.

        Raises
        ------
        ValueError
            A node cannot be computed, or would take more memory than a run may; it is named.
        """
        allowed = ROOM_BYTES + ROOM_FACTOR * (self.weight + sum(x.nbytes for x in inputs))
        with room(allowed), np.errstate(all="ignore"):
            return list(self.steps_over(inputs, allowed, shapes))

    def steps_over(
        self,
        inputs: Sequence[Array],
        left: float,
        shapes: dict[str, Any] | None = None,
    ) -> tuple[Array, ...]:
        """Run the steps in a room of `left` bytes; otherwise as `run`."""
        values = self.start(inputs)
        step: Step | None = None
        try:
            for step in self.steps:
                given = [values[i] if i >= 0 else None for i in step.inputs]
                guard(step.node, given)
                if step.node.branches is None:
                    made = step.function(*given)
                else:
                    made = step.function(*given, left=left, shapes=shapes)
                for place, value in zip(
                    step.outputs, made if type(made) is tuple else (made,), strict=False
                ):
                    if place >= 0:
                        values[place] = value
                        left -= value.nbytes
                for place in step.freed:
                    if place >= self.arity:
                        left += getattr(values[place], "nbytes", 0)
                    if shapes is not None:
                        self._note(place, values[place], shapes)
                    values[place] = None
                resize(left)
        except FAULTS as error:
            raise ValueError(f"{step and step.node}: {error}") from error
        if shapes is not None:
            for place, value in enumerate(values):
                self._note(place, value, shapes)
        return tuple(np.asarray(values[place]) for place in self.results)

    def layers(self) -> list[Any]:
        """The recurrent layers that run in the kernels, in order."""
        packed = (getattr(step.function, "packed", None) for step in self.steps)
        return [one.layer for one in packed if one is not None]

    def _note(self, place: int, value: Any, shapes: dict[str, Any]) -> None:
        if value is not None:
            shapes[self._names[place]] = np.shape(value)
