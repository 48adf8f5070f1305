"""`fastrnn serve` for minutes: streams that tick, are late, come, go and move; what became of them.

    python bench/soak_server.py --workers 2 --tls --tokens --json bench/results/<name>.json

Clients in other processes, a WebSocket each, send a frame in every tick of 10 ms. Now and then one
is late, and sends the frames of its ticks in one message; goes on elsewhere: saves, closes, and
takes its state up on another connection; or leaves after a random life, badly with a frame under
way, and another joins. In the middle a worker is killed. Its clients go on from the last state that
they asked for, and send again what they sent since: each answer must be the one they had. Before
that SIGHUP has certificate and tokens read anew.

Every answer of every stream is compared, bit for bit, with a lone stream's. At the end no stream
may be open and no descriptor more than before, and what the workers have in memory may not have
grown. Clients and server share the machine.

Exit code 1: an answer was lost or differed, a connection ended that no one ended, something grew,
or the server did not end well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from served import TABLE, Client, Server, Usage, usage_of
from soak import CANCELLED, LIFE_SECONDS, TICK_MS, Latencies
from websockets.exceptions import ConnectionClosed, WebSocketException

import fastrnn
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record

TICK = TICK_MS / 1e3
PROCESSES = 2  # of clients
LATE, LATE_TICKS = 0.003, (2, 30)  # how likely in a tick, and by how many
STAY_SECONDS = 1.0, 8.0  # on one connection
AFTER_KILL_SECONDS = 3.0  # in which its clients find out, and others may be turned away
SETTLE_SECONDS = 10.0  # for the server to see that all have left
LONGEST_SECONDS = 60.0  # to be ready, or without a connection
GROWTH_BYTES = 16 * 2**20  # of one process's memory, from a third of its time to the end


class Stream(Client):
    """One life among the streams, on one connection after the other."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd.url, crowd.random.randrange(len(TABLE)), crowd.save_every)
        self.crowd = crowd
        self.digest = blake2b(digest_size=8)  # of every answer, in order

    def took(self, row: int, answer: bytes, seconds: float) -> None:
        self.digest.update(answer)
        self.crowd.latencies.add(seconds)

    async def live(self, end: float) -> None:
        """Send frames until then, and until each that was sent is answered."""
        moves, since = False, time.monotonic()  # since when it has no connection
        while time.monotonic() < end or self.sent > self.answered:
            welcome = False
            try:
                async with self.connect() as websocket:
                    await websocket.recv()
                    welcome = True
                    if self.answered:
                        await self.take_up(websocket)
                        taken = self.crowd.moves if moves else self.crowd.takeovers
                        taken.append(time.monotonic() - since)
                    moves = await self.stay(websocket, end)
                since = time.monotonic()
            except (OSError, WebSocketException) as error:
                now = time.monotonic()
                self.crowd.ended.append((now, ending(error) if welcome else 0))
                if welcome:
                    moves, since = False, now
                elif now > since + LONGEST_SECONDS:
                    raise
                await asyncio.sleep(0.01)

    async def stay(self, websocket: Any, end: float) -> bool:
        """Tick until it leaves, or goes on elsewhere: then return True."""
        crowd, chance = self.crowd, self.crowd.random
        until = min(end, time.monotonic() + chance.uniform(*STAY_SECONDS))
        due = time.monotonic() + TICK * chance.random()
        while (now := time.monotonic()) < until or self.sent > self.answered:
            frames = chance.randint(*LATE_TICKS) if chance.random() < LATE else 1
            due += TICK * (frames - 1)
            if due > now:
                await asyncio.sleep(due - now)
            elif due + TICK < now:
                crowd.count["late_ticks"] += 1
            due += TICK
            crowd.count["late_messages"] += frames > 1
            await self.exchange(websocket, frames)
        if now < end:
            await self.save(websocket)
            return True
        if chance.random() < CANCELLED:
            await websocket.send(TABLE[0].tobytes())
            websocket.transport.abort()
            crowd.count["left_badly"] += 1
        return False


def ending(error: Exception) -> int:
    """Return the close code with which a connection ended."""
    closed = isinstance(error, ConnectionClosed) and error.rcvd is not None
    return error.rcvd.code if closed else 1006  # type: ignore[attr-defined]


