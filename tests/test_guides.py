"""What the site's pages show runs, block by block, in the order in which a reader would type it.

A block of Python with a title is a file; one without is run. A shell's commands are run too: what
serves goes on beside the blocks that follow; what installs is left to whoever reads.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_models import SILERO

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVING = ("uvicorn", "gunicorn", "fastrnn serve")
RUN = ("fastrnn", "pytest", "python")
SHOWN = ("nginx", "text", "dockerfile")  # no language of this test
NEEDS = {"fastapi": ["fastapi", "httpx", "uvicorn"], "flask": ["flask"], "from-keras": ["keras"],
         "gunicorn": ["flask", "gunicorn"], "ray": ["ray", "pyarrow"]}  # fmt: skip


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, title, text) of each block of a page."""
    return BLOCK.findall((DOCS / page).read_text("utf-8"))


WITH_CODE = [page for page in PAGES if any(kind in ("python", "sh") for kind, _, _ in blocks(page))]


@pytest.fixture
def folder(torch, tmp_path, monkeypatch):
    """Where the files are that pages speak of."""
    torch.manual_seed(0)
    net = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict({"lstm": torch.nn.LSTM(40, 64, num_layers=2)}),
            "head": torch.nn.Linear(64, 10),
        }
    )
    torch.save(net.state_dict(), tmp_path / "model.pt")
    shutil.copy(SILERO / "silero_vad.onnx", tmp_path)
    shutil.copy(DOCS.parent / "tests" / "data" / "speech.wav", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(command: str, port: int) -> subprocess.Popen[bytes]:
    """Start a server, and return when it takes connections."""
    process = subprocess.Popen(words(command))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{command}: ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"{command}: does not listen")


def words(command: str) -> list[str]:
    """A command's words, run with this Python."""
    name, *rest = shlex.split(command)
    return [sys.executable, "-m", name, *rest]


def shell(text: str, port: int, running: list[subprocess.Popen[bytes]]) -> None:
    """Run the commands of a block that are for running."""
    for line in text.splitlines():
        command = (
            line.partition("  #")[0].strip().replace("8765", str(port)).replace("8000", str(port))
        )
        if command.startswith(SERVING):
            running.append(serve(command, port))
        elif command.startswith(RUN):
            done = subprocess.run(words(command), capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        else:
            assert command.startswith("pip install"), f"{command}: neither run nor known"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("page", WITH_CODE)
def test_every_block_of(page, folder):
    for module in NEEDS.get(Path(page).stem, []):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    names: dict[str, object] = {"__name__": "page"}
    running: list[subprocess.Popen[bytes]] = []
    port = free_port()
    try:
        for kind, title, text in blocks(page):
            if title and kind == "python":
                (folder / title).write_text(text)
            elif kind == "python":
                code = text.replace("8765", str(port)).replace("8000", str(port))
                exec(compile(code, page, "exec"), names)
            elif kind == "sh":
                shell(text, port, running)
            else:
                assert kind in SHOWN, f"{page}: a block of {kind}"
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def test_attention_is_as_short_as_the_page_says():
    (text,) = [t for k, _, t in blocks("guides/attention.md") if "def translate" in t]
    body = text.partition("def translate")[2].partition("\n\n")[0].splitlines()[1:]
    loop = [line for line in body if line.startswith("        ")]
    assert len(loop) <= 10


def test_nginx_takes_its_configuration(tmp_path):
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    ((_, _, text),) = [block for block in blocks("guides/nginx.md") if block[0] == "nginx"]
    key = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=a",
        "-keyout", str(tmp_path / "k"), "-out", str(tmp_path / "c"),
    ]  # fmt: skip
    subprocess.run(key, check=True, capture_output=True)
    text = re.sub(r"(ssl_certificate) .*;", rf"\1 {tmp_path}/c;", text)
    text = re.sub(r"(ssl_certificate_key) .*;", rf"\1 {tmp_path}/k;", text)
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{text}\n}}\n")
    done = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-c", config], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
