"""A graph to run: operators applied to named values, checked once.

Every value has a name of its own, those in the branches of an If among them: what the file names
twice in two branches is renamed. Constants of all branches stand together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats import onnx
from fastrnn.formats.source import Budget, shown
from fastrnn.models.functions import inline
from fastrnn.models.ops import table
from fastrnn.models.ops.table import Array, Op

_NODE_BYTES = 2048  # what a node takes, roughly


@dataclass(frozen=True)
class Branch:
    """One side of an If: its nodes, which see the values before the If, and what it gives."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """An operator applied to values: `op` with `attributes`, or an If with two `branches`.

    inputs, outputs: names; "" for one that is left out.
    source: the node of the file.
    """

    op: Op | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    source: onnx.Node
    branches: tuple[Branch, Branch] | None = None

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can run.

    inputs: what a caller gives. outputs: the file's name of each output -> the value it is.
    constants: arrays by name, which nobody may write to.
    declared: what the file says of inputs and outputs.
    unused: tensors that no output needs. ignored: what else is of no account, in words.
    data_decides: whether the shapes of values may depend on more than the inputs' shapes.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: tuple[onnx.Value, ...]
    outputs: dict[str, str]
    declared: Mapping[str, onnx.Value]
    budget: Budget
    unused: tuple[str, ...] = ()
    data_decides: bool = True
    ignored: tuple[str, ...] = field(default=())


def build(model: onnx.Model) -> Graph:
    """Check the graph of a file and resolve its operators.

    Raises
    ------
    FormatError
        A name is used before it is defined or defined twice, an operator is not one that fastrnn
        runs, an attribute is not the operator's, or a tensor cannot be had.
    """
    _check_opsets(model)
    return _Checker(model).graph()


def _check_opsets(model: onnx.Model) -> None:
    version = model.opsets.get("")
    if version is not None and not table.OLDEST <= version <= table.NEWEST:
        raise FormatError(
            f"has operators of opset {version}, expected {table.OLDEST} to {table.NEWEST}"
        )


class _Scope:
    """The names that can be seen at one place, and what each is called here."""

    def __init__(self, outer: _Scope | None = None) -> None:
        self.names: dict[str, str] = {}
        self.outer = outer

    def find(self, name: str) -> str | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


class _Checker:
    def __init__(self, model: onnx.Model) -> None:
        self.model, self.budget = model, model.budget
        self.taken: set[str] = set()
        self.constants: dict[str, Array] = {}

    def graph(self) -> Graph:
        graph, scope = self.model.graph, _Scope()
        self._constants(graph, scope)
        inputs = tuple(value for value in graph.inputs if value.name not in graph.initializers)
        for value in inputs:
            self._define(value.name, scope, "an input")
        nodes = self._nodes(graph.nodes, scope, self.model.opsets)
        outputs = self._outputs(graph, scope)
        names = [value.name for value in graph.outputs]
        if len(set(names)) != len(names) or not names:
            raise FormatError("has no outputs" if not names else "has an output twice")
        needed = alive(nodes, outputs)[1]
        unused = [name for name in self.constants if name not in needed]
        return Graph(
            nodes,
            self.constants,
            inputs,
            dict(zip(names, outputs, strict=True)),
            {value.name: value for value in (*graph.inputs, *graph.outputs)},
            self.budget,
            tuple(unused),
            ignored=self.model.ignored,
        )

    def _constants(self, graph: onnx.Graph, scope: _Scope) -> None:
        for name, tensor in graph.initializers.items():
            try:
                array = tensor.array()
            except FormatError as error:
                raise FormatError(f"tensor {shown(name)} {error}") from None
            array.flags.writeable = False
            self.constants[self._define(name, scope, "a tensor")] = array

    def _define(self, name: str, scope: _Scope, what: str) -> str:
        if not name:
            raise FormatError(f"{what} has no name")
        if scope.find(name) is not None:
            raise FormatError(f"{what} is named {shown(name)}, as something before it is")
        own, count = name, 1
        while own in self.taken:  # in another branch
            own, count = f"{name}~{count}", count + 1
        self.taken.add(own)
        scope.names[name] = own
        return own

    def _nodes(
        self, nodes: tuple[onnx.Node, ...], scope: _Scope, opsets: Mapping[str, int]
    ) -> tuple[Node, ...]:
        made = []
        for node, versions in inline(nodes, opsets, self.model.functions, self.budget):
            self.budget.take(_NODE_BYTES)
            made.append(self._node(node, scope, versions))
        return tuple(made)

    def _node(self, node: onnx.Node, scope: _Scope, opsets: Mapping[str, int]) -> Node:
        inputs = []
        for name in node.inputs:
            found = scope.find(name) if name else ""
            if found is None:
                raise FormatError(f"{node}: input {shown(name)} is defined nowhere before it")
            inputs.append(found)
        branches = None
        if (node.domain, node.op) == ("", "If"):
            branches = self._branches(node, scope, opsets)
            operator, attributes = None, {}
        else:
            operator = table.find(node, dict(opsets))
            attributes = table.attributes(node, operator)
        outputs = [
            self._define(name, scope, f"{node}: an output") if name else "" for name in node.outputs
        ]
        return Node(operator, tuple(inputs), tuple(outputs), attributes, node, branches)

    def _branches(
        self, node: onnx.Node, scope: _Scope, opsets: Mapping[str, int]
    ) -> tuple[Branch, Branch]:
        graphs = [node.attributes.get(name) for name in ("then_branch", "else_branch")]
        if len(node.inputs) != 1 or len(node.attributes) != 2:
            raise FormatError(f"{node}: expected one input and two branches")
        made = []
        for graph in graphs:
            if not isinstance(graph, onnx.Graph) or graph.inputs:
                raise FormatError(f"{node}: expected two branches without inputs")
            if len(graph.outputs) != len(node.outputs):
                raise FormatError(
                    f"{node}: has {len(node.outputs)} outputs, a branch {len(graph.outputs)}"
                )
            inner = _Scope(scope)
            self._constants(graph, inner)
            nodes = self._nodes(graph.nodes, inner, opsets)
            made.append(Branch(nodes, tuple(self._outputs(graph, inner))))
        return made[0], made[1]

    def _outputs(self, graph: onnx.Graph, scope: _Scope) -> list[str]:
        found = []
        for value in graph.outputs:
            name = scope.find(value.name) if value.name else None
            if name is None:
                raise FormatError(f"output {shown(value.name)} is defined nowhere")
            found.append(name)
        return found


def reads(node: Node) -> set[str]:
    """The names that a node reads, those that its branches read from outside among them."""
    names = {name for name in node.inputs if name}
    for branch in node.branches or ():
        inner = set(branch.outputs).union(*map(reads, branch.nodes))
        names |= inner - {name for inside in branch.nodes for name in inside.outputs}
    return names


def alive(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[list[Node], set[str]]:
    """The nodes that the outputs need, and the names of all values that they need."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.intersection(name for name in node.outputs if name):
            continue
        if node.branches is not None:
            then, other = (
                Branch(tuple(alive(branch.nodes, branch.outputs)[0]), branch.outputs)
                for branch in node.branches
            )
            node = replace(node, branches=(then, other))
        needed |= reads(node)
        kept.append(node)
    return kept[::-1], needed
