"""A `Batcher` for minutes: streams that tick, are late, come and go; what became of their frames.

    python bench/soak.py --seconds 120 --json bench/results/soak-<cpu>.json

Each stream is an asyncio task that sends a frame in every tick of 10 ms, at a random moment of it.
Streams leave after a random life and others follow them; some are cancelled with a frame under way.
Nothing may be lost or out of order: the last output of each stream that left is compared, bit for
bit, with that of a lone stream run over the same frames, which equals it only if every frame went
through once and in order. One stream in forty is compared at every frame as well.

Clients, event loop and kernels share one process, so that the latencies include the clients' work.
Exit code 1: something was lost, differed, or memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record
from fastrnn.serve import Batcher, Session

TICK_MS = 10
WATCHED = 40  # one stream in so many is compared at every frame
LIFE_SECONDS = 2.0, 20.0
CANCELLED = 0.1  # of those that leave
GROWTH_BYTES = 8 * 2**20  # of resident memory from a third of the time to the end: no leak
BIN_SECONDS, BINS = 1e-5, 200_000


class Latencies:
    """Counts in bins of 10 us up to 2 s: memory that does not grow."""

    def __init__(self) -> None:
        self.bins = array("q", bytes(8 * (BINS + 1)))
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        self.bins[min(int(seconds / BIN_SECONDS), BINS)] += 1
        self.largest = max(self.largest, seconds)

    def merge(self, other: Latencies) -> None:
        """Add what another counted."""
        self.bins = array("q", np.add(self.bins, other.bins).tobytes())
        self.largest = max(self.largest, other.largest)

    def in_ms(self) -> dict[str, float]:
        total = np.cumsum(self.bins)
        parts = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
        found = {
            name: 1e3 * BIN_SECONDS * (1 + int(np.searchsorted(total, part * total[-1])))
            for name, part in parts.items()
        }
        return {**found, "max": 1e3 * self.largest}


class Clock:
    """Wakes tasks at whole milliseconds, all of one millisecond by one future."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.wakings: dict[int, asyncio.Future[None]] = {}

    def now(self) -> int:
        return int(1e3 * (time.perf_counter() - self.begin))

    def at(self, ms: int) -> asyncio.Future[None]:
        if ms not in self.wakings:
            self.wakings[ms] = asyncio.get_running_loop().create_future()
        return self.wakings[ms]

    async def run(self) -> None:
        done = 0
        while True:
            now = self.now()
            for ms in range(done, now + 1):
                waking = self.wakings.pop(ms, None)
                if waking is not None:
                    waking.set_result(None)
            done = now + 1
            await asyncio.sleep(max(0.0, self.begin + done / 1e3 - time.perf_counter()))


