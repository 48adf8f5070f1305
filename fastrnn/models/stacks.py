"""The recurrent nodes of a graph, one by one and as stacks: nodes of which each feeds the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, onnx
from fastrnn.formats.opening import title
from fastrnn.formats.source import shown
from fastrnn.layers import GRU, LAYERS, LSTM, RNN
from fastrnn.models.fold import fold
from fastrnn.models.graph import Graph, Node, build
from fastrnn.models.ops import packed
from fastrnn.models.ops.cells import GATES
from fastrnn.models.ops.recurrent import Attributes, Weights, check_weights
from fastrnn.models.probe import probe

_SCOPE = re.compile(r"'([^']*)'")  # torch writes a list of the modules that a node is in
_MOST_TEXT = 2000


@dataclass(frozen=True)
class Found:
    """One or more recurrent nodes that are the layers of a stack.

    name: the node's, or of several the scope that they are in.
    tensors: those of the file that their weights come from.
    problem: why it is no layer; "" where it is one.
    """

    name: str
    kind: str
    nodes: tuple[Node, ...]
    weights: tuple[Weights, ...]
    attributes: Attributes | None
    tensors: frozenset[str]
    problem: str = ""

    def layer(self, **options: Any) -> LSTM | GRU | RNN:
        """The stack as a layer; ValueError where it is none."""
        if self.problem or self.attributes is None:
            raise ValueError(f"{self.name}: {self.problem}")
        told = packed.cell_options(self.kind, self.attributes)
        for option, value in told.items():
            if options.setdefault(option, value) != value:
                raise ValueError(
                    f"{self.name}: {option}={options[option]!r}, in the file {value!r}"
                )
        named: dict[str, Any] = {}
        for number, weights in enumerate(self.weights):
            named |= packed.state_dict(self.kind, weights, number)
        return LAYERS[self.kind].from_state_dict(named, **options)


def load_layer(path: Readable, name: str, options: Mapping[str, Any]) -> LSTM | GRU | RNN:
    """The layer that `name` means in an ONNX file, as `fastrnn.load` says."""
    model = onnx.read(path)
    try:
        return resolve(find(build(model)), name).layer(**options)
    except (FormatError, ValueError) as error:
        raise FormatError(f"{title(path)}: {error}") from None


def find(graph: Graph) -> list[Found]:
    """Every recurrent node, and every stack of several, in the order of the graph."""
    folded = fold(graph)
    sources = _Sources(graph)
    singles = [
        _single(node, folded, sources) for node in _all(folded.nodes) if _kind(node) in GATES
    ]
    return [*_chained(singles, folded), *singles]


def resolve(found: list[Found], name: str) -> Found:
    """The stack that `name` means: a node's, a module's, or a tensor's; "" is the only one.

    Raises
    ------
    ValueError
        It means none, or several that differ.
    """
    part_of_more = {id(node) for stack in found if len(stack.nodes) > 1 for node in stack.nodes}
    whole = [s for s in found if len(s.nodes) > 1 or id(s.nodes[0]) not in part_of_more]
    if name:
        chosen = [stack for stack in found if name in (stack.name, *_names(stack))]
        chosen = chosen or [stack for stack in whole if name.strip("/") in _modules(stack)]
        chosen = chosen or [stack for stack in found if name in stack.tensors]
    else:
        chosen = whole
    different: list[Found] = []
    for stack in chosen:
        if not any(_same(stack, other) for other in different):
            different.append(stack)
    if len(different) == 1:
        return different[0]
    names = ", ".join(repr(stack.name[:200]) for stack in (different or found)[:20])
    if not found:
        raise ValueError("no LSTM, GRU or RNN node in the graph")
    if not different:
        raise ValueError(f"no recurrent node or stack {shown(name)}, expected one of {names}")
    raise ValueError(f"{len(different)} recurrent stacks, say which by its name: {names}")


def _names(stack: Found) -> tuple[str, ...]:
    """What a single node may be called by beside its name: its outputs."""
    return stack.nodes[0].outputs if len(stack.nodes) == 1 else ()


def _modules(stack: Found) -> set[str]:
    """The names of the module that a stack was, in full and without what is before: "lstm"."""
    node = stack.nodes[0].source
    scopes = _SCOPE.findall(node.metadata.get("pkg.torch.onnx.name_scopes", "")[:_MOST_TEXT])
    parts = [part for scope in scopes[-2:-1] for part in scope.split(".")]
    parts = parts or node.name.strip("/").split("/")[:-1]
    return {sep.join(parts[start:]) for start in range(len(parts)) for sep in "./"}


def _same(one: Found, other: Found) -> bool:
    """Whether two nodes have the same weights, as those in the two branches of an If may."""
    return (
        (one.kind, one.attributes, one.problem) == (other.kind, other.attributes, other.problem)
        and len(one.weights) == len(other.weights)
        and all(
            (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
            for left, right in zip(one.weights, other.weights, strict=True)
            for a, b in zip(left, right, strict=True)
        )
        and bool(one.weights)
    )


def _all(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes and those in their branches."""
    for node in nodes:
        yield node
        for branch in node.branches or ():
            yield from _all(branch.nodes)


def _kind(node: Node) -> str:
    return node.op.name if node.op is not None and not node.op.domain else ""


