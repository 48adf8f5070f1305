"""The site builds strictly, and what is public is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastrnn

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("the extra docs is not installed")
    if not (ROOT / "mkdocs.yml").exists():
        pytest.skip("a source distribution has no site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def text(page: Path) -> str:
    return unescape(re.sub("<[^>]+>", "", page.read_text("utf-8")))


def test_every_public_name_is_in_the_reference(site):
    ids = {
        name
        for page in (site / "api").rglob("index.html")
        for name in re.findall(r'id="([\w.]+)"', page.read_text("utf-8"))
    }
    wanted = {f"fastrnn.{name}" for name in fastrnn.__all__ if name != "__version__"}
    wanted |= {"fastrnn.serve.Batcher.session", "fastrnn.serve.Session.step"}
    wanted |= {"fastrnn.LSTM.__call__", "fastrnn.StreamPool.step", "fastrnn.Model.pool"}
    assert wanted <= ids


def test_options_are_spelled_out(site):
    page = text(site / "api" / "layers" / "index.html")
    assert "{options}" not in page
    assert "weight_dtype" in page


def test_what_is_made_of_other_files_is_there(site):
    command = " ".join(text(site / "command" / "index.html").split())
    for name in ("inspect", "convert", "verify", "bench", "trace", "serve", "demo", "info"):
        assert f"usage: fastrnn {name}" in command
    assert "Keep a Changelog" in text(site / "changelog" / "index.html")
    assert "One order of additions" in text(site / "design" / "index.html")
    performance = (site / "performance" / "index.html").read_text("utf-8")
    for picture in re.findall(r'src="([^"]+\.png)"', performance):
        assert (site / "performance" / picture).resolve().is_file(), picture
    assert "LSTM H=128, B=1" in performance


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        for url in re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text()
        ):
            raise AssertionError(f"{page.relative_to(site)} loads {url}")
