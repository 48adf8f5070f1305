"""A graph along time: its parts, or the node that does not run along it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.models.along_time.elementwise import pointwise
from fastrnn.models.along_time.facts import Fact
from fastrnn.models.along_time.parts import ONE, RULES, Cannot, Part, Seen
from fastrnn.models.graph import Graph, Node
from fastrnn.models.ops import table

if TYPE_CHECKING:
    from fastrnn.models.along_time.turn import Draft

_IDENTITY = table.TABLE["", "Identity"][-1]
_STACK = "pkg.torch.onnx.stack_trace"  # where torch's exporter writes what made a node


@dataclass(frozen=True)
class Analysis:
    """What runs along time, and what does not.

    parts: of the nodes that have frames, in order. facts: of all values.
    still: values without frames that are the same in every call, whatever the inputs.
    steady: nodes without frames that read inputs without time, in order.
    endless: the parts of values that are the same in every frame.
    """

    parts: tuple[Part, ...]
    facts: Mapping[str, Fact]
    still: tuple[str, ...]
    steady: tuple[Node, ...]
    endless: Mapping[str, Part]


def analyse(graph: Graph, facts: Mapping[str, Fact]) -> Analysis:
    """Find the part of each node.

    Raises
    ------
    ValueError
        A node does not run along time; it is named, with the reason and where it comes from.
    """
    known = dict(facts)
    parts: list[Part] = []
    endless: dict[str, Part] = {}
    for node in graph.nodes:
        inputs = [known[name] for name in node.inputs if name]
        outputs = [known[name] for name in node.outputs if name and name in known]
        if all(fact.time is None and not fact.odd for fact in inputs):
            spread = _spread(node, known)
            reason = "" if spread else _made_from_counts(inputs, outputs)
            if spread:
                endless[node.outputs[0]] = spread
            elif reason:
                raise _refused(node, reason)
            continue
        answer = _asked(Seen(node, known, graph))
        if isinstance(answer, Cannot):
            raise _refused(node, answer.reason)
        if answer is _NOTHING:
            continue
        part = _apart(replace(answer, node=node), endless)
        if isinstance(part, Cannot):
            raise _refused(node, part.reason)
        if part.windows:
            parts += _with_ends(part, known)
        else:
            endless.update(dict.fromkeys(node.outputs, part))
    _check_outputs(graph, known, endless)
    alike = dict(endless.items()).values()
    steady = _steady(graph, known, [*parts, *alike])
    nodes = [*steady, *(part.node for part in (*parts, *alike))]
    made = {name for node in nodes for name in node.outputs}
    given = {value.name for value in graph.inputs}
    read = {name for node in nodes for name in node.inputs if name}
    still = read - made - given - graph.constants.keys()
    still = {name for name in still if not known[name].counts}
    fixed = {*still, *graph.constants, ""}
    for part in parts:
        ends = [n for w in part.windows.values() for n in (w.lead_of, w.trail_of)]
        for name in [*ends, *(n for i, n in enumerate(part.node.inputs) if i in part.states)]:
            if name not in fixed:
                raise _refused(part.node, f"it begins or ends with {name!r}, made from an input")
    return Analysis(tuple(parts), known, tuple(sorted(still)), steady, endless)


def _steady(graph: Graph, facts: Mapping[str, Fact], parts: list[Part]) -> tuple[Node, ...]:
    """The nodes between inputs without time and the parts that need them."""
    along = {name for part in parts for name in part.node.outputs}
    moved = {value.name for value in graph.inputs if facts[value.name].time is None}
    found = []
    for node in graph.nodes:
        if moved & set(node.inputs) and not along & set(node.outputs):
            moved.update(node.outputs)
            found.append(node)
    needed = {name for part in parts for name in part.node.inputs}
    kept = []
    for node in reversed(found):
        if needed & set(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return tuple(kept[::-1])


_NOTHING = Part({}, None)


def _asked(seen: Seen) -> Part | Cannot:
    """What the node's rule says, where it agrees with what was measured."""
    node, facts = seen.node, seen.facts
    if node.op is None:
        return Cannot("which branch it takes is known only when it runs")
    if node.op.name in ("Shape", "Size"):
        return _NOTHING  # its readers are asked
    made = [facts[name] for name in node.outputs if name and name in facts]
    for fact in (*[seen.fact(i) for i in range(len(node.inputs))], *made):
        if fact is not None and fact.odd:
            return Cannot("it has more than one axis of time, or one that is no number of frames")
    rule = RULES.get((node.op.domain, node.op.name))
    if rule is None and node.op.kind == "pointwise":
        rule = pointwise
    if rule is None:
        return Cannot(f"there is no rule for {node.op.name}")
    answer = rule(seen)
    if isinstance(answer, Cannot):
        return answer
    for number in range(len(node.inputs)):
        fact = seen.fact(number)
        if fact is not None and fact.counts and answer.emit is None:
            return Cannot("it reads the number of frames as a number")
    first = made[0]
    if first.time is None or first.time != answer.axis:
        return Cannot("its output does not lie along time as its input does")
    order = answer.order or next(
        (f.order for i in answer.windows if (f := seen.fact(i)) is not None and f.merged), ""
    )
    for name in node.outputs:
        if name and name in facts and facts[name].merged:
            seen.facts[name] = replace(facts[name], order=order)  # type: ignore[index]
    if first.merged and any(w != ONE for w in answer.windows.values()):
        return Cannot("it runs over time that is one axis with the batch")
    return answer


