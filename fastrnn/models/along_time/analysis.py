"""A graph along time: its parts, or the node that does not run along it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastrnn.models.along_time.elementwise import pointwise
from fastrnn.models.along_time.facts import Fact
from fastrnn.models.along_time.parts import ONE, RULES, Cannot, Part, Seen
from fastrnn.models.graph import Graph, Node
from fastrnn.models.ops import table

_IDENTITY = table.TABLE["", "Identity"][-1]
_STACK = "pkg.torch.onnx.stack_trace"  # where torch's exporter writes what made a node


@dataclass(frozen=True)
class Analysis:
    """What runs along time, and what does not.

    parts: of the nodes that have frames, in order. facts: of all values.
    still: values without frames that are the same in every call, whatever the inputs.
    steady: nodes without frames that read inputs without time, in order.
    """

    parts: tuple[Part, ...]
    facts: Mapping[str, Fact]
    still: tuple[str, ...]
    steady: tuple[Node, ...]


def analyse(graph: Graph, facts: Mapping[str, Fact]) -> Analysis:
    """Find the part of each node.

    Raises
    ------
    ValueError
        A node does not run along time; it is named, with the reason and where it comes from.
    """
    known = dict(facts)
    parts: list[Part] = []
    for node in graph.nodes:
        inputs = [known[name] for name in node.inputs if name]
        outputs = [known[name] for name in node.outputs if name and name in known]
        if all(fact.time is None and not fact.odd for fact in inputs):
            reason = _made_from_counts(inputs, outputs)
            if reason:
                raise _refused(node, reason)
            continue
        answer = _asked(Seen(node, known, graph))
        if isinstance(answer, Cannot):
            raise _refused(node, answer.reason)
        if answer is not _NOTHING:
            parts += _with_trim(replace(answer, node=node), known)
    _check_outputs(graph, known)
    steady = _steady(graph, known, parts)
    nodes = [*steady, *(part.node for part in parts)]
    made = {name for node in nodes for name in node.outputs}
    given = {value.name for value in graph.inputs}
    read = {name for node in nodes for name in node.inputs if name}
    still = read - made - given - graph.constants.keys()
    return Analysis(
        tuple(parts), known, tuple(sorted(n for n in still if not known[n].counts)), steady
    )


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


def _with_trim(part: Part, facts: dict[str, Fact]) -> list[Part]:
    """A part whose output's first or last frames are not used, as two."""
    if part.trim is None:
        return [part]
    name, inner = part.node.outputs[0], f"{part.node.outputs[0]}~untrimmed"
    while inner in facts:
        inner += "~"
    facts[inner] = facts[name]
    whole = replace(part, node=replace(part.node, outputs=(inner,)), trim=None)
    cut = Node(_IDENTITY, (inner,), (name,), {}, part.node.source)
    return [whole, Part({0: part.trim}, part.axis, node=cut)]


def _made_from_counts(inputs: list[Fact], outputs: list[Fact]) -> str:
    """Why a node without frames makes some, or reads their number."""
    if any(fact.time is not None or fact.odd for fact in outputs):
        return "it makes something for each frame out of the number of frames"
    changes = any(fact.counts for fact in outputs) and any(fact.counts for fact in inputs)
    if changes and any(fact.dtype.kind == "f" for fact in outputs):
        return "it reads the number of frames as a number"
    return ""


def _check_outputs(graph: Graph, facts: Mapping[str, Fact]) -> None:
    for name, value in graph.outputs.items():
        if facts[value].time is None or facts[value].merged:
            node = next((n for n in graph.nodes if value in n.outputs), None)
            where = f"{node}: " if node is not None else ""
            raise ValueError(f"{where}output {name!r} has no axis of time")


def _refused(node: Node, reason: str) -> ValueError:
    source = node.source.metadata.get(_STACK) or node.source.doc
    line = source.strip().splitlines()[-1].strip()[:200] if source.strip() else ""
    return ValueError(f"{node}: does not run along time: {reason}{f' ({line})' if line else ''}")
