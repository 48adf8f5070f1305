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
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

import fastrnn
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record

TICK = 0.01  # seconds
TOKEN = "token-of-every-client"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
PROCESSES = 2  # of steady clients
CHECKED = 10  # one connection in so many checks every answer
KILL_SECONDS = 3.0
READY_SECONDS = 100.0
GROWTH_BYTES = 32 * 2**20  # of the server's memory, from a third of the time to the end
TABLE = np.random.default_rng(0).standard_normal((4096, 128)).astype("<f4")
ROWS = [row.tobytes() for row in TABLE]


class Server:
    """`fastrnn serve` in a process of its own, and its workers."""

    def __init__(self, path: Path, args: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "fastrnn", "serve", str(path), "--port", "0"]
        command += ["--drain-seconds", str(args.drain_seconds), "--workers", str(args.workers)]
        if args.tls:
            chain, key = make_certificate(path.parent)
            command += ["--tls-cert", chain, "--tls-key", key]
        if args.tokens:
            tokens = path.with_name("tokens")
            tokens.write_text(f"load {TOKEN}\n")
            command += ["--token-file", str(tokens)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(2)]
        self.url = lines[1].split()[1].rstrip(",")
        self.port = int(self.url.split(":")[2].split("/")[0])

    def workers(self) -> list[int]:
        """Return the processes that serve."""
        process = self.process.pid
        found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return [int(worker) for worker in found] or [process]

    def resident(self) -> int:
        pages = [Path(f"/proc/{w}/statm").read_text().split()[1] for w in self.workers()]
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return what those that are there now have taken."""
        stats = [Path(f"/proc/{w}/stat").read_text() for w in self.workers()]
        fields = [stat.rpartition(")")[2].split() for stat in stats]
        return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> str:
        with open_socket(self.url) as client:
            client.sendall(f"GET /metrics HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def stop(self) -> tuple[int, str, float]:
        begin = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err, time.perf_counter() - begin


class Client:
    """A steady client, and what became of its frames."""

    def __init__(self, url: str, number: int, layer: Any, save_every: int) -> None:
        self.url, self.first, self.save_every = url, 37 * number, save_every
        self.twin = layer.stream() if number % CHECKED == 0 else None
        self.sent = self.answered = self.differing = self.late = 0
        self.code: int | None = None
        self.state: str | None = None
        self.latencies: list[float] = []
        self.saved: tuple[int, str] | None = None  # after so many frames
        self.since: list[bytes] = []  # the answers since
        self.cut = 0
        self.takeovers: list[float] = []  # seconds

    async def run(self, ready: Any, go: asyncio.Future[Any]) -> None:
        async with self.connect() as websocket:
            await websocket.recv()
            ready.release()
            await asyncio.shield(go)
            await self.talk(websocket)
        while self.state is None and self.save_every and self.code in (None, 1006):
            self.cut += 1
            begin = time.perf_counter()
            try:
                async with self.connect() as websocket:
                    await websocket.recv()
                    await self.take_up(websocket)
                    self.takeovers.append(time.perf_counter() - begin)
                    await self.talk(websocket)
            except (OSError, WebSocketException):  # to a worker that is being killed
                await asyncio.sleep(0.01)

    def connect(self) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return connect(
            self.url, proxy=None, compression=None, open_timeout=60, ssl=client_context(self.url),
            additional_headers=headers,
        )  # fmt: skip

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

    async def exchange(self, websocket: Any) -> None:
        row = (self.first + self.answered) % len(ROWS)
        begin = time.perf_counter()
        await websocket.send(ROWS[row])
        self.sent = max(self.sent, self.answered + 1)
        answer = await websocket.recv()
        if isinstance(answer, str):
            self.state = json.loads(answer)["state"]
            return
        self.latencies.append(time.perf_counter() - begin)
        self.answered += 1
        self.since.append(answer)
        if self.twin is not None:
            expected = self.twin.step(TABLE[row])
            if not np.array_equal(np.frombuffer(answer, "<f4"), expected):
                self.differing += 1
        if self.save_every and self.answered % self.save_every == 0:
            await websocket.send('{"op": "save"}')
            answer = json.loads(await websocket.recv())
            self.saved, self.since = (self.answered, answer["state"]), []
            if answer["op"] == "drain":
                self.state = answer["state"]

    async def take_up(self, websocket: Any) -> None:
        """Go on where the last connection was cut: from the saved state, with what was sent since.

        An answer that was had before, and is not the same now, is one that differs.
        """
        begin = 0
        if self.saved is not None:
            begin, state = self.saved
            await websocket.send(json.dumps({"op": "load", "state": state}))
            await websocket.recv()
        for i, had in enumerate(self.since):
            await websocket.send(ROWS[(self.first + begin + i) % len(ROWS)])
            self.differing += await websocket.recv() != had


def steady_clients(
    url: str, path: str, ready: Any, go: Any, numbers: range, save_every: int, results: Any
) -> None:
    """Run clients, once all are ready, until the server drains; put what became of each."""

    async def run() -> list[Client]:
        layer = fastrnn.load(path)
        clients = [Client(url, number, layer, save_every) for number in numbers]
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


def open_websocket(url: str) -> socket.socket:
    client = open_socket(url, 30)
    client.sendall(
        b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n"
        b"Sec-WebSocket-Version: 13\r\n" + BEARER.encode() + b"\r\n"
    )
    assert client.recv(65536).startswith(b"HTTP/1.1 101")
    return client


def open_socket(url: str, timeout: float | None = None) -> socket.socket:
    port = int(url.split(":")[2].split("/")[0])
    client = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    context = client_context(url)
    return client if context is None else context.wrap_socket(client)


def client_context(url: str) -> ssl.SSLContext | None:
    """Return what a client needs for a URL; the certificate is the server's own, and new."""
    if not url.startswith("wss:"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def make_certificate(folder: Path) -> tuple[str, str]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj"
    command += f" /CN=load -keyout {key} -out {chain}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return str(chain), str(key)


def masked(payload: bytes, opcode: int = 2) -> bytes:
    """Return a client's frame, with a mask of zeros."""
    return struct.pack("!BBQ4x", 0x80 | opcode, 0x80 | 127, len(payload)) + payload


async def take_up(url: str, layer: Any, clients: list[dict[str, Any]]) -> int:
    """Go on with the saved states; return how many did not go on with the right bits."""
    differing = 0
    for client in clients:
        rows = np.arange(client["first"], client["first"] + client["answered"] + 20) % len(TABLE)
        async with Client(url, 0, layer, 0).connect() as websocket:
            await websocket.recv()
            await websocket.send(json.dumps({"op": "load", "state": client["state"]}))
            await websocket.recv()
            await websocket.send(TABLE[rows[-20:]].tobytes())
            y = np.frombuffer(await websocket.recv(), "<f4").reshape(20, -1)
        if not np.array_equal(y, layer.stream().run(TABLE[rows])[-20:]):
            differing += 1
    return differing


def load(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    server = Server(path, args)
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
    second = Server(path, args)
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
