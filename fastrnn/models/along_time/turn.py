"""`Draft`: the graph of one turn, in which frames that wait are inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastrnn.formats import onnx
from fastrnn.models.along_time.facts import Axis, Fact
from fastrnn.models.along_time.parts import Part, Window
from fastrnn.models.along_time.schedule import Move, Turned
from fastrnn.models.graph import Graph, Node
from fastrnn.models.ops import table
from fastrnn.models.ops.table import Array

# ONNX's own operators of the versions that are made here.
_READ_SHAPES = ("Shape", "Size")
_SLICE, _CONCAT, _RESHAPE, _IDENTITY = (
    table.TABLE["", name][-1] for name in ("Slice", "Concat", "Reshape", "Identity")
)


class Kept(NamedTuple):
    """Frames that wait, or a recurrent state: its key, the value it has the axes of, and frames
    (of a recurrent state 0).
    """

    key: str
    fact: Fact
    frames: int


class Draft:
    """Nodes of one turn.

    rows: the batch. before, after: what is kept, in the order of the graph's further inputs and
    outputs.
    """

    def __init__(
        self,
        graph: Graph,
        facts: Mapping[str, Fact],
        rows: int,
        still: Mapping[str, Array],
        endless: Mapping[str, Part],
        last: bool,
    ) -> None:
        self.rows = rows
        self.before: list[Kept] = []
        self.after: list[Kept] = []
        self._graph, self._facts, self._last = graph, facts, last
        self._endless = endless
        self._constants: dict[str, Array] = {**graph.constants, **still}
        self._nodes: list[Node] = []
        self._inputs: list[onnx.Value] = []
        self._outputs: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._count = 0

    def take(self, part: Part, turned: Turned) -> None:
        """Add a part's nodes."""
        inputs = [self._names.get(name, name) for name in part.node.inputs]
        for number, window in part.windows.items():
            name = part.node.inputs[number]
            new = self._names.get(name, name)
            inputs[number] = self._frames(part, number, window, turned.moves[number], new)
        if not turned.units:
            return
        for number in part.endless:
            inputs[number] = self._spread(part.node.inputs[number], turned.units)
        if part.states:
            node = self._recurrent(part, inputs)
        elif part.emit is None:
            node = replace(part.node, inputs=tuple(inputs))
        else:
            node = part.emit(self, part.node, inputs, turned.units * part.gives)
        self.add(node)
        for own, made in zip(part.node.outputs, node.outputs, strict=False):
            if own != made:
                self._names[own] = made

    def _spread(self, name: str, frames: int) -> str:
        """So many frames of a value that is the same in each."""
        part = self._endless[name]
        inputs = list(part.node.inputs)
        for number in part.endless:
            inputs[number] = self._spread(inputs[number], frames)
        if part.emit is None:
            node = replace(part.node, inputs=tuple(inputs))
        else:
            node = part.emit(self, part.node, inputs, frames)
        names = {own: self._free(own) for own in node.outputs if own}
        node = self.add(replace(node, outputs=tuple(names.get(own, "") for own in node.outputs)))
        return node.outputs[part.node.outputs.index(name)]

    def _frames(self, part: Part, number: int, window: Window, move: Move, new: str) -> str:
        """The frames that a part uses of an input; those that wait are kept."""
        fact = self._facts[part.node.inputs[number]]
        assert fact.time is not None
        key = waiting(part, number, self._facts, 0).key
        untouched = not move.new and not move.trail and move.left == move.held
        pieces = []
        if move.held and not untouched:
            pieces.append(self._keep(self.before, Kept(key, fact, move.held)))
        if move.new:
            pieces.append(new)
        if move.trail:
            trail = self._constants[window.trail_of] if window.trail_of else window.fill
            pieces.append(self.constant(ends(fact, self.rows, move.trail, trail)))
        if not pieces:
            return ""
        whole = pieces[0]
        if len(pieces) > 1:
            whole = self._made(_CONCAT, pieces, {"axis": fact.time})
        total = move.total
        if move.left and not untouched and not self._last:
            rest = self._cut(whole, fact.time, total - move.left, total, total)
            self._outputs[self._free(f"{key}>")] = rest
            self.after.append(Kept(key, fact, move.left))
        return self._cut(whole, fact.time, move.cut, move.cut + move.used, total)

    def _recurrent(self, part: Part, inputs: list[str]) -> Node:
        """A recurrent node that begins with what it ended with."""
        node = part.node
        inputs += [""] * (1 + part.states[-1] - len(inputs))
        outputs = [node.outputs[0]]
        for kept, number in zip(recurrent_states(part, self._facts), part.states, strict=True):
            inputs[number] = self._keep(self.before, kept)
            outputs.append(f"{kept.key}~")
            self._outputs[self._free(kept.key)] = outputs[-1]
            self.after.append(kept)
        return replace(node, inputs=tuple(inputs), outputs=tuple(outputs))

    def _keep(self, where: list[Kept], kept: Kept) -> str:
        name = self._free(f"{kept.key}|")
        self._inputs.append(onnx.Value(name, kept.fact.dtype.name))
        where.append(kept)
        return name

    def finished(self, inputs: Sequence[str], counts: Mapping[str, int]) -> Graph:
        """The graph: some of its inputs, the outputs that have frames, and what is kept."""
        given = [value for value in self._graph.inputs if value.name in inputs]
        made = {
            name: self._names.get(value, value)
            for name, value in self._graph.outputs.items()
            if counts[value]
        }
        return Graph(
            tuple(self._nodes),
            self._constants,
            (*given, *self._inputs),
            {**made, **self._outputs},
            {},
            self._graph.budget,
            data_decides=any(n.op is not None and n.op.name in _READ_SHAPES for n in self._nodes),
        )

    # What rules make their nodes with.

    def add(self, node: Node) -> Node:
        """Add a node."""
        self._nodes.append(node)
        return node

    def constant(self, array: Array) -> str:
        """The name of a new constant."""
        name = self._free("constant")
        array.flags.writeable = False
        self._constants[name] = array
        return name

    def renamed(self, node: Node) -> Node:
        """A node that has other attributes than the file's under outputs of its own."""
        return replace(node, outputs=tuple(f"{n}~along" if n else "" for n in node.outputs))

    def changed(self, node: Node, x: str, place: int, name: str, value: Array) -> Node:
        """A node with another value of an input, or of the attribute that was in its place."""
        if name in node.attributes:
            attributes = {**node.attributes, name: tuple(int(n) for n in value)}
            return self.renamed(replace(node, inputs=(x,), attributes=attributes))
        inputs = (x, *node.inputs[1:place], self.constant(value), *node.inputs[place + 1 :])
        return replace(node, inputs=inputs)

    def reshape(self, node: Node, x: str, shape: Array) -> Node:
        """A reshape in place of a node."""
        return self._replaced(node, _RESHAPE, (x, self.constant(shape)), {"allowzero": 1})

    def identity(self, node: Node, x: str) -> Node:
        """Nothing in place of a node."""
        return self._replaced(node, _IDENTITY, (x,), {})

    def slice(self, node: Node, x: str, *numbers: Array) -> Node:
        """A slice in place of a node: starts, ends, axes, steps."""
        return self._replaced(node, _SLICE, (x, *map(self.constant, numbers)), {})

    def _replaced(
        self, node: Node, operator: table.Op, inputs: tuple[str, ...], attributes: dict[str, Any]
    ) -> Node:
        return replace(
            node, op=operator, inputs=inputs, attributes=attributes, outputs=node.outputs[:1]
        )

    def _made(self, operator: table.Op, inputs: Sequence[str], attributes: dict[str, Any]) -> str:
        name = self._free(operator.name)
        source = onnx.Node(operator.name, "", "", tuple(inputs), (name,))
        self.add(Node(operator, tuple(inputs), (name,), attributes, source))
        return name

    def _cut(self, name: str, axis: int, start: int, stop: int, total: int) -> str:
        """Some frames of a value."""
        if (start, stop) == (0, total) or start == stop:
            return name
        where = [self.constant(np.array([n], np.int64)) for n in (start, stop, axis, 1)]
        return self._made(_SLICE, [name, *where], {})

    def _free(self, name: str) -> str:
        """A name that nothing has."""
        self._count += 1
        made = f"{name}#{self._count}"
        while made in self._facts:
            made += "#"
        return made


def ends(fact: Fact, rows: int, frames: int, values: Any) -> Array:
    """Frames before the first or after the last."""
    return np.array(np.broadcast_to(np.asarray(values, fact.dtype), fact.shape(rows, frames)))


def waiting(part: Part, number: int, facts: Mapping[str, Fact], frames: int) -> Kept:
    """Frames of an input of a part that wait."""
    return Kept(f"{part.node.outputs[0]}<{number}", facts[part.node.inputs[number]], frames)


def recurrent_states(part: Part, facts: Mapping[str, Fact]) -> list[Kept]:
    """The states of a recurrent node: (D, B, H), or (B, D, H) with layout=1."""
    node = part.node
    x, r = facts[node.inputs[0]], facts[node.inputs[2]]
    rows = x.axes[0 if node.attributes.get("layout") else 1]
    axes = [rows, Axis("still", r.axes[0].length)]
    axes = axes if node.attributes.get("layout") else axes[::-1]
    fact = Fact((*axes, Axis("still", r.axes[2].length)), x.dtype)
    return [Kept(f"{node.outputs[0]}.{i}", fact, 0) for i in range(len(part.states))]
