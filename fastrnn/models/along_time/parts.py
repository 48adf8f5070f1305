"""How one node runs along time: which frames it needs, which it gives. The table of rules.

A rule looks at a node and at the facts of its inputs, and answers with a `Part`, or with `Cannot`
and the reason. Rules stand in files named as those of the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fastrnn.models.along_time.facts import Fact
from fastrnn.models.graph import Graph, Node
from fastrnn.models.ops.table import Array

if TYPE_CHECKING:
    from fastrnn.models.along_time.turn import Draft

Emit = Callable[["Draft", Node, list[str], int], Node]
"""Makes a node of a turn: of its draft, the node, its inputs in the turn, and frames given."""


@dataclass(frozen=True)
class Cannot:
    """That a node does not run along time, and why."""

    reason: str


@dataclass(frozen=True)
class Window:
    """The frames of one input that one unit of output needs: `span` of them, `stride` apart.

    lead, trail: frames before the first and after the last: of `fill`, or the values named.
    skip, drop: first and last frames that are not used.
    """

    span: int = 1
    stride: int = 1
    lead: int = 0
    trail: int = 0
    fill: Any = 0
    lead_of: str = ""
    trail_of: str = ""
    skip: int = 0
    drop: int = 0


@dataclass(frozen=True)
class Part:
    """A node along time.

    windows: of those inputs that have frames, by their number.
    gives: frames of output for each unit.
    axis: of time in the first output, as the rule sees it.
    emit: makes the node of a turn; None: the node as it is.
    order: of a merged output, "BT" or "TB"; "": as its inputs.
    states: of a recurrent node, the numbers of the inputs that its outputs 1, 2 become.
    then: a window over the output, of single frames: what more is cut off or added at its ends.
    endless: the numbers of inputs that are the same in every frame, as many as are wanted.
    """

    windows: Mapping[int, Window]
    axis: int | None
    gives: int = 1
    emit: Emit | None = None
    order: str = ""
    states: tuple[int, ...] = ()
    then: Window | None = None
    endless: tuple[int, ...] = ()
    node: Node = field(default=None)  # type: ignore[assignment]


@dataclass(frozen=True)
class Seen:
    """What a rule sees: a node, the facts of all values, and the constants."""

    node: Node
    facts: Mapping[str, Fact]
    graph: Graph

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The node's attributes."""
        return self.node.attributes

    def fact(self, number: int) -> Fact | None:
        """The fact of an input; None if it is left out."""
        inputs = self.node.inputs
        name = inputs[number] if number < len(inputs) else ""
        return self.facts[name] if name else None

    def constant(self, number: int) -> Array | None:
        """The array of an input that is constant."""
        inputs = self.node.inputs
        return self.graph.constants.get(inputs[number]) if number < len(inputs) else None

    def times(self) -> dict[int, int]:
        """The axis of time of each input that has one."""
        facts = {i: self.fact(i) for i in range(len(self.node.inputs))}
        return {i: fact.time for i, fact in facts.items() if fact and fact.time is not None}

    def made(self) -> Fact:
        """The fact of the first output."""
        return self.facts[next(name for name in self.node.outputs if name)]


Rule = Callable[[Seen], Part | Cannot]
R = TypeVar("R", bound=Rule)

RULES: dict[tuple[str, str], Rule] = {}


def along(*names: str, domain: str = "") -> Callable[[R], R]:
    """Enter a rule for the operators `names`."""

    def enter(rule: R) -> R:
        for name in names:
            RULES[domain, name] = rule
        return rule

    return enter


ONE = Window()


def only(seen: Seen, number: int = 0, *also: int) -> int | Cannot:
    """The axis of time of an input, where no other input than `also` has frames."""
    times = seen.times()
    for other in times:
        if other != number and other not in also:
            return Cannot(f"its input {seen.node.inputs[other]!r} changes along time")
    return times[number]