class Crowd:
    """The streams of one process, and what is known of them."""

    def __init__(self, url: str, number: int, save_every: int) -> None:
        self.url, self.save_every = url, save_every
        self.random = random.Random(number)
        self.latencies = Latencies()
        self.moves: list[float] = []  # seconds without a connection
        self.takeovers: list[float] = []  # likewise, after one that was cut off
        self.ended: list[tuple[float, int]] = []  # connections: when, and the code; 0: had no hello
        self.count = Counter[str]()
        self.lives: list[tuple[int, int, bytes]] = []  # first row, frames, digest of the answers

    async def place(self, begin: float, end: float) -> None:
        """One place among the streams: life after life."""
        await asyncio.sleep(self.random.random())  # they do not all join at once
        while (now := time.monotonic()) < end:
            stream = Stream(self)
            await stream.live(min(now + self.random.uniform(*LIFE_SECONDS), end))
            self.lives.append((stream.first, stream.answered, stream.digest.digest()))
            for name in ("sent", "answered", "differing"):
                self.count[name] += getattr(stream, name)

    async def run(self, streams: int, seconds: float) -> None:
        begin = time.monotonic()
        await asyncio.gather(*(self.place(begin, begin + seconds) for _ in range(streams)))

    def compare(self, layer: Any) -> None:
        """Compare every answer of every life with a lone stream's."""
        for first, frames, digest in self.lives:
            rows = np.arange(first, first + frames) % len(TABLE)
            y = layer.stream().run(TABLE[rows])
            expected = blake2b(y.astype("<f4", copy=False).tobytes(), digest_size=8).digest()
            self.count["lives"] += 1
            self.count["lives_differing"] += digest != expected


def clients(
    url: str, path: str, number: int, streams: int, args: argparse.Namespace, ready: Any, go: Any,
    results: Any,
) -> None:  # fmt: skip
    """Run streams in this process, once all are ready, and put their crowd."""
    layer = fastrnn.load(path)
    crowd = Crowd(url, number, args.save_every)
    ready.release()
    go.wait()
    asyncio.run(crowd.run(streams, args.seconds))
    crowd.compare(layer)
    results.put(crowd)


