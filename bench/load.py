"""`fastrnn serve` under load: clients in other processes; some are killed, some slow, some hostile.

    python bench/load.py --seconds 120 --json bench/results/load-<cpu>.json

A server process on the loopback. Against it, for the given time:

  steady     processes with `--connections` WebSockets in all, each sending a frame every 10 ms, and
             checking each answer against a lone stream, bit for bit (one connection in ten: all)
  killed     a process of ten such clients is killed every few seconds, in mid-frame, and replaced
  slow       clients that send as fast as they can and never read
  garbage    connections that send what is no HTTP, no WebSocket, no frame, no command, no state

With --workers N, processes share the port, and in the middle one is killed: its clients are cut
off, connect again, go on from the last state that they asked for (one each --save-every frames),
and send again what they sent since: each answer must be the one they had, and the time from the cut
to there is taken. --tls and --tokens do what they say.

At the end SIGTERM, with everything still running. Every steady client must have got an answer to
each frame it had before, then its state and a close with 1001; a second server takes up the states
of the clients that check, and must go on with the same bits.

Exit code 1: an answer was lost or differed, a client was cut off, the server's memory grew or it
did not end well.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import random
import signal
import struct
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from served import ROWS, TABLE, Client, Server, masked, message, open_socket, open_websocket
from websockets.exceptions import ConnectionClosed, WebSocketException

import fastrnn
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record

TICK = 0.01  # seconds
PROCESSES = 2  # of steady clients
CHECKED = 10  # one connection in so many checks every answer
KILL_SECONDS = 3.0
READY_SECONDS = 100.0
GIVE_UP_SECONDS = 20.0  # without a connection
GROWTH_BYTES = 32 * 2**20  # of the server's memory, from a third of the time to the end


class Steady(Client):
    """A steady client, and what became of its frames."""

    def __init__(self, url: str, number: int, layer: Any, save_every: int) -> None:
        super().__init__(url, 37 * number, save_every)
        self.twin = layer.stream() if number % CHECKED == 0 else None
        self.late = self.cut = 0
        self.code: int | None = None
        self.latencies: list[float] = []
        self.takeovers: list[float] = []  # seconds

    async def run(self, ready: Any, go: asyncio.Future[Any]) -> None:
        async with self.connect() as websocket:
            await websocket.recv()
            ready.release()
            await asyncio.shield(go)
            await self.talk(websocket)
        begin = time.perf_counter()
        while self.state is None and self.save_every and self.code in (None, 1006):
            if time.perf_counter() > begin + GIVE_UP_SECONDS:  # there is no server any more
                return
            try:
                async with self.connect() as websocket:
                    await websocket.recv()
                    await self.take_up(websocket)
                    self.takeovers.append(time.perf_counter() - begin)
                    await self.talk(websocket)
                begin = time.perf_counter()
            except (OSError, WebSocketException):  # to a worker that is being killed
                await asyncio.sleep(0.01)

    async def talk(self, websocket: Any) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + random.random() * TICK
        with suppress(ConnectionClosed):
            while self.state is None:
                delay = due - loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                elif delay < -TICK:
                    self.late += 1
                due += TICK
                await self.exchange(websocket)
        await websocket.wait_closed()
        self.code = websocket.close_code
        self.cut += self.code == 1006

    def took(self, row: int, answer: bytes, seconds: float) -> None:
        self.latencies.append(seconds)
        if self.twin is not None:
            expected = self.twin.step(TABLE[row])
            self.differing += not np.array_equal(np.frombuffer(answer, "<f4"), expected)


def steady_clients(
    url: str, path: str, ready: Any, go: Any, numbers: range, save_every: int, results: Any
) -> None:
    """Run clients, once all are ready, until the server drains; put what became of each."""

    async def run() -> list[Steady]:
        layer = fastrnn.load(path)
        clients = [Steady(url, number, layer, save_every) for number in numbers]
        gone = asyncio.get_running_loop().run_in_executor(None, go.wait)
        runs = (client.run(ready, gone) for client in clients)
        done = await asyncio.gather(*runs, return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException):
                print(f"a steady client failed: {outcome!r}", file=sys.stderr)
        return clients

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    results.put(
        [
            {
                "first": client.first,
                "checks": client.twin is not None,
                **{
                    name: getattr(client, name)
                    for name in (
                        "sent",
                        "answered",
                        "differing",
                        "late",
                        "code",
                        "state",
                        "cut",
                        "takeovers",
                    )
                },
                "latencies": np.array(client.latencies, np.float32),
            }
            for client in asyncio.run(run())
        ]
    )


def doomed_clients(url: str, path: str, ready: Any, go: Any) -> None:
    """Ten clients that send frames in two pieces, so that a kill is in mid-frame."""
    frame = masked(ROWS[0])
    with suppress(OSError):  # the server drains
        clients = [open_websocket(url) for _ in range(10)]
        ready.release()
        while True:
            for client in clients:
                client.sendall(frame[:200])
            time.sleep(0.002)
            for client in clients:
                client.sendall(frame[200:])
                client.recv(65536)


def slow_client(url: str, path: str, ready: Any, go: Any) -> None:
    """Send for ever, read never; begin anew when cut off."""
    while True:
        with suppress(OSError, AssertionError):
            client = open_websocket(url)
            ready.release()
            while True:
                client.sendall(masked(ROWS[0] * 50))


def garbage(url: str, path: str, ready: Any, go: Any) -> None:
    """Connections that break every rule, thirty a second."""
    rng = random.Random(0)
    bad_state = json.dumps({"op": "load", "state": base64.b64encode(bytes(2000)).decode()})
    messages = [
        masked(b"xyz"),
        masked(b"no command", opcode=1),
        masked(bad_state.encode(), opcode=1),
        masked(b"\xff\xfe", opcode=1),
        masked(bytes(2**20)),
        b"\x82\x05hello",  # not masked
        struct.pack("!BBQ", 0x82, 0xFF, 2**62),
    ]
    ready.release()
    while True:
        time.sleep(1 / 30)
        with suppress(OSError, AssertionError):
            if rng.random() < 0.3:
                with open_socket(url, 5) as client:
                    client.sendall(rng.randbytes(rng.randrange(1, 4000)))
            else:
                with open_websocket(url) as client:
                    client.sendall(rng.choice(messages))
                    if rng.random() < 0.5:
                        client.recv(65536)


async def take_up(url: str, layer: Any, clients: list[dict[str, Any]]) -> int:
    """Go on with the saved states; return how many did not go on with the right bits."""
    differing = 0
    for client in clients:
        rows = np.arange(client["first"], client["first"] + client["answered"] + 20) % len(TABLE)
        async with Client(url, 0, 0).connect() as websocket:
            await websocket.recv()
            await websocket.send(json.dumps({"op": "load", "state": client["state"]}))
            await websocket.recv()
            await websocket.send(message(rows[-20], 20))
            y = np.frombuffer(await websocket.recv(), "<f4").reshape(20, -1)
        if not np.array_equal(y, layer.stream().run(TABLE[rows])[-20:]):
            differing += 1
    return differing


def load(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    options = {name: getattr(args, name) for name in ("workers", "tls", "tokens", "drain_seconds")}
    server = Server(path, **options)
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    ready, go = context.Semaphore(0), context.Event()

    def start(target: Any, *arguments: Any) -> Any:
        process = context.Process(
            target=target, args=(server.url, str(path), ready, go, *arguments), daemon=True
        )
        process.start()
        return process

    edges = np.linspace(0, args.connections, PROCESSES + 1).astype(int)
    save_every = args.save_every if args.workers > 1 else 0
    steady = [
        start(steady_clients, range(begin, end), save_every, results)
        for begin, end in pairwise(edges)
    ]
    others = [start(target) for target in (slow_client, slow_client, garbage)]
    doomed = start(doomed_clients)
    for _ in range(args.connections + len(others) + 1):
        if not ready.acquire(timeout=READY_SECONDS):
            raise RuntimeError(f"not all clients were ready within {READY_SECONDS} s")
    go.set()
    begin, cpu, resident, kills = time.perf_counter(), server.cpu_seconds(), [], 0
    workers_killed, begin_cpu = 0, begin
    while time.perf_counter() < begin + args.seconds:
        time.sleep(min(KILL_SECONDS, args.seconds / 3))
        if (
            args.workers > 1
            and not workers_killed
            and time.perf_counter() > begin + args.seconds / 2
        ):
            os.kill(server.workers()[0], signal.SIGKILL)
            workers_killed += 1
            time.sleep(1)  # until another has begun
            cpu, begin_cpu, resident = server.cpu_seconds(), time.perf_counter(), []
        resident.append(server.resident())
        doomed.kill()
        doomed.join()
        kills += 1
        doomed = start(doomed_clients)
    end = time.perf_counter()
    wall, cores = end - begin, (server.cpu_seconds() - cpu) / (end - begin_cpu)
    metrics = server.metrics()
    code, err, drain_seconds = server.stop()
    clients = [client for _ in steady for client in results.get(timeout=120)]
    for process in (*others, doomed):
        process.kill()
    for process in (*others, doomed, *steady):
        process.join()
    second = Server(path, **options)
    checked = [client for client in clients if client["checks"]]
    states = [client for client in checked if client["state"]]
    wrong_states = asyncio.run(take_up(second.url, fastrnn.load(path), states))
    second.stop()
    takeovers = np.array([s for client in clients for s in client["takeovers"]] or [np.nan])
    latencies = 1e3 * np.concatenate([client["latencies"] for client in clients])
    third = resident[len(resident) // 3 :]
    answered = sum(client["answered"] for client in clients)
    return {
        "connections": args.connections,
        "seconds": wall,
        "frames_per_second": answered / wall,
        "server_cores": cores,  # with workers: since one was killed
        "workers": args.workers,
        "workers_killed": workers_killed,
        "tls": args.tls,
        "tokens": args.tokens,
        "answered": answered,
        "checked": sum(client["answered"] for client in checked),
        "differing": sum(client["differing"] for client in clients),
        # A client has one frame under way: more than one unanswered would be a lost one.
        "lost": sum(max(0, client["sent"] - client["answered"] - 1) for client in clients),
        "not_closed_with_1001": sum(client["code"] != 1001 for client in clients),
        "without_state": sum(client["state"] is None for client in clients),
        "states_taken_up": len(states),
        "states_differing": wrong_states,
        "late_ticks": sum(client["late"] for client in clients),
        "latency_ms": {
            name: float(np.percentile(latencies, part))
            for name, part in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100))
        },
        "clients_cut_off": sum(client["cut"] > 0 for client in clients),
        "takeover_ms": {
            "p50": float(1e3 * np.median(takeovers)),
            "max": float(1e3 * takeovers.max()),
        },
        "processes_killed": kills,
        "resident_mb": [round(b / 1e6, 1) for b in resident],
        "resident_growth_bytes": max(third) - third[0],
        "closes": [line for line in metrics.splitlines() if line.startswith("fastrnn_closes")],
        "drain_seconds": drain_seconds,
        "exit_code": code,
        "stderr": err,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--drain-seconds", type=float, default=5, help="the slow use all of it")
    parser.add_argument("--size", type=int, default=128, help="hidden size of the LSTM")
    parser.add_argument("--workers", type=int, default=1, help="one of several is killed")
    parser.add_argument("--save-every", type=int, default=100, help="frames, with workers")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--tokens", action="store_true")
    parser.add_argument("--json", type=Path, help="write a record here")
    args = parser.parse_args()
    case = Case("LSTM", TABLE.shape[1], args.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        np.savez(path, **random_weights(case))
        found = load(path, args)
    print(json.dumps(found, indent=1, default=float))
    if args.json is not None:
        write_record(
            {**new_record(Path(__file__).parent), "case": case.id, "load": found}, args.json
        )
    bad = ("differing", "lost", "not_closed_with_1001", "without_state", "states_differing")
    grew = found["resident_growth_bytes"] > GROWTH_BYTES
    return int(grew or found["exit_code"] != 0 or any(found[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
