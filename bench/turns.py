"""A contest: a case and who runs it; measured once, turn by turn, for all its runners."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fastrnn.bench.cases import Case, Weights
from fastrnn.bench.limits import Limits
from fastrnn.bench.measure import Samples, sample_case
from fastrnn.bench.models import Model
from fastrnn.bench.peers import PEERS

SECONDS, QUICK_SECONDS = 1.0, 0.25  # for the rounds of one contest


@dataclass(frozen=True)
class Contest:
    """Runners by the name they have in tables: options of a layer, or None for a peer."""

    case: Case
    layers: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = (("fastrnn", ()),)
    peers: tuple[str, ...] = ()
    model: Model | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        return str(self.case)

    @property
    def group(self) -> str:
        return f"{self.case.group}: {self.title}"

    @property
    def runners(self) -> list[str]:
        return [*(name for name, _ in self.layers), *self.peers]

    def weights(self) -> Weights | None:
        return self.model.weights() if self.model else None


def with_peers(case: Case, model: Model | None = None) -> Contest:
    """Return fastrnn and every peer that can run `case`."""
    peers = tuple(name for name, peer in PEERS.items() if peer.can(case))
    return Contest(case, peers=peers, model=model)


class Turns:
    """What was measured of the latest contest."""

    def __init__(self, wanted: dict[Contest, list[str]], quick: bool) -> None:
        """`wanted` are the runners of each contest that are to take part."""
        self.wanted = wanted
        self.seconds = QUICK_SECONDS if quick else SECONDS
        self.latest: Contest | None = None
        self.samples: dict[str, Samples] = {}

    def of(self, contest: Contest, runner: str, limits: dict[str, Limits]) -> Samples:
        """Return the runner's samples; skips if it is not installed."""
        if runner in PEERS and PEERS[runner].missing:
            pytest.skip(f"{runner}: not installed: {', '.join(PEERS[runner].missing)}")
        if self.latest != contest:
            self.latest, self.samples = contest, {}
            self.samples = self._measure(contest, limits)
        if runner not in self.samples:
            pytest.fail(f"{contest.title}: the case failed before", pytrace=False)
        return self.samples[runner]

    def _measure(self, contest: Contest, limits: dict[str, Limits]) -> dict[str, Samples]:
        wanted = self.wanted[contest]
        # ratios are to the first layer: it takes part even if it is deselected
        layers = [pair for i, pair in enumerate(contest.layers) if i == 0 or pair[0] in wanted]
        samples = sample_case(
            contest.case,
            contest.weights(),
            layer_options=[dict(options) for _, options in layers],
            peers=[peer for peer in contest.peers if peer in wanted],
            seconds=self.seconds,
            limits=limits,
        )
        names = [name for name, _ in layers]
        ours = dict(zip(names, samples, strict=False))
        theirs = {sample.row["runner"]: sample for sample in samples[len(names) :]}
        return ours | theirs
