"""Who is taken for alive: the slowed and the busy are, the silent are not, the closed are gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time

import numpy as np
import pytest
from serving import GatedLayer, handshake, in_loop, make_layer, masked, serving, until
from websockets.asyncio.client import connect

from fastrnn.serve import connection as connection_module
from fastrnn.serve import server as server_module

LAYER = make_layer()
FRAME = bytes(4 * LAYER.input_size)
PING = 0.15  # seconds: what takes 40 s with those of the package takes 0.3


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(connection_module, "PING_SECONDS", PING)
    monkeypatch.setattr(server_module, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(server_module, "SPARE_SOCKETS", 20)


def client(port, **options):
    options = {"ping_interval": None, **options}
    return connect(f"ws://127.0.0.1:{port}/stream", proxy=None, compression=None, **options)


@contextlib.asynccontextmanager
async def raw_client(port):
    """A socket that has become a WebSocket and got its hello."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(handshake())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"}}")
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def rest(reader):
    """What comes until the end of the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return None


@pytest.mark.parametrize("pings", [None, PING], ids=["quiet", "pinging"])
@in_loop
async def test_a_client_that_is_slowed_lives(pings):
    """It sends its frames at once; the pong to its own pings does not wait behind them either."""
    async with (
        serving(LAYER, max_rate=40) as (server, port),
        client(port, ping_interval=pings, ping_timeout=pings) as websocket,
    ):
        await websocket.recv()
        begin = time.monotonic()
        for _ in range(40 + 40):
            await websocket.send(FRAME)
        for _ in range(40 + 40):
            await websocket.recv()
        assert time.monotonic() - begin > 3 * PING
        await websocket.close()
    assert server.counts.closes == {1000: 1}


@in_loop
async def test_a_client_that_is_slowed_by_one_long_message_lives():
    async with serving(LAYER, max_rate=100) as (server, port), client(port) as websocket:
        await websocket.recv()
        await websocket.send(FRAME * 180)
        await websocket.send(FRAME)
        assert len(await websocket.recv()) == 180 * 4 * LAYER.hidden_size
        await websocket.recv()
    assert server.counts.closes == {1000: 1}


@in_loop
async def test_a_client_with_a_backlog_lives():
    """Nothing of it is read while the kernel works on others', for longer than a ping may take."""
    gated = GatedLayer(LAYER)
    async with serving(gated, max_message=4096) as (server, port), client(port) as websocket:
        await websocket.recv()
        for _ in range(200):
            await websocket.send(FRAME)
        await gated.begun(1)
        (connection,) = server._connections
        await until(lambda: not connection.transport.is_reading())
        await asyncio.sleep(4 * PING)
        gated.let(1000)
        for _ in range(200):
            await websocket.recv()
    assert server.counts.closes == {1000: 1}


@in_loop
async def test_a_client_that_only_answers_pings_lives_and_one_that_does_not_is_gone():
    async with (
        serving(LAYER) as (server, port),
        client(port) as websocket,
        raw_client(port) as (reader, _),
    ):
        await websocket.recv()
        begin = time.monotonic()
        assert await rest(reader) in (b"\x89\x00", None)  # a ping, and the end
        assert time.monotonic() - begin > PING
        await asyncio.sleep(3 * PING)
        await websocket.send(FRAME)
        await websocket.recv()
        await websocket.close()
    assert server.counts.closes == {1006: 1, 1000: 1}


@pytest.mark.parametrize("sent", [FRAME, masked(b"", opcode=10), b""], ids=["frames", "pongs", "-"])
@in_loop
async def test_whatever_comes_is_a_sign_of_life(sent):
    """A trickle of bytes, frames or pongs, each shortly before the client would be given up."""
    data = masked(FRAME) if sent == FRAME else sent
    async with serving(LAYER) as (server, port), raw_client(port) as (reader, writer):
        if not data:
            writer.write(masked(bytes(20 * len(FRAME)))[:-300])
            data = b"\0"
        for _ in range(20):
            writer.write(data)
            await asyncio.sleep(PING / 3)
        assert len(server._connections) == 1
        assert not reader.at_eof()


@in_loop
async def test_the_idle_are_closed_though_they_answer_pings():
    async with serving(LAYER, idle_seconds=4 * PING) as (server, port), client(port) as websocket:
        await websocket.recv()
        await websocket.wait_closed()
        assert (websocket.close_code, websocket.close_reason) == (1008, "idle for too long")
    assert server.counts.closes == {1008: 1}


@in_loop
async def test_a_client_that_hangs_up_while_nothing_is_read_from_it_frees_its_stream():
    """It would be hours until its frames are stepped, one a second."""
    async with serving(LAYER, max_rate=1, max_message=4096) as (server, port):
        async with raw_client(port) as (_, writer):
            writer.write(masked(FRAME) * 20_000)
            await until(lambda: not any(c.transport.is_reading() for c in server._connections), 10)
        await until(lambda: len(server.batcher) == 0)


CLOSE = masked(struct.pack("!H", 1000), opcode=8)
BEFORE_CLOSE = {
    "nothing": (b"", 1000),
    "a frame": (masked(FRAME), 1000),
    "frames that are slowed": (masked(FRAME) * 100, 1000),
    "a long message that is slowed": (masked(FRAME * 100), 1000),
    "a fragment": (masked(b"\0", fin=False), 1000),
    "many fragments": (masked(b"", fin=False) + masked(b"", opcode=0, fin=False) * 800, 1000),
    "too many": (masked(b"", fin=False) + masked(b"", opcode=0, fin=False) * 3000, 1009),
    "pings": (masked(b"", opcode=9) * 3, 1000),
}


