"""`fastrnn serve` in a process of its own, and clients of it, for those that measure it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from websockets.asyncio.client import connect

TOKEN = "token-of-every-client"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
TABLE = np.random.default_rng(0).standard_normal((4096, 128)).astype("<f4")
ROWS = [row.tobytes() for row in TABLE]


class Usage(NamedTuple):
    """What a process takes."""

    resident: int  # bytes
    files: int  # descriptors
    cpu_seconds: float


def usage_of(process: int) -> Usage:
    """Return what it takes now; OSError if it is gone."""
    folder = Path(f"/proc/{process}")
    pages = int((folder / "statm").read_text().split()[1])
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Usage(
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir(folder / "fd")),
        (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


class Server:
    """`fastrnn serve` in a process of its own, and its workers."""

    def __init__(
        self,
        path: Path,
        *,
        workers: int = 1,
        tls: bool = False,
        tokens: bool = False,
        drain_seconds: float = 5.0,
    ) -> None:
        command = [sys.executable, "-m", "fastrnn", "serve", str(path), "--port", "0"]
        command += ["--drain-seconds", str(drain_seconds), "--workers", str(workers)]
        if tls:
            chain, key = make_certificate(path.parent)
            command += ["--tls-cert", chain, "--tls-key", key]
        if tokens:
            file = path.with_name("tokens")
            file.write_text(f"bench {TOKEN}\n")
            command += ["--token-file", str(file)]
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

    def usage(self) -> dict[int, Usage]:
        """Return what each of those that serve now takes, by process."""
        found = {}
        for worker in self.workers():
            with suppress(OSError):  # it has just ended
                usage = usage_of(worker)
                if usage.resident:  # else it has ended as well, and nobody has looked yet
                    found[worker] = usage
        return found

    def resident(self) -> int:
        return sum(usage.resident for usage in self.usage().values())

    def cpu_seconds(self) -> float:
        """Return what those that are there now have taken."""
        return sum(usage.cpu_seconds for usage in self.usage().values())

    def metrics(self) -> str:
        with open_socket(self.url) as client:
            client.sendall(f"GET /metrics HTTP/1.1\r\nHost: localhost\r\n{BEARER}\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def figures(self) -> dict[str, float]:
        """Return what /metrics has without labels, by name without the prefix."""
        lines = [line.split() for line in self.metrics().splitlines()]
        return {
            words[0].removeprefix("fastrnn_"): float(words[1])
            for words in lines
            if len(words) == 2 and words[0].startswith("fastrnn_") and "{" not in words[0]
        }

    def stop(self) -> tuple[int, str, float]:
        begin = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err, time.perf_counter() - begin


class Client:
    """A client's stream, which goes over the rows of TABLE and can go on elsewhere."""

    def __init__(self, url: str, first: int, save_every: int) -> None:
        """`first` is its first row; it asks for its state every `save_every` frames, 0: never."""
        self.url, self.first, self.save_every = url, first, save_every
        self.sent = self.answered = self.differing = 0
        self.state: str | None = None  # that a drain told
        self.saved: tuple[int, str] | None = None  # after so many frames
        self.since: list[tuple[int, bytes]] = []  # frames in each message since, and its answer

    def took(self, row: int, answer: bytes, seconds: float) -> None:
        """Do what is wanted with the answer to the frames from `row` on, after so long."""

    def connect(self) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return connect(
            self.url, proxy=None, compression=None, open_timeout=60, ssl=client_context(self.url),
            additional_headers=headers,
        )  # fmt: skip

    async def exchange(self, websocket: Any, frames: int = 1) -> None:
        """Send a message of so many frames and take its answer; now and then save as well."""
        row = (self.first + self.answered) % len(ROWS)
        begin = time.perf_counter()
        await websocket.send(message(row, frames))
        self.sent = max(self.sent, self.answered + frames)
        answer = await websocket.recv()
        if isinstance(answer, str):
            self.state = json.loads(answer)["state"]
            return
        seconds = time.perf_counter() - begin
        self.answered += frames
        self.took(row, answer, seconds)
        if self.save_every:
            self.since.append((frames, answer))
            if self.answered >= self.save_every + (self.saved[0] if self.saved else 0):
                await self.save(websocket)

    async def save(self, websocket: Any) -> None:
        """Ask for the state; what was sent before need not be kept any more."""
        await websocket.send('{"op": "save"}')
        answer = json.loads(await websocket.recv())
        self.saved, self.since = (self.answered, answer["state"]), []
        if answer["op"] == "drain":
            self.state = answer["state"]

    async def take_up(self, websocket: Any) -> None:
        """Go on where the last connection ended: from the saved state, with what was sent since.

        An answer that was had before, and is not the same now, is one that differs.
        """
        at = 0
        if self.saved is not None:
            at, state = self.saved
            await websocket.send(json.dumps({"op": "load", "state": state}))
            await websocket.recv()
        for frames, had in self.since:
            await websocket.send(message((self.first + at) % len(ROWS), frames))
            self.differing += await websocket.recv() != had
            at += frames


def message(row: int, frames: int) -> bytes:
    """Return rows of TABLE from `row` on, over its end if need be."""
    return b"".join(ROWS[(row + i) % len(ROWS)] for i in range(frames))


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
    command += f" /CN=bench -keyout {key} -out {chain}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return str(chain), str(key)


def masked(payload: bytes, opcode: int = 2) -> bytes:
    """Return a client's frame, with a mask of zeros."""
    return struct.pack("!BBQ4x", 0x80 | opcode, 0x80 | 127, len(payload)) + payload
