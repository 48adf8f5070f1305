"""Ways to step many streams whose states are apart: our pool, and what people do without one.

Batched: the states of the streams are joined for a step and split after it. One by one: a step of
one row for each stream. Both on the adapters of `fastrnn.measure.peers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers import PEERS, Fastrnn, Runner

Tick = Callable[[Any], Any]  # x (n, I) to y (n, P), each state one step on


class OurPool:
    """`part` of the streams at random in each tick, in any order."""

    def __init__(self, case: Case, weights: Weights, part: float = 1.0, **options: Any) -> None:
        pool = Fastrnn(case, weights, **options).layer.pool(case.batch)
        ids = np.array([pool.open() for _ in range(case.batch)])
        rng = np.random.default_rng(2)
        self.ready = round(part * case.batch)
        self.turns = [ids] if part == 1 else [rng.permutation(ids)[: self.ready] for _ in range(50)]
        self.turn = 0
        self.out = np.empty((self.ready, pool.output_size), np.float32)
        self.pool = pool

    def __call__(self, x: Any) -> Any:
        self.turn = (self.turn + 1) % len(self.turns)
        return self.pool.step(self.turns[self.turn], x[: self.ready], out=self.out)


class Onnx:
    """States of an adapter of ONNX Runtime, as (h, c) or (h,), each (1, B, H)."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner

    def get(self) -> tuple[Any, ...]:
        return tuple(self.runner.feed[name] for name in self.runner.carried)

    def set(self, states: tuple[Any, ...]) -> None:
        self.runner.feed.update(zip(self.runner.carried, states, strict=True))

    def join(self, parts: tuple[Any, ...]) -> Any:
        return np.concatenate(parts, axis=1)

    def split(self, whole: Any) -> list[Any]:
        return [whole[:, i : i + 1] for i in range(whole.shape[1])]


class Torch:
    """States of an adapter of torch's layers."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner

    def get(self) -> tuple[Any, ...]:
        state = self.runner.state
        return state if isinstance(state, tuple) else (state,)

    def set(self, states: tuple[Any, ...]) -> None:
        self.runner.state = states if len(states) == 2 else states[0]

    def join(self, parts: tuple[Any, ...]) -> Any:
        return self.runner.torch.cat(parts, dim=1)

    def split(self, whole: Any) -> Any:
        return whole.split(1, dim=1)


STATES = {"onnxruntime": Onnx, "torch": Torch}


def batched(states: Onnx | Torch, count: int) -> Tick:
    """All streams in one call: their states joined before it, split after it."""
    runner = states.runner
    apart = list(zip(*map(states.split, states.get()), strict=True))
    assert len(apart) == count

    def tick(x: Any) -> Any:
        states.set(tuple(states.join(parts) for parts in zip(*apart, strict=True)))
        y = runner.call(runner.convert(x))
        apart[:] = zip(*map(states.split, states.get()), strict=True)
        return runner.to_numpy(y)

    return tick


def one_by_one(states: Onnx | Torch, count: int) -> Tick:
    """A call for each stream."""
    runner = states.runner
    apart = [states.get() for _ in range(count)]

    def tick(x: Any) -> Any:
        rows = []
        for i, state in enumerate(apart):
            states.set(state)
            rows.append(runner.to_numpy(runner.call(runner.convert(x[i : i + 1]))))
            apart[i] = states.get()
        return np.concatenate(rows)

    return tick


WAYS = {"batched": batched, "one by one": one_by_one}


def peer_ways(case: Case, weights: Weights) -> dict[str, list[tuple[Runner, Tick]]]:
    """By peer and way, "torch, batched", each of its adapters whose states can be had."""
    found: dict[str, list[tuple[Runner, Tick]]] = {}
    for (peer, states), (way, how) in product(STATES.items(), WAYS.items()):
        batch = case.batch if how is batched else 1
        runners = (
            [] if PEERS[peer].missing else PEERS[peer].make(replace(case, batch=batch), weights)
        )
        found[f"{peer}, {way}"] = [
            (runner, how(states(runner), case.batch))
            for runner in runners
            if hasattr(runner, "feed") or hasattr(runner, "state")
        ]
    return found