class Soak:
    """The streams, and what is known of them."""

    def __init__(self, layer: fastrnn.LSTM, batcher: Batcher, seconds: float) -> None:
        self.layer, self.batcher, self.seconds = layer, batcher, seconds
        rng = np.random.default_rng(0)
        self.table = rng.standard_normal((4096, layer.input_size)).astype(np.float32)
        self.moments = rng.integers(0, TICK_MS, 8191).tolist()
        self.random = random.Random(0)
        self.clock = Clock()
        self.latencies = Latencies()
        # First row of the table, frames, and a hash of the last output: little, for it is kept.
        self.left = array("q")
        self.sent = self.answered = self.cancelled = self.differing = self.late_ticks = 0
        self.resident: list[int] = []  # bytes, every second

    async def stream(self, number: int) -> None:
        """One place among the streams: life after life."""
        end = 1e3 * self.seconds
        begin = self.random.uniform(0, 1000)  # they do not all join at once
        while begin < end:
            life = 1e3 * self.random.uniform(*LIFE_SECONDS)
            first = self.random.randrange(len(self.table))
            leaves_badly = self.random.random() < CANCELLED
            async with self.batcher.session() as session:
                ticks = int(min(begin + life, end) / TICK_MS) - int(begin / TICK_MS)
                frames, y = await self.live(session, number, int(begin / TICK_MS), ticks, first)
                if leaves_badly:
                    step = asyncio.ensure_future(session.step(self.table[0]))
                    await asyncio.sleep(0)
                    step.cancel()
                    self.cancelled += 1
                elif frames:
                    self.left.extend((first, frames, hash(y.tobytes())))
            begin = max(begin + life, self.clock.now())

    async def live(
        self, session: Session, number: int, tick: int, ticks: int, first: int
    ) -> tuple[int, Any]:
        """Send a frame in each of `ticks` ticks; return how many and the last output."""
        table, moments, clock, y = self.table, self.moments, self.clock, None
        watched = self.layer.stream() if number % WATCHED == 0 else None
        for i in range(ticks):
            due = TICK_MS * (tick + i) + moments[(number + i) % len(moments)]
            if due > clock.now():
                await clock.at(due)
            elif due + TICK_MS <= clock.now():
                self.late_ticks += 1
            x = table[(first + i) % len(table)]
            self.sent += 1
            begin = time.perf_counter()
            y = await session.step(x)
            self.latencies.add(time.perf_counter() - begin)
            self.answered += 1
            if watched is not None and not np.array_equal(y, watched.step(x)):
                self.differing += 1
        return ticks, y

    async def watch_memory(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.resident.append(resident_bytes())

    async def run(self, streams: int) -> None:
        helpers = [asyncio.create_task(f) for f in (self.clock.run(), self.watch_memory())]
        await asyncio.gather(*map(self.stream, range(streams)))
        for task in helpers:
            task.cancel()

    def compare_those_that_left(self) -> int:
        """Return how many of them did not end in the output of a lone stream."""
        differing = 0
        for first, frames, last in np.array(self.left).reshape(-1, 3):
            rows = np.arange(first, first + frames) % len(self.table)
            y = self.layer.stream().run(self.table[rows])
            differing += int(hash(y[-1].tobytes()) != last)
        return differing


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def soak(layer: fastrnn.LSTM, args: argparse.Namespace) -> dict[str, Any]:
    async with Batcher(layer, args.streams, args.max_batch, args.max_wait_ms) as batcher:
        soak = Soak(layer, batcher, args.seconds)
        cpu, begin = time.process_time(), time.perf_counter()
        await soak.run(args.streams)
        wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
        stats = batcher.stats.as_dict()
    third = soak.resident[len(soak.resident) // 3 :]
    return {
        "streams": args.streams,
        "tick_ms": TICK_MS,
        "seconds": wall,
        "frames_per_second": soak.answered / wall,
        "cores_used": cpu / wall,
        "sent": soak.sent,
        "lost": soak.sent - soak.answered,
        "left": len(soak.left) // 3,
        "left_differing": soak.compare_those_that_left(),
        "watched_frames_differing": soak.differing,
        "cancelled_under_way": soak.cancelled,
        "late_ticks": soak.late_ticks,
        "latency_ms": soak.latencies.in_ms(),
        "resident_mb": [round(b / 1e6, 1) for b in soak.resident[:: max(1, len(third) // 20)]],
        "resident_growth_bytes": max(third[-3:]) - third[0] if third else 0,
        "batcher": stats,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64, help="input and hidden size of the LSTM")
    parser.add_argument("--max-batch", type=int, default=256)
    parser.add_argument("--max-wait-ms", type=float, default=0)
    parser.add_argument("--json", type=Path, help="write a record here")
    args = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as `fastrnn serve` does
    case = Case("LSTM", args.size, args.size)
    layer = fastrnn.LSTM.from_state_dict(random_weights(case))
    found = asyncio.run(soak(layer, args))
    print(json.dumps(found, indent=1))
    if args.json is not None:
        record = new_record(Path(__file__).parent)
        write_record({**record, "layer": str(layer), "soak": found}, args.json)
    bad = ("lost", "left_differing", "watched_frames_differing")
    leaks = found["resident_growth_bytes"] > GROWTH_BYTES
    return int(leaks or any(found[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