def _spread(node: Node, facts: Mapping[str, Fact]) -> Part | None:
    """The part of a node that repeats something without time, or one number, for each frame."""
    made = facts[node.outputs[0]]
    if node.op is None or made.time is None or made.odd or made.merged:
        return None
    if node.op.name == "Expand":
        source = facts[node.inputs[0]]
        at = made.time - len(made.axes) + len(source.axes)
        if source.counts or (at >= 0 and source.axes[at].length != 1):
            return None
    elif node.op.name != "ConstantOfShape":
        return None

    def emit(draft: Draft, node: Node, inputs: list[str], frames: int) -> Node:
        """The node with a shape that is known."""
        shape = draft.constant(np.array(made.shape(draft.rows, frames), np.int64))
        return replace(node, inputs=(*inputs[:-1], shape))

    return Part({}, made.time, emit=emit, node=node)


def _apart(part: Part, endless: Mapping[str, Part]) -> Part | Cannot:
    """A part whose endless inputs are told from those whose frames come."""
    same = tuple(n for n in part.windows if part.node.inputs[n] in endless)
    if not same:
        return part
    rest = {n: window for n, window in part.windows.items() if n not in same}
    if any(part.windows[n] != ONE for n in same) or part.gives != 1 or part.then or part.states:
        return Cannot("it runs over what is the same in every frame")
    return replace(part, windows=rest, endless=same)


def _with_ends(part: Part, facts: dict[str, Fact]) -> list[Part]:
    """A part, and a second one for what is cut off or added at the ends of its output."""
    if part.then is None:
        return [part]
    name, inner = part.node.outputs[0], f"{part.node.outputs[0]}~inner"
    while inner in facts:
        inner += "~"
    facts[inner] = facts[name]
    whole = replace(part, node=replace(part.node, outputs=(inner,)), then=None)
    cut = Node(_IDENTITY, (inner,), (name,), {}, part.node.source)
    return [whole, Part({0: part.then}, part.axis, node=cut)]


def _made_from_counts(inputs: list[Fact], outputs: list[Fact]) -> str:
    """Why a node without frames makes some, or reads their number."""
    if any(fact.time is not None or fact.odd for fact in outputs):
        return "it makes something for each frame out of the number of frames"
    changes = any(fact.counts for fact in outputs) and any(fact.counts for fact in inputs)
    if changes and any(fact.dtype.kind == "f" for fact in outputs):
        return "it reads the number of frames as a number"
    return ""


def _check_outputs(graph: Graph, facts: Mapping[str, Fact], endless: Mapping[str, Part]) -> None:
    for name, value in graph.outputs.items():
        if facts[value].time is None or facts[value].merged or value in endless:
            node = next((n for n in graph.nodes if value in n.outputs), None)
            where = f"{node}: " if node is not None else ""
            raise ValueError(f"{where}output {name!r} has no axis of time")


def _refused(node: Node, reason: str) -> ValueError:
    source = node.source.metadata.get(_STACK) or node.source.doc
    line = source.strip().splitlines()[-1].strip()[:200] if source.strip() else ""
    return ValueError(f"{node}: does not run along time: {reason}{f' ({line})' if line else ''}")
