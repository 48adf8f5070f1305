"""Along time: normalisation over features or channels."""

from __future__ import annotations

from fastrnn.models.along_time.elementwise import kept_apart
from fastrnn.models.along_time.parts import Cannot, Part, Seen, along


@along("BatchNormalization")
def batch_normalization(seen: Seen) -> Part | Cannot:
    """Each channel by itself."""
    return kept_apart(seen, {1}, "normalisation")


@along("LayerNormalization", "RMSNormalization")
def layer_normalization(seen: Seen) -> Part | Cannot:
    """Over the axes from one on."""
    fact = seen.fact(0)
    assert fact is not None
    rank = len(fact.axes)
    return kept_apart(
        seen, set(range(seen.attributes.get("axis", -1) % rank, rank)), "normalisation"
    )


@along("InstanceNormalization", "GroupNormalization")
def instance_normalization(seen: Seen) -> Part | Cannot:
    """Over all axes but the batch's."""
    fact = seen.fact(0)
    assert fact is not None
    return kept_apart(seen, set(range(1, len(fact.axes))), "normalisation")


@along("LpNormalization")
def lp_normalization(seen: Seen) -> Part | Cannot:
    """Over one axis."""
    fact = seen.fact(0)
    assert fact is not None
    return kept_apart(seen, {seen.attributes.get("axis", -1) % len(fact.axes)}, "normalisation")
