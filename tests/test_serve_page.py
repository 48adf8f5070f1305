"""The page of `fastrnn serve --page`: who gets it, what it may do, and what it does in Chromium."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import signal
import socket
import threading
import time
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from serving import ServerProcess, handshake, make_layer
from test_models import SILERO
from websockets.sync.server import serve

import fastrnn
from fastrnn.formats import write
from fastrnn.serve import protocol
from fastrnn.serve.page import Page

SPEECH = Path(__file__).parent / "data" / "speech.wav"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FAKE = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
FRAME, CONTEXT = 512, 64


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "model.safetensors"
    write(path, make_layer(input_size=5, hidden_size=40).state_dict())
    return path


@pytest.fixture(scope="module")
def server(model):
    with ServerProcess(model, "--page", "--origin", "https://rnn.example.org") as process:
        yield process


@pytest.fixture(scope="module")
def vad():
    options = ("--fix", "sr=16000", "--shape", "input=?,576", "--page")
    with ServerProcess(SILERO / "silero_vad.onnx", *options) as process:
        yield process


def get(port, path="/", host="127.0.0.1"):
    """The status line, headers and body of an answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        while piece := client.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body.decode()


def opens(port, origin, host=None):
    """Whether a page of `origin`, which asked for the server by `host`, may open a stream."""
    fields = {"Host": host or f"127.0.0.1:{port}", "Origin": origin}
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(handshake(**fields))
        status = client.recv(65536).split(b"\r\n")[0]
    assert status.split()[1] in (b"101", b"403")
    return b" 101 " in status


# Who gets it, and what it may do


def test_it_is_off_by_default(model):
    with ServerProcess(model) as process:
        assert get(process.port)[0].endswith("404 Not Found")
        assert not opens(process.port, f"http://127.0.0.1:{process.port}")


def test_the_policy_lets_run_what_is_in_the_page_and_nothing_else(server):
    status, headers, body = get(server.port)
    assert status.endswith("200 OK")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[name] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self' ws://127.0.0.1 wss://127.0.0.1"
    assert not re.search(r"(src|href)=|https?://|url\(|@import|\son\w+=", body)
    assert 'data-token="no"' in body
    assert "{{" not in body


def test_under_another_name_it_is_refused(server):
    for host in ("localhost:8765", "127.0.0.1", "[::1]:80", "rnn.example.org"):
        assert get(server.port, host=host)[0].endswith("200 OK"), host
    for host in ("evil.example", "", "127.0.0.1\r\nHost: localhost"):
        status, _, body = get(server.port, host=host)
        assert status.endswith("403 Forbidden"), host
        assert "script" not in body


def test_the_page_may_connect_and_no_other(server):
    port = server.port
    assert opens(port, f"http://127.0.0.1:{port}")
    assert opens(port, f"http://localhost:{port}", f"localhost:{port}")
    assert opens(port, "https://rnn.example.org")
    for origin, host in (
        ("https://evil.example", None),
        (f"http://127.0.0.1:{port + 1}", None),
        (f"http://localhost:{port}", None),  # of another name than it is asked by
        (f"http://evil.example:{port}", f"evil.example:{port}"),  # a name made to mean this address
        ("null", None),
    ):
        assert not opens(port, origin, host), origin


def test_a_page_that_asks_for_a_token():
    assert 'data-token="required"' in Page(token=True)._text


# In Chromium


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FAKE)
        yield made
        made.close()


@pytest.fixture
def opened(browser):
    """Opens the page of a server in a window of some width; no error in it goes unseen."""
    pages, errors = [], []

    def open_page(server, width=1280):
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(f"http://127.0.0.1:{server.port}/")
        until(page, "status", lambda text: text == "connected")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert errors == []


def until(page, id, fits, seconds=30):
    """Wait until an element's text is as wanted: its policy lets a page evaluate no string."""
    deadline = time.monotonic() + seconds
    while not fits(text := page.text_content(f"#{id}")):
        assert time.monotonic() < deadline, f"#{id} is {text!r}"
        page.wait_for_timeout(20)


def feed(page, path, pace="0"):
    """Send a file, and wait until every answer is there."""
    page.set_input_files("#file", path)
    page.fill("#pace", pace)
    page.click("#start")
    until(page, "said", lambda text: text.startswith("done"))


def answers(page, tmp_path):
    with page.expect_download() as download:
        page.click("#keep")
    download.value.save_as(tmp_path / "answers.npy")
    return np.load(tmp_path / "answers.npy")