class _Sources:
    """Which tensors of the file a value comes from: initializers and constants."""

    def __init__(self, graph: Graph) -> None:
        self.producers = {name: node for node in _all(graph.nodes) for name in node.outputs}
        constants = {name for name, node in self.producers.items() if _kind(node) == "Constant"}
        self.tensors = constants | graph.constants.keys()

    def of(self, names: Iterable[str]) -> frozenset[str]:
        seen: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name and name not in seen:
                seen.add(name)
                left += self.producers[name].inputs if name in self.producers else ()
        return frozenset(seen & self.tensors)


def _single(node: Node, graph: Graph, sources: _Sources) -> Found:
    kind, name = _kind(node), node.source.name or node.outputs[0]
    inputs = (*node.inputs, *("",) * 8)[:8]
    unfolded = sources.producers.get(next(filter(None, node.outputs)), node)
    tensors = sources.of(unfolded.inputs[1:4])
    attributes = Attributes(**node.attributes)
    problem, weights = "", None
    missing = [i for i in inputs[1:4] if i and i not in graph.constants]
    if missing or not all(inputs[1:3]):
        problem = "its weights are not constant"
    elif inputs[7]:
        problem = "has peepholes"
    elif attributes.direction == "reverse":
        problem = "runs in reverse only"
    else:
        weights = Weights(*(graph.constants.get(i) for i in inputs[1:4]))  # type: ignore[arg-type]
        try:
            check_weights(kind, weights, attributes)
        except ValueError as error:
            problem = str(error)
        else:
            problem = packed.oddity(kind, weights, attributes)
    if problem or weights is None:
        return Found(name, kind, (node,), (), None, tensors, problem)
    return Found(name, kind, (node,), (weights,), attributes, tensors)


def _chained(singles: list[Found], graph: Graph) -> list[Found]:
    """The stacks of several nodes among them."""
    producers = {name: node for node in _all(graph.nodes) for name in node.outputs}
    by_output = {one.nodes[0].outputs[0]: one for one in singles if not one.problem}
    shapes = probe(graph) if len(by_output) > 1 else {}
    above: dict[str, Found] = {}
    for one in by_output.values():
        below = by_output.get(_fed_by(one.nodes[0].inputs[0], producers, graph, shapes))
        if below is not None and _goes_on(below, one):
            above[below.nodes[0].outputs[0]] = one
    upper = {one.nodes[0].outputs[0] for one in above.values()}
    stacks = []
    for output in above.keys() - upper:
        chain = [by_output[output]]
        while chain[-1].nodes[0].outputs[0] in above:
            chain.append(above[chain[-1].nodes[0].outputs[0]])
        stacks.append(
            Found(
                _scope([one.name for one in chain]),
                chain[0].kind,
                tuple(one.nodes[0] for one in chain),
                tuple(one.weights[0] for one in chain),
                chain[0].attributes,
                frozenset().union(*(one.tensors for one in chain)),
            )
        )
    order = {id(one.nodes[0]): number for number, one in enumerate(singles)}
    return sorted(stacks, key=lambda stack: order[id(stack.nodes[0])])


def _fed_by(
    name: str,
    producers: Mapping[str, Node],
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
) -> str:
    """The output Y of a node of which value `name` is the sequence, directions joined; or ""."""
    node = producers.get(name)
    kind = "" if node is None else _kind(node)
    if node is None or kind not in ("Squeeze", "Reshape"):
        return ""
    inner = producers.get(node.inputs[0])
    numbers = node.attributes.get("axes") if "axes" in node.attributes else None
    if numbers is None and len(node.inputs) > 1:
        numbers = graph.constants.get(node.inputs[1])
    numbers = None if numbers is None else tuple(int(n) for n in np.reshape(numbers, -1))
    if kind == "Squeeze":
        return _output_of(inner, node.inputs[0], numbers == (1,), layout=0) or _output_of(
            inner, node.inputs[0], numbers == (2,), layout=1
        )
    before, after = shapes.get(node.inputs[0], ()), shapes.get(name, ())
    joins = numbers == (0, 0, -1) or (
        len(before) == 4
        and before[0] != before[1]
        and after == (*before[:2], before[2] * before[3])
    )
    if inner is not None and _kind(inner) == "Transpose":
        joins = joins and tuple(inner.attributes.get("perm", ())) == (0, 2, 1, 3)
        return _output_of(producers.get(inner.inputs[0]), inner.inputs[0], joins, layout=0)
    return _output_of(inner, node.inputs[0], joins, layout=1)


def _output_of(node: Node | None, name: str, fits: bool, layout: int) -> str:
    """`name` where it is the output Y of a recurrent node of that layout, and `fits`; or ""."""
    if node is None or _kind(node) not in GATES or not fits or node.outputs[0] != name:
        return ""
    return name if node.attributes.get("layout", 0) == layout else ""


def _goes_on(first: Found, second: Found) -> bool:
    """Whether the second can be the layer above the first."""
    one, two = first.weights[0], second.weights[0]
    return (
        (first.kind, first.attributes) == (second.kind, second.attributes)
        and (one.bias is None) == (two.bias is None)
        and one.r.shape == two.r.shape
        and two.w.shape[2] == one.r.shape[0] * one.r.shape[2]
        and one.w.dtype == two.w.dtype
    )


def _scope(names: list[str]) -> str:
    """What the names of nodes of one module have in common ("/encoder/lstm"), or all of them."""
    parts = [name.split("/")[:-1] for name in names]
    common = [at[0] for at in zip(*parts, strict=False) if len(set(at)) == 1]
    return "/".join(common) if any(common) else " ".join(names)
