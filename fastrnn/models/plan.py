"""A graph as a flat list of steps over numbered values, each freed after its last use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.models.graph import Graph, Node, reads
from fastrnn.models.ops.room import resize, room
from fastrnn.models.ops.table import Array
from fastrnn.models.step import FAULTS, Binder, guard

ROOM_BYTES = 256 << 20
ROOM_FACTOR = 64
_NONE, _BIN = 0, 1  # the places of inputs that are left out, and of outputs that nobody wants


@dataclass(frozen=True)
class Step:
    """One node: what to call with the values at `inputs`, where its results go, and which values
    nobody needs afterwards; `branches` are those of an If.
    """

    node: Node
    function: Callable[..., Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    freed: tuple[int, ...]
    branches: tuple[Plan, ...] = ()


class Plan:
    """Nodes in order, bound to functions.

    A run holds at most ROOM_BYTES and ROOM_FACTOR times its inputs' and constants' bytes at a time
    in values between; what asks for more raises ValueError, which names the node.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        inputs: Iterable[str],
        outputs: Iterable[str],
        constants: Mapping[str, Array],
        binder: Binder,
    ) -> None:
        self._binder, self._constants = binder, constants
        self.inputs, outputs, nodes = tuple(inputs), tuple(outputs), tuple(nodes)
        self._places: dict[str, int] = {}
        self._start: list[Array | None] = [None, None]
        self._names = ["", ""]
        for name in self.inputs:
            self._place(name)
        self._first, self._after = 2, len(self._start)
        freed = self._last_uses(nodes, {*outputs, *constants})
        self.steps = [self._step(node, free) for node, free in zip(nodes, freed, strict=True)]
        self._results = [self._place(name) for name in outputs]
        self._shared = {id(array) for array in self._start}
        self._weight = sum(array.nbytes for array in self._start if array is not None)

    @classmethod
    def of(cls, graph: Graph, binder: Binder) -> Plan:
        """The plan of a folded graph."""
        inputs = (value.name for value in graph.inputs)
        return cls(graph.nodes, inputs, graph.outputs.values(), graph.constants, binder)

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self._start)
            self._start.append(self._constants.get(name) if name not in self.inputs else None)
            self._names.append(name)
        return self._places[name]

    def _last_uses(self, nodes: Sequence[Node], kept: set[str]) -> list[list[str]]:
        """For each node the values that nobody needs after it."""
        last: dict[str, int] = {}
        for number, node in enumerate(nodes):
            last.update(dict.fromkeys(node.outputs, number))
            last.update(dict.fromkeys(reads(node), number))
        freed: list[list[str]] = [[] for _ in nodes]
        for name, number in last.items():
            if name and name not in kept:
                freed[number].append(name)
        return freed

    def _step(self, node: Node, freed: list[str]) -> Step:
        names: Sequence[str] = node.inputs
        branches: tuple[Plan, ...] = ()
        try:
            if node.branches is None:
                function = self._binder.bind(node, self._constants)
            else:
                names, function, branches = self._either(node)
        except FAULTS as error:
            raise (
                error if isinstance(error, FormatError) else FormatError(f"{node}: {error}")
            ) from None
        return Step(
            node,
            function,
            tuple(self._place(name) if name else _NONE for name in names),
            tuple(self._place(name) if name else _BIN for name in node.outputs),
            tuple(self._place(name) for name in freed),
            branches,
        )

    def _either(self, node: Node) -> tuple[list[str], Callable[..., Any], tuple[Plan, ...]]:
        """An If whose condition is known only when it runs."""
        assert node.branches is not None
        captured = sorted(reads(replace(node, inputs=())) - self._constants.keys())
        plans = [
            Plan(branch.nodes, captured, branch.outputs, self._constants, self._binder)
            for branch in node.branches
        ]

        def choose(condition: Array, *values: Array, left: float, shapes: Any) -> Any:
            if np.size(condition) != 1:
                raise ValueError(f"the condition is {np.shape(condition)}, expected one value")
            taken = plans[0] if np.reshape(condition, ())[()] else plans[1]
            return taken.steps_over(values, left, shapes)

        return [node.inputs[0], *captured], choose, tuple(plans)

    def start(self, inputs: Sequence[Array]) -> list[Any]:
        """The values at all places as they are before the first step: inputs and constants."""
        values: list[Any] = self._start.copy()
        values[self._first : self._after] = inputs
        return values

    def run(self, inputs: Sequence[Array], shapes: dict[str, Any] | None = None) -> list[Array]:
        """The outputs for `inputs`: arrays of their own, in the graph's order.

        Parameters
        ----------
        inputs : arrays of the graph's inputs
        shapes : dict, optional
            Filled with the shape of every value, as far as the run comes.

        Raises
        ------
        ValueError
            A node cannot be computed, or would take more memory than a run may; it is named.
        """
        allowed = ROOM_BYTES + ROOM_FACTOR * (self._weight + sum(x.nbytes for x in inputs))
        with room(allowed), np.errstate(all="ignore"):
            return self._owned(self.steps_over(inputs, allowed, shapes), inputs)

    def steps_over(
        self, inputs: Sequence[Array], left: float, shapes: dict[str, Any] | None = None
    ) -> tuple[Array, ...]:
        """Run the steps in a room of `left` bytes; otherwise as `run`."""
        values = self.start(inputs)
        if shapes is not None:
            shapes.update(zip(self.inputs, map(np.shape, inputs), strict=True))
        step: Step | None = None
        try:
            for step in self.steps:
                given = [values[place] for place in step.inputs]
                guard(step.node, given)
                if step.node.branches is None:
                    made = step.function(*given)
                else:
                    made = step.function(*given, left=left, shapes=shapes)
                made = made if type(made) is tuple else (made,)
                for place, value in zip(step.outputs, made, strict=False):
                    values[place] = value
                    left -= value.nbytes if place != _BIN else 0
                    if shapes is not None:
                        shapes[self._names[place]] = value.shape
                for place in step.freed:
                    if place >= self._after:
                        left += values[place].nbytes
                    values[place] = None
                resize(left)
        except FAULTS as error:
            if isinstance(error, ValueError) and str(error).startswith("node "):
                raise  # by a node in a branch of this one
            raise ValueError(f"{step and step.node}: {error}") from error
        return tuple(values[place] for place in self._results)

    def rerun(self, inputs: Sequence[Array]) -> list[Array]:
        """As `run`, of inputs of shapes that it was run with before, and no If: what it takes is
        known to fit.
        """
        values = self.start(inputs)
        step: Step | None = None
        try:
            with np.errstate(all="ignore"):
                for step in self.steps:
                    made = step.function(*[values[place] for place in step.inputs])
                    if type(made) is tuple:
                        for place, value in zip(step.outputs, made, strict=False):
                            values[place] = value
                    else:
                        values[step.outputs[0]] = made
                    for place in step.freed:
                        values[place] = None
        except FAULTS as error:
            raise ValueError(f"{step and step.node}: {error}") from error
        return self._owned([values[place] for place in self._results], inputs)

    def _owned(self, outputs: Iterable[Any], inputs: Sequence[Array]) -> list[Array]:
        """The outputs in C order, copied where they are the caller's arrays, constants or views."""
        others = {*self._shared, *map(id, inputs)}
        owned = []
        for value in outputs:
            array = np.asarray(value)
            if not array.flags.owndata or not array.flags.c_contiguous or id(array) in others:
                array = np.array(array, order="C")
            others.add(id(array))  # one value may be two outputs
            owned.append(array)
        return owned

    def all_steps(self) -> Iterator[Step]:
        """The steps, and those in their branches."""
        for step in self.steps:
            yield step
            for branch in step.branches:
                yield from branch.all_steps()

    def layers(self) -> dict[str, Any]:
        """The recurrent layers that run in the kernels, in order, by their nodes' names.

        A node without one, or with that of another, is called as its first output.
        """
        found: dict[str, Any] = {}
        for step in self.all_steps():
            packed = getattr(step.function, "packed", None)
            if packed is not None:
                names = (step.node.source.name, *step.node.outputs)
                name = next(name for name in names if name and name not in found)
                found[name] = packed.layer
        return found