@pytest.mark.parametrize("width", [1280, 390])
def test_speech_is_seen_in_a_wav_file(vad, opened, width, tmp_path):
    page = opened(vad, width)
    feed(page, SPEECH)
    with wave.open(str(SPEECH)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    padded = np.pad(samples, (CONTEXT, -len(samples) % FRAME))
    stream = fastrnn.load_model(SILERO / "silero_vad.onnx", fixed={"sr": 16000}).stream()
    expected = [
        stream.step(padded[at : at + CONTEXT + FRAME]) for at in range(0, len(samples), FRAME)
    ]
    found = answers(page, tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert 0.5 < (found > 0.5).mean() < 0.9
    assert page.text_content("#frames") == str(len(expected))
    assert page.text_content("#latest").startswith("0: ")
    assert re.fullmatch(r"[\d.]+ ms", page.text_content("#p50"))
    assert re.fullmatch(r"[\d.]+ ms", page.text_content("#p99"))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    drawn = "new Set(document.getElementById('chart').getContext('2d').getImageData(0, 0, 300, 200).data).size"
    assert page.evaluate(drawn) > 2


def test_the_pace_of_sound_is_its_own(vad, opened):
    page = opened(vad)
    page.set_input_files("#file", SPEECH)
    assert page.input_value("#hop") == "512"
    assert page.input_value("#pace") == "31.25"


def test_an_array_saved_loaded_and_begun_anew(server, opened, model, tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 5))
    np.save(tmp_path / "x.npy", x)
    page = opened(server)
    assert page.text_content("#model").startswith("LSTM of 2 layers, H=40: frames of 5 numbers in")
    stream = fastrnn.load(model).stream()
    feed(page, tmp_path / "x.npy")
    np.testing.assert_array_equal(answers(page, tmp_path), stream.run(x))
    assert page.text_content("#latest") == "40 outputs, from 0 at the top"  # a heat map
    page.click("#save")
    until(page, "state", lambda text: text.startswith("saved"))
    feed(page, tmp_path / "x.npy")
    second = stream.run(x)
    np.testing.assert_array_equal(answers(page, tmp_path), second)
    page.click("#load")
    until(page, "state", lambda text: "was loaded" in text)
    feed(page, tmp_path / "x.npy")
    np.testing.assert_array_equal(answers(page, tmp_path), second)
    page.click("#reset")
    until(page, "state", lambda text: "anew" in text)
    feed(page, tmp_path / "x.npy")
    stream.reset()
    np.testing.assert_array_equal(answers(page, tmp_path), stream.run(x))


@pytest.mark.parametrize("kind", ["noise", "sine", "microphone"])
def test_what_is_made_goes_on_until_it_is_stopped(vad, opened, kind):
    page = opened(vad)
    page.select_option("#source", kind)
    page.click("#start")
    until(page, "frames", lambda text: int(text) > 20)
    assert 0 < int(page.text_content("#speed")) < 130
    page.click("#stop")
    assert page.is_enabled("#start")


def test_files_that_do_not_fit_are_told(server, opened, tmp_path):
    page = opened(server)
    np.save(tmp_path / "wide.npy", np.zeros((3, 4)))
    (tmp_path / "no.wav").write_bytes(b"RIFF, but no sound")
    page.click("#start")
    assert page.text_content("#said") == "choose a .wav or .npy file first"
    for name, said in (("wide.npy", "expected (T, 5)"), ("no.wav", "this is no WAV file")):
        page.set_input_files("#file", tmp_path / name)
        page.click("#start")
        until(page, "said", lambda text, said=said: said in text)


def test_the_connection_is_told_in_words(model, opened):
    with ServerProcess(model, "--page") as process:
        page = opened(process)
        page.click("#disconnect")
        until(page, "status", lambda text: text == "disconnected")
        assert page.is_disabled("#start")
        page.click("#connect")
        until(page, "status", lambda text: text == "connected")
        process.process.send_signal(signal.SIGTERM)
        until(page, "status", lambda text: text == "closed: the server drains")
        assert "as the server drained: connect again, and load" in page.text_content("#state")


class Asking:
    """A server in a thread that gives the page which asks for a token, and wants a certain one."""

    def __init__(self, token):
        self.page, self.token, self.offered = Page(token=True), token, []
        self.server = serve(
            self.hello, "127.0.0.1", 0, process_request=self.answer, subprotocols=["fastrnn"]
        )
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)

    def answer(self, connection, request):
        if request.path == "/":
            return self.page.answer(connection, request)
        self.offered.append(request.headers.get("Sec-WebSocket-Protocol", ""))
        known = f"bearer.{self.token}" in self.offered[-1]
        return None if known else connection.respond(401, "a token is wanted\n")

    def hello(self, websocket):
        websocket.send(protocol.hello({"cell": "Model"}, 3, 2, "0" * 64, {}))
        websocket.recv()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.thread.join()


def test_a_token_goes_with_the_connection_and_a_wrong_one_is_told(browser):
    with Asking("secret-1") as server:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        assert page.text_content("#status") == "not connected"  # it waits for the token
        for token, said in (("wrong", "refused: "), ("secret-1", "connected")):
            page.fill("#token", token)
            page.click("#connect")
            until(page, "status", lambda text, said=said: text.startswith(said))
        assert server.offered == ["fastrnn, bearer.wrong", "fastrnn, bearer.secret-1"]
        assert "secret-1" not in page.content()
        page.click("#disconnect")
        until(page, "status", lambda text: text == "disconnected")
        page.context.close()
