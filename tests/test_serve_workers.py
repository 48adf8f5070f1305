"""`fastrnn serve --workers`: one address, many processes; and TLS, tokens, Unix sockets, logs."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from serving import ServerProcess, make_certificate, make_layer, status_over_tls, unlabelled
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import unix_connect

from fastrnn.cli import main
from fastrnn.cli.logs import set_up_logs
from fastrnn.serve.limits import SPARE_FILES

LAYER = make_layer()
TOKEN = "the-token-of-anna-1234"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("workers") / "model.npz"
    np.savez(path, **LAYER.state_dict())
    return path


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"anna {TOKEN}\n")
    return path


def children(process):
    """Return the ids of a process's children."""
    return [int(p) for p in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def wait_for_words(server, words, count):
    """Read what the server says until the words have come so often."""
    said, end = "", time.monotonic() + 20
    while said.count(words) < count:
        left = max(0.0, end - time.monotonic())
        assert select.select([server.process.stderr], [], [], left)[0], said
        said += os.read(server.process.stderr.fileno(), 65536).decode()


def step(websocket, x):
    websocket.send(x.astype("<f4").tobytes())
    return np.frombuffer(websocket.recv(timeout=10), "<f4").reshape(len(x), -1)


def save(websocket):
    websocket.send('{"op": "save"}')
    return json.loads(websocket.recv(timeout=10))["state"]


def load(websocket, state):
    websocket.send(json.dumps({"op": "load", "state": state}))
    assert json.loads(websocket.recv(timeout=10)) == {"op": "load"}


@contextlib.contextmanager
def connected(server, count):
    """So many clients that have had their hello."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(count)]
        for client in clients:
            client.recv(timeout=10)
        yield clients


def test_workers_share_an_address_and_their_figures_add_up(model, rng):
    x = rng.standard_normal((6, LAYER.input_size))
    expected = LAYER.stream().run(x.astype(np.float32))
    with ServerProcess(model, "--workers", "2") as server:
        assert len(children(server.process.pid)) == 2
        with connected(server, 24) as clients:
            for client in clients:
                np.testing.assert_array_equal(step(client, x), expected)
            until(lambda: server.metrics()["fastrnn_streams"] == 24)
            found = {}

            def all_are_told():
                found.update(server.metrics())
                return found["fastrnn_frames_total"] == 24 * 6

            for _ in range(5):  # whichever answers
                until(all_are_told)
        assert found["fastrnn_connections_total"] == 24
        assert found["fastrnn_workers"] == 2
        assert found["fastrnn_queue_seconds_count"] == 24
        until(lambda: server.metrics()["fastrnn_streams"] == 0)
        assert server.stop() == (0, "", "draining 0 streams\n")


def test_a_worker_that_is_killed_is_replaced_and_its_clients_go_on_elsewhere(model, rng):
    x = rng.standard_normal((9, LAYER.input_size))
    expected = LAYER.stream().run(x.astype(np.float32))
    cut = 0
    with ServerProcess(model, "--workers", "2") as server, connected(server, 16) as clients:
        states = []
        for client in clients:
            np.testing.assert_array_equal(step(client, x[:4]), expected[:4])
            states.append(save(client))
        until(lambda: server.metrics()["fastrnn_frames_total"] == 16 * 4)
        before = children(server.process.pid)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: not is_running(before[0]))  # else it may still be who is connected to
        for client, state in zip(clients, states, strict=True):
            try:
                y = step(client, x[4:])
            except ConnectionClosed:
                cut += 1
                assert client.close_code == 1006  # nobody said goodbye
                with connected(server, 1) as (other,):
                    load(other, state)
                    y = step(other, x[4:])
            np.testing.assert_array_equal(y, expected[4:])
        assert 0 < cut < 16
        until(lambda: len(children(server.process.pid)) == 2)
        assert before[1] in children(server.process.pid)
        until(lambda: server.metrics().get("fastrnn_worker_restarts_total") == 1)
        until(lambda: server.metrics()["fastrnn_frames_total"] == 16 * 9)  # none is forgotten
        code, _, err = server.stop()
    assert code == 0
    assert "ended by SIGKILL" in err


def test_a_drain_says_goodbye_from_every_worker(model, rng):
    x = rng.standard_normal((9, LAYER.input_size))
    with ServerProcess(model, "--workers", "3") as server, connected(server, 12) as clients:
        for client in clients:
            step(client, x[:5])
        until(lambda: server.metrics()["fastrnn_streams"] == 12)
        server.process.send_signal(signal.SIGTERM)
        states = [json.loads(client.recv(timeout=10))["state"] for client in clients]
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=10)
            assert client.close_code == 1001
        code, _, err = server.stop(None)
    assert (code, err) == (0, "draining 12 streams\n")
    pool = LAYER.pool(1)
    expected = LAYER.stream().run(x.astype(np.float32))
    for state in states:
        stream = pool.load(base64.b64decode(state))
        y = pool.run([stream], x[5:, None].astype(np.float32))
        np.testing.assert_array_equal(y[:, 0], expected[5:])
        pool.close(stream)


def test_workers_end_when_who_watches_them_is_killed(model):
    with ServerProcess(model, "--workers", "2") as server, connected(server, 1) as (client,):
        workers = children(server.process.pid)
        server.process.kill()
        assert json.loads(client.recv(timeout=10))["op"] == "drain"
        until(lambda: not any(is_running(worker) for worker in workers))


def test_the_client_of_the_guide_loses_nothing_with_a_worker(model, rng):
    guide = Path(__file__).parent.parent / "docs" / "guides" / "server.md"
    text = guide.read_text("utf-8").partition('```python title="client.py"\n')[2]
    names = {}
    exec(text.partition("```")[0], names)
    x = rng.standard_normal((130, LAYER.input_size)).astype(np.float32)
    with ServerProcess(model, "--workers", "2") as server:
        y = []
        for answer in names["outputs"](server.url, x, every=10):
            y.append(answer)
            if len(y) in (25, 75):  # whoever has the connection goes
                for worker in children(server.process.pid):
                    os.kill(worker, signal.SIGKILL)
        np.testing.assert_array_equal(y, LAYER.stream().run(x))
        assert server.metrics()["fastrnn_worker_restarts_total"] == 4


def is_running(process):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_an_address_in_use(model, capsys):
    with ServerProcess(model, "--workers", "2") as server:
        arguments = ["serve", str(model), "--port", str(server.port)]
        for workers in ("1", "2"):
            assert main([*arguments, "--workers", workers]) == 2
            err = capsys.readouterr().err
            assert "address already in use" in err.lower()
            assert str(server.port) in err


def test_a_unix_socket(model, tmp_path, rng):
    path = tmp_path / "socket"
    x = rng.standard_normal((6, LAYER.input_size))
    for workers in ("1", "2"):
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))  # as one that was killed leaves it
        stale.close()
        with ServerProcess(model, "--unix", str(path), "--workers", workers) as server:
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert server.banner[1].endswith(f"at {path}, until SIGTERM\n")
            assert main(["serve", str(model), "--unix", str(path)]) == 2
            with unix_connect(str(path), "ws://localhost/stream") as websocket:
                websocket.recv()
                y = step(websocket, x)
            np.testing.assert_array_equal(y, LAYER.stream().run(x.astype(np.float32)))
            assert server.stop()[0] == 0
        assert not path.exists()


def test_a_file_is_not_replaced_by_a_unix_socket(model, tmp_path, capsys):
    path = tmp_path / "precious"
    path.write_text("x")
    assert main(["serve", str(model), "--unix", str(path)]) == 2
    assert "there is a file, which is no socket" in capsys.readouterr().err
    assert path.read_text() == "x"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_and_its_renewal(model, tmp_path, rng, workers):
    chain, key = make_certificate(tmp_path)
    other, other_key = make_certificate(tmp_path, "two")
    arguments = ("--tls-cert", str(chain), "--tls-key", str(key), "--workers", workers)
    x = rng.standard_normal((700, LAYER.input_size))  # of several records

    first, new = (ssl.create_default_context(cafile=str(path)) for path in (chain, other))
    with ServerProcess(model, *arguments) as server:
        assert server.url.startswith("wss://")
        with server.connect(ssl=first) as websocket:
            websocket.recv()
            y = step(websocket, x)
            np.testing.assert_array_equal(y, LAYER.stream().run(x.astype(np.float32)))
            chain.write_text("not a certificate")
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            with server.connect(ssl=first) as still:
                still.recv()
            chain.write_bytes(other.read_bytes())
            key.write_bytes(other_key.read_bytes())
            server.process.send_signal(signal.SIGHUP)
            until(lambda: all(can_connect(server, new) for _ in range(8)))
            assert not can_connect(server, first)
            step(websocket, x[:3])  # this one goes on
            server.process.send_signal(signal.SIGTERM)
            assert json.loads(websocket.recv(timeout=10))["op"] == "drain"
        code, _, err = server.stop(None)
    assert code == 0
    assert f"not read anew, and as before: {chain}: no certificate" in err
    assert "\ncertificate read anew\n" in err


def can_connect(server, context):
    try:
        return status_over_tls(server.port, context) == 101
    except ssl.SSLError:
        return False


def test_tokens(model, tokens):
    with ServerProcess(model, "--token-file", str(tokens), "--log", "json") as server:
        for options in (
            {},
            {"additional_headers": {"Authorization": f"Bearer {TOKEN}x"}},
            {"subprotocols": ["fastrnn", f"bearer.{TOKEN[1:]}"]},
        ):
            with pytest.raises(InvalidStatus, match="401"):
                server.connect(**options)
        with server.connect(additional_headers={"Authorization": f"Bearer {TOKEN}"}) as websocket:
            assert json.loads(websocket.recv())["op"] == "hello"
            assert websocket.subprotocol is None
        with server.connect(subprotocols=["fastrnn", f"bearer.{TOKEN}"]) as websocket:
            assert json.loads(websocket.recv())["op"] == "hello"
            assert websocket.subprotocol == "fastrnn"
        assert server.get("/health")[0] == 200
        assert server.get("/metrics")[0] == 401
        text = server.get("/metrics", Authorization=f"Bearer {TOKEN}")[1]
        assert unlabelled(text)["fastrnn_unauthorized_total"] == 4
        tokens.write_text("bert a-token-of-berts-own\n")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.get("/metrics", Authorization=f"Bearer {TOKEN}")[0] == 401)
        code, out, err = server.stop()
    assert code == 0
    assert TOKEN not in out + err
    lines = [json.loads(line) for line in err.splitlines()]
    assert all({"time", "level", "process", "message"} <= line.keys() for line in lines)
    closed = [line for line in lines if line["message"] == "a connection closed"]
    assert [(line["client"], line["code"]) for line in closed] == [("anna", 1000)] * 2
    assert lines[-1]["message"] != ""


def test_a_worker_that_is_begun_later_has_what_was_read_last(model, tmp_path, tokens):
    chain, key = make_certificate(tmp_path)
    new, new_key = make_certificate(tmp_path, "two")
    arguments = ("--tls-cert", str(chain), "--tls-key", str(key), "--token-file", str(tokens))
    bert = "a-token-of-berts-own"
    context = ssl.create_default_context(cafile=str(new))

    def answer(token):
        try:
            return status_over_tls(server.port, context, Authorization=f"Bearer {token}")
        except ssl.SSLError:
            return "another certificate"
        except OSError:  # of a worker that has just been killed
            return "nobody"

    with ServerProcess(model, "--workers", "2", *arguments) as server:
        tokens.write_text(f"bert {bert}\n")
        chain.write_bytes(new.read_bytes())
        key.write_bytes(new_key.read_bytes())
        server.process.send_signal(signal.SIGHUP)
        until(lambda: all(answer(bert) == 101 for _ in range(8)))
        for worker in children(server.process.pid):
            os.kill(worker, signal.SIGKILL)
            until(lambda gone=worker: gone not in children(server.process.pid))
        until(lambda: answer(bert) == 101)
        assert {answer(bert) for _ in range(8)} == {101}
        assert {answer(TOKEN) for _ in range(8)} == {401}
        assert server.stop()[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_flood_of_connections_takes_no_last_descriptor(model, workers):
    limit = 50 + SPARE_FILES
    wrap = (sys.executable, "-c", "import os, resource, sys\n"
            f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")  # fmt: skip
    with contextlib.ExitStack() as stack:
        arguments = ("--workers", workers, "--max-streams", "50")
        server = stack.enter_context(ServerProcess(model, *arguments, wrap=wrap))
        serving = children(server.process.pid) or [server.process.pid]
        for process in serving:  # so that all come at once
            os.kill(process, signal.SIGSTOP)
        for _ in range(1500):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", server.port))
        for process in serving:
            os.kill(process, signal.SIGCONT)
        with connected(server, 1) as (client,):
            step(client, np.zeros((1, LAYER.input_size)))
        assert server.stop() == (0, "", "draining 0 streams\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_cannot_be_read_anew_stays_and_holds_up_nothing_else(model, tmp_path, tokens, workers):
    chain, key = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(chain))
    arguments = ("--tls-cert", str(chain), "--tls-key", str(key), "--token-file", str(tokens))
    bert = "a-token-of-berts-own"

    def knows(token):
        status = status_over_tls(server.port, context, Authorization=f"Bearer {token}")
        return status == 101

    with ServerProcess(model, "--workers", workers, *arguments) as server:
        chain.write_text("not a certificate")
        tokens.write_text(f"bert {bert}\n")  # anna's is revoked all the same
        server.process.send_signal(signal.SIGHUP)
        kept = f"not read anew, and as before: {chain}: no certificate"
        wait_for_words(server, f"tokens read anew; {kept}", int(workers))
        assert all(knows(bert) for _ in range(8))
        assert not any(knows(TOKEN) for _ in range(8))
        for broken, why in (
            ("nonsense", f"; {tokens}, line 1: expected NAME TOKEN"),
            ("", f"; {tokens}: no tokens: nobody could connect"),
            (None, f"No such file or directory: '{tokens}'"),
            ("anna tooshort", f"; {tokens}, line 1: a token has at least"),
        ):
            if broken is None:
                tokens.unlink()
            else:
                tokens.write_text(broken)
            server.process.send_signal(signal.SIGHUP)
            wait_for_words(server, why, int(workers))
            assert all(knows(bert) for _ in range(8))
        assert server.stop()[0] == 0


def test_logs_in_json_have_every_failure_in_a_line(capsys):
    set_up_logs("json")
    try:
        try:
            raise OSError("no more files")
        except OSError:
            logging.getLogger("asyncio").exception("out of\nresources")
        lines = capsys.readouterr().err.splitlines()
    finally:
        set_up_logs("text")
    (line,) = map(json.loads, lines)
    assert (line["level"], line["message"]) == ("error", "out of\nresources")
    assert line["exception"].endswith("OSError: no more files")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_at_an_address_of_their_own(model, tokens, workers):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("--metrics-address", str(port), "--token-file", str(tokens), "--workers", workers)
    with ServerProcess(model, *arguments) as server:
        own = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{own}/metrics", timeout=20) as response:
            assert unlabelled(response.read().decode())["fastrnn_streams"] == 0
        with urllib.request.urlopen(f"{own}/health", timeout=20) as response:
            assert response.read() == b"ok\n"
        for path in ("/stream", "/nowhere"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(own + path, timeout=20)
        request = urllib.request.Request(f"{own}/metrics", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=20)
        assert server.get("/metrics", Authorization=f"Bearer {TOKEN}")[0] == 404
        assert server.get("/health")[0] == 200
        assert server.stop()[0] == 0


def test_who_binds_to_more_than_the_loopback_without_tokens_is_warned(model, tokens):
    with ServerProcess(model) as server:
        assert server.stop()[2] == "draining 0 streams\n"
    for arguments, warned in (((), True), (("--token-file", str(tokens)), False)):
        process = subprocess.Popen(
            [sys.executable, "-m", "fastrnn", "serve", str(model), "--port", "0", "--host",
             "0.0.0.0", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline()
        assert "0.0.0.0" in process.stdout.readline()
        process.terminate()
        err = process.communicate(timeout=20)[1]
        assert ("whoever reaches that address may use this server" in err) == warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "--workers 0: expected 1 to 256"),
        (["--tls-key", "x"], "--tls-key is for a --tls-cert"),
        (["--tls-cert", "nowhere.pem"], "nowhere.pem: No such file"),
        (["--tls-cert", "/dev/null"], "/dev/null: no certificate in PEM with its key"),
        (["--token-file", "nowhere"], "nowhere: No such file"),
        (["--token-file", "/dev/null"], "no tokens: nobody could connect"),
        (["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        (["--host", "no.such.host.invalid", "--workers", "2"], "no.such.host.invalid:"),
        (["--metrics-address", "host"], "--metrics-address host: expected HOST:PORT, or PORT"),
        (["--metrics-address", "1:65536"], "expected HOST:PORT, or PORT"),
        (["--workers", "2", "--max-batch", "0"], "max_batch=0, expected an integer >= 1"),
    ],
)
def test_options_that_do_not_fit(model, capsys, arguments, message):
    assert main(["serve", str(model), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("fastrnn: error: ") == 1
    assert err.count("\n") == 1 + ("whoever reaches that address" in err)
