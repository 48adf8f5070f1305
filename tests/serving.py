"""What the tests of `fastrnn.serve` share: a layer, a pool whose kernel waits, a server process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

import fastrnn
from fastrnn.layers.weights import StackConfig
from fastrnn.serve.limits import Limits
from fastrnn.serve.server import Server


def masked(payload, *, opcode=2, fin=True):
    """Return a client's frame with a mask of zeros."""
    first = fin << 7 | opcode
    if len(payload) < 126:
        return struct.pack("!BB4x", first, 0x80 | len(payload)) + payload
    return struct.pack("!BBQ4x", first, 0x80 | 127, len(payload)) + payload


def handshake(**headers):
    """Return a client's request to become a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    fields = {
        "Host": "x", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13", **headers,
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET /stream HTTP/1.1\r\n{lines}\r\n".encode()


def make_layer(cell="LSTM", input_size=5, hidden_size=7, num_layers=2, seed=0, **options):
    """Return a layer with random weights."""
    rng = np.random.default_rng(seed)
    config = StackConfig(cell, input_size, hidden_size, num_layers)
    weights = {name: rng.uniform(-0.5, 0.5, shape) for name, shape in config.shapes().items()}
    return getattr(fastrnn, cell).from_state_dict(weights, dtype="float32", **options)


def in_loop(test):
    """Run an async test function in a new event loop, at most 30 seconds."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def bounded():
            await asyncio.wait_for(test(*args, **kwargs), 30)

        asyncio.run(bounded())

    return run


class GatedLayer:
    """A layer whose pool's kernel calls wait until the test lets them go, and can be made to fail.

    `calls` holds the ids of each kernel call, once it has begun.
    """

    work = None  # not known to be little: no call is made in the event loop's thread

    def __init__(self, layer):
        self.layer = layer
        self.batch_first = layer.batch_first
        self.input_size = layer.input_size
        self.fingerprint = layer.fingerprint
        self.calls = []
        self.gate = threading.Semaphore(0)
        self.error = None

    def pool(self, capacity):
        self.inner = self.layer.pool(capacity=capacity)
        return self

    def __len__(self):
        return len(self.inner)

    def __getattr__(self, name):  # what else the pool has
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def let(self, calls=1):
        self.gate.release(calls)

    def step(self, ids, x, out=None):
        self._wait(ids)
        return self.inner.step(ids, x, out=out)

    def run(self, ids, x, lengths=None):
        self._wait(ids)
        return self.inner.run(ids, x, lengths)

    def _wait(self, ids):
        self.calls.append(list(ids))
        assert self.gate.acquire(timeout=20)
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    async def begun(self, calls):
        """Wait until so many kernel calls have begun."""
        while len(self.calls) < calls:
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def serving(layer, origins=(), hosts=(), certificate=None, **limits):
    """A server in this event loop, and its port."""
    server = Server(layer, Limits(**limits), origins, hosts)
    _, port = await server.start("127.0.0.1", 0, certificate=certificate)
    try:
        yield server, port
    finally:
        await server.drain()


async def until(condition, seconds=20):
    """Wait until condition() holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def inherited(signum, handler):
    """What is started meanwhile begins with that handler for a signal: SIG_IGN is nohup's."""
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


def unlabelled(text):
    """Return the samples of Prometheus's text that have no labels."""
    families = text_string_to_metric_families(text)
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


def make_certificate(folder, name="one"):
    """Return the paths of a certificate for 127.0.0.1 and localhost, signed by itself, and key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", key, "-out", chain],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return chain, key


def status_over_tls(port, context, **headers):
    """Return the status that a WebSocket's request gets.

    By one thread: the threaded client reads while it writes, of which TLS sockets hang now and then.
    """
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(handshake(**headers))
        said = b""
        while b"\r\n" not in said:
            part = client.recv(4096)
            if not part:
                raise ConnectionResetError("closed without an answer")
            said += part
        return int(said.split()[1])


class ServerProcess:
    """`fastrnn serve` in a process of its own, on a free port of the loopback."""

    def __init__(self, path, *options, wrap=(sys.executable,)):
        """`wrap` is a command that runs Python with the arguments that follow."""
        self.process = subprocess.Popen(
            [*wrap, "-m", "fastrnn", "serve", str(path), "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.banner = [self.process.stdout.readline(), self.process.stdout.readline()]
        found = re.search(
            r"serving (wss?://(?:localhost|127\.0\.0\.1:(\d+))/stream)", self.banner[1]
        )
        if found is None:
            raise AssertionError(f"no banner: {self.banner}, {self.process.communicate()}")
        self.url, self.port = found[1], int(found[2] or 0)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.returncode is None:
            self.stop()

    def stop(self, signum=signal.SIGTERM):
        """Ask it to drain, unless it was (None), and return its exit code and what else it printed.

        A second signal may find it beyond its handlers.
        """
        if signum is not None:
            self.process.send_signal(signum)
        try:
            out, err = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err

    def connect(self, **options):
        """Return a client's WebSocket, whose hello is not yet received."""
        return connect(self.url, proxy=None, compression=None, **options)

    def get(self, path, **headers):
        """Return status and text of an HTTP request."""
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            request = urllib.request.Request(url, headers=headers)
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        """Return the samples of /metrics without those that have labels."""
        return unlabelled(self.get("/metrics")[1])

    def wait_for_streams(self, count):
        """Wait until so many streams are open."""
        deadline = time.monotonic() + 60
        while (streams := self.metrics()["fastrnn_streams"]) != count:
            assert time.monotonic() < deadline, f"{streams} streams are open, expected {count}"
            time.sleep(0.01)