class Watch:
    """What the server's processes take, second by second, and what is done to them meanwhile."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen: dict[int, list[Usage]] = {}
        self.killed: list[float] = []  # when
        self.files = self.open_files()  # before anybody came

    def look(self) -> None:
        for process, usage in self.server.usage().items():
            self.seen.setdefault(process, []).append(usage)

    def open_files(self) -> int:
        """Return the most descriptors that one of them has."""
        processes = {self.server.process.pid, *self.server.workers()}
        return max(usage_of(process).files for process in processes)

    def settle(self) -> tuple[dict[str, float], int]:
        """Return the last figures and descriptors, once nobody is there any more."""
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            files = self.open_files()  # first, or what asks for the figures is among them
            figures = self.server.figures()
            gone = figures["streams"] == 0 and files <= self.files
            if gone or time.monotonic() > end:
                return figures, files
            time.sleep(0.5)

    def run(self, args: argparse.Namespace) -> None:
        """Look for so long; SIGHUP halfway to the first kill, and the kills evenly in time."""
        begin = time.monotonic()
        kills = args.kills if args.workers > 1 else 0
        due = [begin + args.seconds * (i + 1) / (kills + 1) for i in range(kills)]
        reload = begin + args.seconds / (2 * kills + 2)
        while (now := time.monotonic()) < begin + args.seconds:
            if now >= reload and (args.tls or args.tokens):
                self.server.process.send_signal(signal.SIGHUP)
                reload = float("inf")
            if due and now >= due[0]:
                del due[0]
                os.kill(self.server.workers()[0], signal.SIGKILL)
                self.killed.append(time.monotonic())
            self.look()
            time.sleep(0.2 if args.seconds < 30 else 1)

    def growth(self) -> int:
        """Return the most bytes by which one of them grew, from a third of its time to its end."""
        parts = [seen[len(seen) // 3 :] for seen in self.seen.values()]
        return max(max(u.resident for u in part[-3:]) - part[0].resident for part in parts)

    def cores(self, seconds: float) -> float:
        return sum(s[-1].cpu_seconds - s[0].cpu_seconds for s in self.seen.values()) / seconds

    def unexplained(self, ended: list[tuple[float, int]]) -> int:
        """Return how many connections ended otherwise than by the end of their worker."""
        return sum(
            code not in (0, 1006) or not any(0 <= at - k < AFTER_KILL_SECONDS for k in self.killed)
            for at, code in ended
        )


def soak(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    server = Server(path, workers=args.workers, tls=args.tls, tokens=args.tokens)
    try:
        watch = Watch(server)
        crowd, wall = run_clients(server, watch, path, args)
        figures, files = watch.settle()
    finally:
        code, err, drain_seconds = server.stop()
    found = crowd.count
    return {
        "streams": args.streams,
        "tick_ms": TICK_MS,
        "seconds": wall,
        "workers": args.workers,
        "tls": args.tls,
        "tokens": args.tokens,
        "frames_per_second": found["answered"] / wall,
        "server_cores": watch.cores(wall),
        "sent": found["sent"],
        "lost": found["sent"] - found["answered"],
        "lives": found["lives"],
        "lives_differing": found["lives_differing"],
        "repeated_differing": found["differing"],
        "late_messages": found["late_messages"],
        "late_ticks": found["late_ticks"],
        "left_badly": found["left_badly"],
        "moved": len(crowd.moves),
        "move_ms": in_ms(crowd.moves),
        "workers_killed": len(watch.killed),
        "worker_restarts": int(figures.get("worker_restarts_total", 0)),
        "cut_off": sum(code != 0 for _, code in crowd.ended),
        "takeover_ms": in_ms(crowd.takeovers),
        "turned_away": sum(code == 0 for _, code in crowd.ended),
        "ended_unexplained": watch.unexplained(crowd.ended),
        "latency_ms": crowd.latencies.in_ms(),
        "resident_mb": {
            str(number): [round(u.resident / 1e6, 1) for u in seen[:: max(1, len(seen) // 12)]]
            for number, seen in enumerate(watch.seen.values())
        },
        "resident_growth_bytes": watch.growth(),
        "files": [watch.files, max(u.files for s in watch.seen.values() for u in s), files],
        "files_growth": max(0, files - watch.files),
        "streams_left_open": int(figures["streams"]),
        "drain_seconds": drain_seconds,
        "exit_code": code,
        "stderr": err,
    }


def run_clients(
    server: Server, watch: Watch, path: Path, args: argparse.Namespace
) -> tuple[Crowd, float]:
    """Run clients in processes while the server is watched; return all of them as one crowd."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    ready, go = context.Semaphore(0), context.Event()
    edges = np.linspace(0, args.streams, PROCESSES + 1).astype(int)
    processes = [
        context.Process(
            target=clients,
            args=(server.url, str(path), i, int(end - begin), args, ready, go, results),
            daemon=True,
        )
        for i, (begin, end) in enumerate(pairwise(edges))
    ]
    for process in processes:
        process.start()
    for _ in processes:
        if not ready.acquire(timeout=LONGEST_SECONDS):
            raise RuntimeError(f"not all clients were ready within {LONGEST_SECONDS:g} s")
    begin = time.monotonic()
    go.set()
    watch.run(args)
    wall = time.monotonic() - begin
    crowd, *others = [results.get(timeout=2 * LONGEST_SECONDS) for _ in processes]
    for other in others:
        crowd.latencies.merge(other.latencies)
        crowd.count += other.count
        for name in ("moves", "takeovers", "ended"):
            getattr(crowd, name).extend(getattr(other, name))
    for process in processes:
        process.join()
    return crowd, wall


def in_ms(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"p50": 1e3 * float(np.median(seconds)), "max": 1e3 * max(seconds)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--streams", type=int, default=60)
    parser.add_argument("--size", type=int, default=128, help="hidden size of the LSTM")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=1, help="of workers, where there are several")
    parser.add_argument("--save-every", type=int, default=100, help="frames")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--tokens", action="store_true")
    parser.add_argument("--json", type=Path, help="write a record here")
    args = parser.parse_args()
    case = Case("LSTM", TABLE.shape[1], args.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        np.savez(path, **random_weights(case))
        found = soak(path, args)
    print(json.dumps(found, indent=1))
    if args.json is not None:
        record = new_record(Path(__file__).parent)
        write_record({**record, "case": case.id, "soak": found}, args.json)
    bad = (
        "lost", "lives_differing", "repeated_differing", "ended_unexplained", "files_growth",
        "streams_left_open", "exit_code",
    )  # fmt: skip
    grew = found["resident_growth_bytes"] > GROWTH_BYTES
    missing = found["worker_restarts"] != found["workers_killed"]
    return int(grew or missing or any(found[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
