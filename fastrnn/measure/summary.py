"""What a record's cases say together: ratios to each peer and to the fastest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastrnn.measure.timing import geometric_mean


@dataclass(frozen=True)
class Summary:
    """Ratios are a peer's time over fastrnn's: above 1 fastrnn is faster."""

    cases: int
    by_peer: dict[str, float]  # geometric mean over the cases that the peer ran
    fastest: float  # geometric mean of the fastest peer's in each case; NaN without peers
    slower: dict[str, float]  # cases in which a peer was faster, and its ratio
    limit_fraction: float  # geometric mean of the limit over fastrnn's time


def summarise(rows: Iterable[Mapping[str, Any]]) -> Summary:
    """Sum up rows of one section "cases"; fastrnn's first row of a case counts."""
    ours: dict[str, Mapping[str, Any]] = {}
    theirs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["runner"] == "fastrnn":
            ours.setdefault(row["id"], row)
        elif row["runner"] != "torch int8":  # other outputs: no match
            theirs.setdefault(row["id"], []).append(row)
    fastest = {case: min(row["ratio"] for row in of) for case, of in theirs.items()}
    peers: dict[str, list[float]] = {}
    for of in theirs.values():
        for row in of:
            peers.setdefault(row["runner"], []).append(row["ratio"])
    return Summary(
        cases=len(ours),
        by_peer={peer: geometric_mean(ratios) for peer, ratios in peers.items()},
        fastest=geometric_mean(fastest.values()) if fastest else float("nan"),
        slower={case: ratio for case, ratio in fastest.items() if ratio < 1},
        limit_fraction=geometric_mean(row["limit_fraction"] for row in ours.values()),
    )
