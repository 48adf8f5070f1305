"""tract."""

from __future__ import annotations

from fastrnn.bench.cases import Case, Weights
from fastrnn.bench.peers.runner import Runner


def runners(case: Case, weights: Weights) -> list[Runner]:
    """None yet."""
    return []
