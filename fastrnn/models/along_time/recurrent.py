"""Along time: recurrent nodes, whose states stay."""

from __future__ import annotations

from fastrnn.models.along_time.parts import ONE, Cannot, Part, Seen, along, only


@along("LSTM", "GRU", "RNN")
def recurrent(seen: Seen) -> Part | Cannot:
    """Forward in time, step by step."""
    axis = only(seen)
    if isinstance(axis, Cannot):
        return axis
    assert seen.node.op is not None
    if seen.attributes.get("direction", "forward") != "forward":
        return Cannot(f"direction={seen.attributes['direction']!r} begins at the last frame")
    layout = seen.attributes.get("layout", 0)
    if axis != (1 if layout else 0):
        return Cannot("it runs along another axis than time")
    if seen.fact(4) is not None:
        return Cannot("it has sequence_lens, lengths of whole sequences")
    for name in seen.node.outputs[1:]:
        if name and _is_read(seen, name):
            return Cannot(f"its output {name!r} is the state after the last frame")
    count = 2 if seen.node.op.name == "LSTM" else 1
    return Part({0: ONE}, 1 if layout else 0, states=(5, 6)[:count])


def _is_read(seen: Seen, name: str) -> bool:
    return name in seen.graph.outputs.values() or any(
        name in node.inputs for node in seen.graph.nodes
    )
