"""Sockets before their TLS handshake: bounded in number and time, and nothing stays of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import time
import weakref

import pytest
from serving import handshake, in_loop, make_certificate, make_layer, serving, until
from websockets.asyncio.client import connect

from fastrnn.serve import secured as secured_module
from fastrnn.serve import server as server_module
from fastrnn.serve.certificate import Certificate
from fastrnn.serve.connection import Connection

LAYER = make_layer()
FRAME = bytes(4 * LAYER.input_size)
SPARE = 20


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(server_module, "SPARE_SOCKETS", SPARE)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("secured"))


@pytest.fixture
def certificate(files):
    return Certificate(*map(str, files))


def client(port, files, **options):
    context = ssl.create_default_context(cafile=str(files[0]))
    return connect(
        f"wss://127.0.0.1:{port}/stream", proxy=None, compression=None, ssl=context, **options
    )


async def ended(reader):
    """Wait for the end of a connection."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
@in_loop
async def test_sockets_without_a_handshake_keep_nobody_out(files, certificate, said):
    async with serving(LAYER, certificate=certificate, max_streams=5) as (server, port):
        sockets = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * SPARE)]
        for _, writer in sockets:
            writer.write(said)
        await until(lambda: len(server._crowd._all) <= SPARE + 5)
        await until(lambda: server._crowd.dropped >= 2 * SPARE - 5 or said.startswith(b"GET"))
        async with client(port, files) as websocket:
            await websocket.recv()
            await websocket.send(FRAME)
            await websocket.recv()
        for _, writer in sockets:
            writer.close()
        await until(lambda: not server._crowd._all)


@in_loop
async def test_a_handshake_takes_bounded_time(monkeypatch, certificate):
    monkeypatch.setattr(secured_module, "HANDSHAKE_SECONDS", 0.3)
    async with serving(LAYER, certificate=certificate) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: server._crowd._all)
        begin = time.monotonic()
        await ended(reader)
        assert time.monotonic() - begin > 0.1
        await until(lambda: not server._crowd._all)
        writer.close()


@in_loop
async def test_a_drain_waits_for_no_handshake(certificate):
    async with serving(LAYER, certificate=certificate, drain_seconds=20.0) as (server, port):
        sockets = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        await until(lambda: len(server._crowd._all) == 5)
        begin = time.monotonic()
        await server.drain()
        assert time.monotonic() - begin < 5
        for reader, writer in sockets:
            await ended(reader)
            writer.close()


@in_loop
async def test_a_request_in_one_piece_with_the_end_of_the_handshake(files, certificate):
    context = ssl.create_default_context(cafile=str(files[0]))
    async with serving(LAYER, certificate=certificate) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(come, go, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(go.read())
                come.write(await reader.read(65536))
        tls.write(handshake())
        writer.write(go.read())  # TLS 1.3: what ends the handshake is still in there
        said = b""
        while not said.endswith(b"}}"):
            come.write(await reader.read(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    said += tls.read(65536)
        assert said.startswith(b"HTTP/1.1 101")
        writer.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@in_loop
async def test_what_was_closed_is_freed_without_a_garbage_collection(
    monkeypatch, files, certificate, tls
):
    made = []
    begin = Connection.__init__

    def init(self, *args, **more):
        begin(self, *args, **more)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Connection, "__init__", init)
    async with serving(LAYER, certificate=certificate if tls else None) as (server, port):
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                opens = client(port, files) if tls else connect(
                    f"ws://127.0.0.1:{port}/stream", proxy=None, compression=None
                )  # fmt: skip
                async with opens as websocket:
                    await websocket.recv()
                    await websocket.send(FRAME)
                    await websocket.recv()
            await until(lambda: not server._crowd._all)
            assert len(made) == 5
            await until(lambda: not any(one() for one in made), seconds=5)
        finally:
            gc.enable()
