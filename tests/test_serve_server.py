"""`fastrnn serve` by real clients: streams, refusals, limits, saved states, drains."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import signal
import socket
import struct
import threading
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from serving import ServerProcess, handshake, inherited, make_layer, masked
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus

LAYER = make_layer()
FRAME = 4 * LAYER.input_size
MOST = 4096  # --max-message


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "model.npz"
    np.savez(path, **LAYER.state_dict())
    return path


@pytest.fixture(scope="module")
def server(model):
    with ServerProcess(model, "--max-message", str(MOST)) as server:
        yield server


def frames(rng, k):
    return rng.standard_normal((k, LAYER.input_size)).astype("<f4")


def reals(message):
    return np.frombuffer(message, "<f4").reshape(-1, LAYER.hidden_size)


def step(websocket, x):
    """Send frames and return the answer."""
    websocket.send(x.tobytes())
    return reals(websocket.recv(timeout=10))


def ask(websocket, op, **fields):
    websocket.send(json.dumps({"op": op, **fields}))
    answer = json.loads(websocket.recv(timeout=10))
    assert answer["op"] == op
    return answer


def closed_with(websocket):
    """Return code and reason of the close frame that comes now."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            websocket.recv(timeout=10)
    return websocket.close_code, websocket.close_reason


def raw_client(server, *, receive_buffer=None):
    """Return a socket that has just become a WebSocket: what follows is up to the test."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(10)
    client.connect(("127.0.0.1", server.port))
    client.sendall(handshake())
    assert client.recv(12) == b"HTTP/1.1 101"
    return client


def fill(server, client, opcode=2):
    """Send frames and take no answer, until the server reads and answers no more of them.

    It has served some requests since the last that it did, so that it is not just busy.
    """
    data = memoryview(masked(bytes(FRAME * 20 if opcode == 2 else 100), opcode=opcode) * 2**18)
    at, messages, rests = 0, -1, 0
    client.setblocking(False)
    while rests < 10:
        try:
            at += client.send(data[at : at + 2**16])
            rests = 0
        except ConnectionError:
            return  # cut off already
        except BlockingIOError:
            before, messages = messages, server.metrics()["fastrnn_messages_total"]
            rests = rests + 1 if messages == before else 0
            time.sleep(0.01)
    assert at < len(data), "the server reads whatever comes"


def test_hello_says_what_fits(server):
    with server.connect() as websocket:
        hello = json.loads(websocket.recv())
    assert hello.pop("server").startswith("fastrnn ")
    assert hello == {
        "op": "hello",
        "protocol": 1,
        "cell": "LSTM",
        "num_layers": 2,
        "hidden_size": 7,
        "input_size": 5,
        "output_size": 7,
        "dtype": "float32",
        "byte_order": "little",
        "fingerprint": LAYER.fingerprint,
        "limits": {
            "max_message_bytes": MOST,
            "max_frames_per_second": None,
            "idle_seconds": 300.0,
        },
    }


def test_any_number_of_frames_in_a_message_and_any_number_of_messages_under_way(server, rng):
    x = frames(rng, 60)
    cuts = [0, 1, 2, 2, 30, 33, 60]
    with server.connect() as websocket:
        websocket.recv()
        for begin, end in pairwise(cuts):
            websocket.send(x[begin:end].tobytes())
        y = [reals(websocket.recv(timeout=10)) for _ in cuts[1:]]
    assert [len(part) for part in y] == list(np.diff(cuts))
    np.testing.assert_array_equal(np.concatenate(y), LAYER.stream().run(x))


def test_many_clients_at_once_each_get_their_own_bits(server):
    async def client(i):
        rng = np.random.default_rng(i)
        x = frames(rng, 30)
        async with connect_async(server.url, proxy=None, compression=None) as websocket:
            await websocket.recv()
            y = []
            for row in x:
                await websocket.send(row.tobytes())
                y.append(reals(await websocket.recv()))
        np.testing.assert_array_equal(np.concatenate(y), LAYER.stream().run(x))

    async def clients():
        await asyncio.wait_for(asyncio.gather(*(client(i) for i in range(150))), 30)

    asyncio.run(clients())
    server.wait_for_streams(0)


GRU_STATE = base64.b64encode((pool := make_layer("GRU").pool(1)).save(pool.open())).decode()
BAD_MESSAGES = {
    "part of a frame": (b"abc", 1007, "3 bytes are not whole frames of 20 bytes"),
    "text": ("hello\x1b[2J", 1003, "text is for commands in JSON, frames are binary"),
    "nested": ("[" * 4000, 1003, "text is for commands in JSON, frames are binary"),
    "no object": ("[1]", 1003, 'expected {"op": ...} with one of: save, load, reset'),
    "no such op": ('{"op": {}}', 1003, 'expected {"op": ...} with one of: save, load, reset'),
    "no state": ('{"op": "load"}', 4000, "load: state is not base64 text"),
    "no base64": ('{"op": "load", "state": "%"}', 4000, "load: state is not base64 text"),
    "garbage": (
        '{"op": "load", "state": "AAAA"}',
        4000,
        "LSTM pool: 3 bytes that are not a saved state",
    ),
    "another model's": (json.dumps({"op": "load", "state": GRU_STATE}), 4000, None),
    "too big": (bytes(MOST + 1), 1009, None),
    "too big text": ("x" * (MOST + 1), 1009, None),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_a_bad_message_ends_its_own_connection_and_no_other(server, rng, name):
    message, code, reason = BAD_MESSAGES[name]
    x = frames(rng, 9)
    with server.connect() as neighbour, server.connect() as bad:
        neighbour.recv(), bad.recv()
        y = [step(neighbour, x[:3])]
        bad.send(x[0].tobytes())
        bad.send(message)
        with contextlib.suppress(ConnectionClosed):  # it may be over by now
            bad.send(x[0].tobytes())
        y.append(step(neighbour, x[3:6]))
        assert closed_with(bad)[0] == code
        if reason is not None:
            assert bad.close_reason == reason
        y.append(step(neighbour, x[6:]))
    np.testing.assert_array_equal(np.concatenate(y), LAYER.stream().run(x))


@pytest.mark.parametrize(
    "end",
    {
        "in mid-frame": struct.pack("!BBQ4x", 0x82, 0xFF, 400) + bytes(10),
        "between fragments": b"\x02\x80" + bytes(4),
        "frame header cut": b"\x82",
        "without a close": b"",
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_vanishes_frees_its_stream(server, end, reset):
    client = raw_client(server)
    client.sendall(masked(bytes(FRAME)) + end[1])
    server.wait_for_streams(1)
    if reset:  # RST instead of FIN
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    server.wait_for_streams(0)


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 64,
        b"GET /stream HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 100_000,
        b"POST /stream HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    ],
    ids=["bytes", "no upgrade", "long line", "post", "tls"],
)
def test_what_is_no_handshake_is_dropped(server, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except ConnectionError:
            pass
    assert server.get("/health") == (200, "ok\n")


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x14" + bytes(20),
        b"\xf2\x80" + bytes(4),
        b"\x8f\x80" + bytes(4),
        b"\x80\x80" + bytes(4),
    ],
    ids=["no mask", "reserved bits", "reserved opcode", "continues nothing"],
)
def test_frames_against_the_protocol_are_refused(server, data):
    client = raw_client(server)
    client.sendall(data)
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    assert struct.pack("!H", 1002) in received
    client.close()
    server.wait_for_streams(0)


@pytest.mark.parametrize("opcode", [2, 9], ids=["frames", "pings"])
def test_a_slow_reader_is_slowed_and_takes_no_memory(server, rng, opcode):
    x = frames(rng, 20)
    before = server.metrics()["process_resident_memory_bytes"]
    client = raw_client(server, receive_buffer=4096)
    fill(server, client, opcode)
    with server.connect() as neighbour:
        neighbour.recv()
        np.testing.assert_array_equal(step(neighbour, x), LAYER.stream().run(x))
    assert server.metrics()["process_resident_memory_bytes"] < before + 2**22
    client.close()
    server.wait_for_streams(0)


@pytest.mark.parametrize("opcode", [2, 9, 10], ids=["no frames", "pings", "pongs"])
def test_a_flood_of_the_smallest_messages_holds_up_nobody(server, opcode):
    data = masked(b"", opcode=opcode) * 40_000
    client = raw_client(server)
    client.settimeout(0.001)
    until = time.monotonic() + 1.5
    waited = []

    def flood():
        at = 0
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                client.recv(2**20)
            with contextlib.suppress(TimeoutError):
                at = (at + client.send(data[at : at + 2**16])) % len(data)

    with server.connect() as neighbour:
        neighbour.recv()
        thread = threading.Thread(target=flood)
        thread.start()
        while time.monotonic() < until:
            begin = time.monotonic()
            neighbour.send(bytes(FRAME))
            neighbour.recv(timeout=20)
            waited.append(time.monotonic() - begin)
        thread.join()
        client.close()
    assert np.percentile(waited, 90) < 0.5
    server.wait_for_streams(0)


def test_an_answer_is_no_bigger_than_a_message_may_be(server, rng):
    most = MOST // (4 * LAYER.hidden_size)
    x = frames(rng, most + 1)
    assert x.nbytes <= MOST
    with server.connect() as websocket:
        websocket.recv()
        np.testing.assert_array_equal(step(websocket, x[:most]), LAYER.stream().run(x[:most]))
        websocket.send(x.tobytes())
        reason = f"the answer to {most + 1} frames has more than {MOST} bytes"
        assert closed_with(websocket) == (1009, reason)


def test_nan_is_allowed_and_counted(server, rng):
    x = frames(rng, 3)
    x[1, 0] = np.nan
    before = server.metrics()["fastrnn_nan_frames_total"]
    with server.connect() as websocket:
        websocket.recv()
        y = step(websocket, x)
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1:]).all()
    assert server.metrics()["fastrnn_nan_frames_total"] == before + 1


def test_a_saved_state_goes_on_at_another_server(server, model, rng):
    x = frames(rng, 12)
    expected = LAYER.stream().run(x)
    with server.connect() as websocket:
        websocket.recv()
        np.testing.assert_array_equal(step(websocket, x[:5]), expected[:5])
        state = ask(websocket, "save")["state"]
        step(websocket, x[:5])
    with ServerProcess(model) as other, other.connect() as websocket:
        assert json.loads(websocket.recv())["fingerprint"] == LAYER.fingerprint
        step(websocket, x[:2])
        ask(websocket, "load", state=state)
        np.testing.assert_array_equal(step(websocket, x[5:]), expected[5:])
        ask(websocket, "reset")
        np.testing.assert_array_equal(step(websocket, x), expected)


def test_http(server):
    assert server.get("/health") == (200, "ok\n")
    assert server.get("/nowhere") == (404, "/stream (WebSocket), /health, /metrics\n")
    assert server.get("/stream")[0] == 426
    metrics = server.metrics()
    assert metrics["fastrnn_frames_total"] >= metrics["fastrnn_kernel_calls_total"] > 0
    assert metrics["fastrnn_step_seconds_sum"] > 0


def test_web_pages_are_refused_unless_their_origin_is_named(server, model):
    with pytest.raises(InvalidStatus, match="HTTP 403"):
        server.connect(origin="https://example.org")
    with ServerProcess(model, "--origin", "https://example.org") as other:
        with other.connect(origin="https://example.org") as websocket:
            websocket.recv()
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            other.connect(origin="https://example.com")


def test_strangers_choose_no_close_code_that_is_counted_apart(model):
    with ServerProcess(model) as server:
        for code in (3001, 4000, 4999):
            client = raw_client(server)
            client.sendall(masked(struct.pack("!H", code), opcode=8))
            while client.recv(65536):
                pass
            client.close()
        server.wait_for_streams(0)
        _, metrics = server.get("/metrics")
    assert [line for line in metrics.splitlines() if line.startswith("fastrnn_closes_total{")] == [
        'fastrnn_closes_total{code="3000"} 3.0'
    ]


def test_one_stream_too_many_and_a_client_too_fast(model, rng):
    x = frames(rng, 250)
    with ServerProcess(model, "--max-streams", "2", "--max-rate", "200") as server:
        with server.connect() as one, server.connect() as two:
            assert json.loads(one.recv())["limits"]["max_frames_per_second"] == 200
            two.recv()
            with pytest.raises(InvalidStatus, match="HTTP 503"):
                server.connect()
            assert server.get("/health")[0] == 200
            begin = time.monotonic()
            np.testing.assert_array_equal(step(one, x), LAYER.stream().run(x))
            assert 0.2 < time.monotonic() - begin < 5
            begin = time.monotonic()
            np.testing.assert_array_equal(step(two, x[:200]), LAYER.stream().run(x[:200]))
            assert time.monotonic() - begin < 0.9  # a second's burst is free
        server.wait_for_streams(0)
        assert server.metrics()["fastrnn_refusals_total"] == 1
        with server.connect() as three:
            three.recv()
            assert len(step(three, x[:1])) == 1


def test_a_client_that_vanishes_while_it_is_slowed_frees_its_stream(model):
    with ServerProcess(model, "--max-rate", "50") as server:
        client = raw_client(server)
        client.sendall(masked(bytes(FRAME * 5000)))  # 99 seconds' worth
        server.wait_for_streams(1)
        client.close()
        server.wait_for_streams(0)
        assert server.metrics()["fastrnn_frames_total"] == 0


def test_the_silent_and_the_stuck_are_closed(model):
    with ServerProcess(model, "--idle-seconds", "1") as server:
        with server.connect() as silent, raw_client(server, receive_buffer=4096) as stuck:
            silent.recv()
            fill(server, stuck)
            assert closed_with(silent) == (1008, "idle for too long")
            server.wait_for_streams(0)
        _, metrics = server.get("/metrics")
        assert 'fastrnn_closes_total{code="1008"} 1.0' in metrics
        assert 'fastrnn_closes_total{code="1006"} 1.0' in metrics


@pytest.mark.parametrize("clients", [30])
def test_sigterm_under_load_loses_no_frame(model, clients):
    """Clients with messages under way take up their streams at a second server, bit for bit."""

    async def until_drained(url, x):
        """Send frames in small messages, ahead of the answers; return the answers and the state."""
        y = []
        async with connect_async(url, proxy=None, compression=None) as websocket:
            await websocket.recv()

            async def send():
                for at in range(0, len(x), 2):
                    await websocket.send(x[at : at + 2].tobytes())
                    if at % 8 == 0:
                        await asyncio.sleep(0.001)

            sender = asyncio.ensure_future(send())
            async for message in websocket:
                if isinstance(message, str):
                    farewell = json.loads(message)
                    assert farewell["op"] == "drain"
                    state = farewell["state"]
                else:
                    y.append(reals(message))
            await asyncio.gather(sender, return_exceptions=True)
            assert (websocket.close_code, websocket.close_reason) == (1001, "the server drains")
        return np.concatenate(y), state

    async def go_on(url, x, state):
        async with connect_async(url, proxy=None, compression=None) as websocket:
            await websocket.recv()
            await websocket.send(json.dumps({"op": "load", "state": state}))
            await websocket.recv()
            await websocket.send(x.tobytes())
            return reals(await websocket.recv())

    async def both(first, second):
        inputs = [frames(np.random.default_rng(i), 10_000) for i in range(clients)]
        tasks = [asyncio.ensure_future(until_drained(first.url, x)) for x in inputs]
        await asyncio.sleep(0.5)
        code, _, err = await asyncio.to_thread(first.stop)
        assert (code, err) == (0, f"draining {clients} streams\n")
        for x, (y, state) in zip(inputs, await asyncio.gather(*tasks), strict=True):
            expected = LAYER.stream().run(x[: len(y) + 50])
            np.testing.assert_array_equal(y, expected[: len(y)])
            rest = await go_on(second.url, x[len(y) : len(y) + 50], state)
            np.testing.assert_array_equal(rest, expected[len(y) :])
        assert sum(map(len, [y for y, _ in [task.result() for task in tasks]])) > 0

    with ServerProcess(model) as first, ServerProcess(model) as second:
        asyncio.run(asyncio.wait_for(both(first, second), 50))


def test_a_drain_answers_what_it_received_and_waits_for_nobody(model, rng):
    x = frames(rng, 400)
    with ServerProcess(model, "--drain-seconds", "1") as server:
        stuck = raw_client(server, receive_buffer=4096)
        fill(server, stuck)
        half = raw_client(server)
        half.sendall(masked(bytes(FRAME))[:-1])
        with server.connect() as websocket:
            websocket.recv()
            websocket.send(x.tobytes())
            time.sleep(0.2)
            begin = time.monotonic()
            assert server.stop() == (0, "", "draining 3 streams\n")
            assert time.monotonic() - begin < 15
            np.testing.assert_array_equal(reals(websocket.recv()), LAYER.stream().run(x))
            assert json.loads(websocket.recv())["op"] == "drain"
            assert closed_with(websocket) == (1001, "the server drains")
        stuck.close()
        half.close()


def test_strangers_write_nothing_on_the_terminal(model):
    with ServerProcess(model) as server:
        for data in (b"\x1b]0;x\x07\r\n\r\n", b"GET /\x1b[2J HTTP/1.1\r\nHost: \x1b[2J\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        with server.connect() as websocket:
            websocket.recv()
            websocket.send("\x1b[2J")
            closed_with(websocket)
        gone = raw_client(server)
        gone.sendall(masked(b"", opcode=9) * 40_000)
        time.sleep(0.05)  # amidst its pings
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        server.wait_for_streams(0)
        assert server.stop() == (0, "", "draining 0 streams\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains(model, rng, signum):
    x = frames(rng, 3)
    with inherited(signum, signal.SIG_DFL):
        server = ServerProcess(model)
    with server, server.connect() as websocket:
        websocket.recv()
        step(websocket, x)
        assert server.stop(signum) == (0, "", "draining 1 stream\n")
        assert json.loads(websocket.recv())["op"] == "drain"
        assert closed_with(websocket) == (1001, "the server drains")


def test_what_nohup_ignores_stays_ignored(model):
    """A hangup is no news for who was told to outlive it."""
    with inherited(signal.SIGHUP, signal.SIG_IGN):
        server = ServerProcess(model)
    with server:
        server.process.send_signal(signal.SIGHUP)
        assert server.get("/health") == (200, "ok\n")
        assert server.stop()[0] == 0


@pytest.mark.parametrize(
    "data",
    {
        "too many fragments": masked(b"", fin=False) + masked(b"", opcode=0, fin=False) * 5000,
        "fragments": masked(b"", fin=False) + masked(b"", opcode=0, fin=False) * 500,
        "a message too big": masked(bytes(MOST + 1)),
        "no UTF-8": masked(b"\xff", opcode=1),
        "against the protocol": b"\x82\x14" + bytes(20),
        "a close": masked(b"\x03\xe8", opcode=8),
        "a close, no more": masked(b"\x03\xe8", opcode=8) * 2,
        "pings": masked(b"", opcode=9) * 40_000,
    }.items(),
    ids=lambda item: item[0],
)
def test_sigterm_beside_what_is_refused(model, data):
    """Whatever has been sent just before, or not read yet: no traceback, no delay."""
    options = ("--max-message", str(MOST), "--drain-seconds", "2")
    with ServerProcess(model, *options) as server:
        clients = [raw_client(server) for _ in range(5)]
        for client in clients:
            client.settimeout(0.2)
            with contextlib.suppress(OSError):  # it is cut off, or not read any more
                client.sendall(data[1])
        begin = time.monotonic()
        code, out, err = server.stop()
        assert time.monotonic() - begin < 8
        assert (code, out) == (0, "")
        assert re.fullmatch("draining [0-5] streams?\n", err)
        for client in clients:
            client.close()


def test_metrics_are_for_who_asks_by_address(server, model):
    """A page whose name was made to mean this machine cannot read them."""
    for host in ("evil.example", "evil.example:80", "localhost.evil.example"):
        code, text = server.get("/metrics", Host=host)
        assert code == 403
        assert "--metrics-host" in text
        assert server.get("/health", Host=host) == (200, "ok\n")
    for host in (f"localhost:{server.port}", "[::1]", "10.1.2.3:9"):
        assert server.get("/metrics", Host=host)[0] == 200
    with ServerProcess(model, "--metrics-host", "Metrics.internal") as other:
        assert other.get("/metrics", Host="metrics.internal:80")[0] == 200
        assert other.get("/metrics", Host="internal")[0] == 403


def test_refusals_are_told_in_few_lines(model):
    with ServerProcess(model, "--max-streams", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(handshake(Origin="https://\x9b2J"))
            assert client.recv(12) == b"HTTP/1.1 403"
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            server.connect(origin="https://b.example")
        with server.connect() as websocket:
            websocket.recv()
            for _ in range(20):
                with pytest.raises(InvalidStatus, match="HTTP 503"):
                    server.connect()
        for _ in range(3):
            server.get("/metrics", Host="evil.example")
        metrics = server.metrics()
        assert metrics["fastrnn_forbidden_total"] == 2
        assert metrics["fastrnn_refusals_total"] == 20
        _, _, err = server.stop()
    assert "such as 'https://\\xc2\\x9b2J'" in err
    told = Counter()
    for line in err.splitlines():
        found = re.match(r"refused (.*?) with (\d+): [^:,]*(?:: (\d+) more times)?", line)
        if found is not None:
            told[found[1], found[2]] += int(found[3] or 1)
    assert told == {
        ("a WebSocket", "403"): 2,
        ("a WebSocket", "503"): 20,
        ("/metrics", "403"): 3,
    }
    assert len(err.splitlines()) < 15


FLOODS = {
    "a long command": masked(b'{"op":"reset","x":[' + b"[[]]," * 48_000, opcode=1),
    "escapes": masked(b'{"op":"reset","x":"' + b"\\u00e9" * 40_000 + b'"}', opcode=1),
    "a long state": masked(b'{"op":"load","state":"' + b"A" * 240_000 + b'"}', opcode=1),
    "deep": masked(b'{"op":"reset","x":' + b"[" * 400 + b"]" * 400 + b"}", opcode=1),
    "saves": masked(b'{"op": "save"}', opcode=1) * 16,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_commands_hold_up_nobody(model, flood):
    """The median latency of a neighbour was 118 ms beside four clients with long commands."""
    data, stop = FLOODS[flood], threading.Event()

    def send():
        while not stop.is_set():
            with contextlib.suppress(OSError), raw_client(server) as client:
                client.settimeout(1)
                while not stop.is_set():
                    client.sendall(data)
                    if not client.recv(2**20):
                        break

    with ServerProcess(model) as server, server.connect() as neighbour:
        neighbour.recv()
        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        waited = []
        until = time.monotonic() + 1
        while time.monotonic() < until or len(waited) < 20:
            begin = time.monotonic()
            neighbour.send(bytes(FRAME))
            neighbour.recv(timeout=20)
            waited.append(time.monotonic() - begin)
        stop.set()
        for thread in threads:
            thread.join()
    assert np.median(waited) < 0.06
