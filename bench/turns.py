"""A contest: a case and who runs it; measured once, turn by turn, for all its runners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.limits import Limits
from fastrnn.measure.measure import Samples, sample_case
from fastrnn.measure.models import Model
from fastrnn.measure.peers import PEERS

SECONDS, QUICK_SECONDS = 1.0, 0.5  # for the rounds of one contest


Options = tuple[tuple[str, Any], ...]  # of a layer
ONE: tuple[tuple[str, Options], ...] = (("fastrnn", ()),)


@dataclass(frozen=True)
class Contest:
    """Runners by the name they have in tables: options of a layer, or None for a peer."""

    case: Case
    layers: tuple[tuple[str, Options], ...] = ONE
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


def with_peers(
    case: Case, layers: tuple[tuple[str, Options], ...] = ONE, model: Model | None = None
) -> Contest:
    """Return fastrnn and every peer that can run `case`."""
    peers = tuple(name for name, peer in PEERS.items() if peer.can(case))
    return Contest(case, layers, peers, model)


def listed(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return what reads "128,512" as a list."""
    return lambda text: [kind(part) for part in text.split(",")]


# Options that make a grid of their own instead of all cases, and what they say.
ASKED: dict[str, tuple[Callable[[str], Any], str]] = {
    "cell": (str, "these cells only, such as LSTM,GRU; with any of these seven, a grid of them"),
    "hidden_size": (int, "these H = I, such as 128,192"),
    "batch": (int, "these B"),
    "steps": (int, "these T in one call"),
    "engine": (str, "fastrnn's engines: simd,blas"),
    "isa": (str, "the SIMD engine's instruction sets, such as avx2,avx512"),
    "threads": (int, "the SIMD engine's threads, such as 1,2"),
}


def asked_contests(config: pytest.Config) -> list[Contest]:
    """Return the grid that the options ask for; none if they ask for nothing."""
    asked = {name: config.getoption(name) for name in ASKED}
    if not any(asked.values()):
        return []
    cells, sizes = asked["cell"] or ["LSTM", "GRU"], asked["hidden_size"] or [128]
    layers: dict[str, Options] = {}
    for engine, isa, threads in product(*(asked[name] or [None] for name in list(ASKED)[4:])):
        of_simd = {} if engine == "blas" else {"isa": isa, "threads": threads}
        options = {k: v for k, v in {"engine": engine, **of_simd}.items() if v is not None}
        layers[" ".join(["fastrnn", *(f"{k}={v}" for k, v in options.items())])] = tuple(
            options.items()
        )
    return [
        with_peers(Case(cell, size, size, batch, steps), tuple(layers.items()))
        for cell, steps, batch, size in product(
            cells, asked["steps"] or [1], asked["batch"] or [1], sizes
        )
    ]


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