@pytest.mark.parametrize("before", BEFORE_CLOSE)
@in_loop
async def test_a_close_frees_the_stream_at_once_though_the_socket_stays(before):
    data, code = BEFORE_CLOSE[before]
    async with serving(LAYER, max_rate=5) as (server, port), raw_client(port) as (_, writer):
        assert len(server.batcher) == 1
        begin = time.monotonic()
        writer.write(data + CLOSE)
        await until(lambda: len(server.batcher) == 0)
        assert time.monotonic() - begin < 2.5  # not 5 s, of the close, nor 19 s, of the frames
        assert server.counts.closes == {code: 1}


@pytest.mark.parametrize(
    "message", ['{"op": "save"}', '{"op": "reset"}', b"", FRAME], ids=["save", "reset", "-", "x"]
)
@in_loop
async def test_whatever_is_sent_counts_for_the_rate(message):
    async with serving(LAYER, max_rate=20) as (_, port), client(port) as websocket:
        await websocket.recv()
        begin = time.monotonic()
        for _ in range(30):
            await websocket.send(message)
        for _ in range(30):
            await websocket.recv()
        assert time.monotonic() - begin > 0.45  # the first 20 are free


@in_loop
async def test_pings_count_for_the_rate_and_hold_up_no_drain(monkeypatch):
    monkeypatch.setattr(connection_module, "PING_SECONDS", 10)
    monkeypatch.setattr(server_module, "CLOSE_SECONDS", 0.5)
    async with serving(LAYER, max_rate=20) as (server, port), raw_client(port) as (reader, writer):
        begin = time.monotonic()
        writer.write(masked(b"", opcode=9) * 30 + masked(FRAME))
        got = await reader.readuntil(b"\x82\x1c")  # an answer of 28 bytes
        assert got.count(b"\x8a\x00") == 30
        assert time.monotonic() - begin > 0.45
        writer.write(masked(b"", opcode=9) * 300 + masked(FRAME))
        await until(lambda: any(c._resting for c in server._connections))
        begin = time.monotonic()
        drain = asyncio.ensure_future(server.drain())
        farewell = await rest(reader)
        assert b"\x82\x1c" in farewell
        assert b'"drain"' in farewell
        await drain
        assert time.monotonic() - begin < 6


@in_loop
async def test_half_open_sockets_keep_nobody_out():
    async with serving(LAYER, max_streams=2) as (server, port), client(port) as websocket:
        await websocket.recv()
        most = server._crowd.most
        half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * most)]
        for _, writer in half[::3]:
            writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n")
        begin = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).endswith(b"ok\n")
        async with client(port) as another:
            await another.recv()
            await websocket.send(FRAME)
            await websocket.recv()
        assert time.monotonic() - begin < 5  # they would be dropped after 10 s
        assert server._crowd.dropped >= most
        writer.close()
        for _, each in half:
            each.close()


@in_loop
async def test_sockets_that_stay_after_their_close_keep_nobody_out():
    async with serving(LAYER, max_streams=2) as (server, port), contextlib.AsyncExitStack() as all:
        for _ in range(server._crowd.most + 20):
            _, writer = await all.enter_async_context(raw_client(port))
            writer.write(CLOSE)
            await until(lambda: len(server.batcher) == 0)
        async with client(port) as websocket:
            await websocket.recv()
            await websocket.send(FRAME)
            await websocket.recv()


@pytest.mark.parametrize("signs", ["nothing", "half a request", "half a frame", "no reading"])
@in_loop
async def test_a_drain_is_over_in_time(signs):
    async with serving(LAYER, drain_seconds=0.5, max_rate=1e6) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        if signs == "half a request":
            writer.write(b"GET /stream HTTP/1.1\r\n")
        elif signs != "nothing":
            writer.write(handshake())
            await until(lambda: len(server.batcher) == 1)
            writer.write(masked(FRAME)[:-1])
        if signs == "no reading":
            writer.write(masked(FRAME * 300)[1:] * 3000)
        begin = time.monotonic()
        await server.drain()
        assert time.monotonic() - begin < 2.5
        writer.close()


@in_loop
async def test_an_answered_frame_is_in_the_state_of_the_farewell():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, LAYER.input_size)).astype("<f4")
    async with serving(LAYER, max_rate=100) as (server, port), client(port) as websocket:
        await websocket.recv()
        for row in x:
            await websocket.send(row.tobytes())
        await websocket.recv()
        drain = asyncio.ensure_future(server.drain())
        answers = [message async for message in websocket]
        await drain
    state = json.loads(answers[-1])["state"]
    async with serving(LAYER) as (_, port), client(port) as websocket:
        await websocket.recv()
        await websocket.send(json.dumps({"op": "load", "state": state}))
        await websocket.recv()
        await websocket.send(x[len(answers) :].tobytes())
        y = np.frombuffer(await websocket.recv(), "<f4").reshape(-1, LAYER.hidden_size)
    np.testing.assert_array_equal(y, LAYER.stream().run(x)[len(answers) :])
