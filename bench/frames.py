"""What a frame costs in a `Batcher` beside its kernel: frames per CPU second of the process.

    python bench/frames.py --json bench/results/frames-<cpu>.json

Sessions in a closed loop, each sending its next frame, or message of `k` frames, when it has the
answer to the last. The layer is so small that nearly all is the event loop's and the batcher's;
`asyncio alone` is the same clients with a future each, made and resolved by nobody in particular:
what any batcher costs at least. `long calls` have a layer whose calls go to the worker's thread;
of them the CPU time of the same rows in a pool, stepped without a batcher, is subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record
from fastrnn.serve import Batcher

BATCH = 256
SMALL, LONG = 8, 64  # hidden sizes
# name, hidden size, sessions, frames in a message
CASES = (
    ("1 session", SMALL, 1, 1),
    ("16 sessions", SMALL, 16, 1),
    ("256 sessions", SMALL, 256, 1),
    ("1000 sessions", SMALL, 1000, 1),
    ("256 sessions, messages of 5 frames", SMALL, 256, 5),
    ("256 sessions, messages of 20 frames", SMALL, 256, 20),
    ("256 sessions, long calls", LONG, 256, 1),
    ("1000 sessions, long calls", LONG, 1000, 1),
)


async def served(layer: fastrnn.LSTM, sessions: int, k: int, seconds: float) -> float:
    """Return CPU microseconds per frame."""
    frames = 0
    x = np.zeros((k, layer.input_size), np.float32)

    async def client(batcher: Batcher) -> None:
        nonlocal frames
        async with batcher.session() as session:
            while time.perf_counter() < end:
                await (session.step(x[0]) if k == 1 else session.run(x))
                frames += k

    async with Batcher(layer, sessions, BATCH) as batcher:
        end = time.perf_counter() + seconds
        cpu = time.process_time()
        await asyncio.gather(*(client(batcher) for _ in range(sessions)))
        return 1e6 * (time.process_time() - cpu) / frames


async def alone(sessions: int, seconds: float) -> float:
    """Return CPU microseconds per frame that asyncio and the clients take."""
    loop, frames = asyncio.get_running_loop(), 0
    waiting: list[asyncio.Future[None]] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal frames
        while time.perf_counter() < end:
            waiting.append(future := loop.create_future())
            await future
            frames += 1

    async def resolve() -> None:
        while waiting:
            ready, waiting[:] = [*waiting], []
            for future in ready:
                future.set_result(None)
            await asyncio.sleep(0)

    cpu = time.process_time()
    clients = asyncio.gather(*(client() for _ in range(sessions)))
    await asyncio.sleep(0)
    await asyncio.gather(clients, resolve())
    return 1e6 * (time.process_time() - cpu) / frames


def stepped(layer: fastrnn.LSTM, streams: int, seconds: float) -> float:
    """Return CPU microseconds per frame of a pool's steps, in batches, without a batcher."""
    pool = layer.pool(streams)
    ids = np.array([pool.open() for _ in range(streams)])
    batches = np.array_split(ids, -(-streams // BATCH))
    x = np.zeros((BATCH, layer.input_size), np.float32)
    end, rounds, cpu = time.perf_counter() + seconds, 0, time.process_time()
    while time.perf_counter() < end:
        for batch in batches:
            pool.step(batch, x[: len(batch)])
        rounds += 1
    return 1e6 * (time.process_time() - cpu) / rounds / streams


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.7, help="of each sample")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write a record here")
    args = parser.parse_args()
    sys.setswitchinterval(0.0005)  # as `fastrnn serve` does
    layers = {
        size: fastrnn.LSTM.from_state_dict(random_weights(Case("LSTM", size, size)))
        for size in (SMALL, LONG)
    }
    samples: dict[str, list[float]] = {"asyncio alone": []} | {name: [] for name, *_ in CASES}
    for _ in range(args.rounds):  # turn by turn
        samples["asyncio alone"].append(asyncio.run(alone(BATCH, args.seconds)))
        for name, size, sessions, k in CASES:
            cost = asyncio.run(served(layers[size], sessions, k, args.seconds))
            if size == LONG:
                cost -= stepped(layers[size], sessions, args.seconds / 4)
            samples[name].append(cost)
    found: dict[str, Any] = {}
    for name, values in samples.items():
        middle = statistics.median(values)
        found[name] = {"cpu_us_per_frame": middle, "frames_per_cpu_second": 1e6 / middle}
    print(json.dumps(found, indent=1))
    if args.json is not None:
        record = new_record(Path(__file__).parent)
        write_record({**record, "frames": found}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
