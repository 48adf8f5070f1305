"""Along time: softmax."""

from __future__ import annotations

from fastrnn.models.along_time.elementwise import kept_apart
from fastrnn.models.along_time.parts import Cannot, Part, Seen, along


@along("Softmax", "LogSoftmax", "Hardmax")
def softmax(seen: Seen) -> Part | Cannot:
    """Over one axis; in old versions over all from one on."""
    fact = seen.fact(0)
    assert fact is not None
    assert seen.node.op is not None
    rank = len(fact.axes)
    old = seen.node.op.since < 13
    axis = seen.attributes.get("axis", 1 if old else -1) % rank
    return kept_apart(seen, set(range(axis, rank)) if old else {axis}, seen.node.op.name.lower())
