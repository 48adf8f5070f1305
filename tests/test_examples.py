"""The examples give what is recorded, and are as short as they say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
from serving import ServerProcess
from test_models import SILERO

import fastrnn

ROOT = Path(__file__).parent.parent
SPEECH = ROOT / "tests" / "data" / "speech.wav"

# silero-vad 6.2.3's own segments, from ONNX Runtime's probabilities of silero_vad.onnx, in seconds.
SEGMENTS = "0.71 to 4.13 s\n5.35 to 7.61 s\n"


def test_where_somebody_speaks():
    script = ROOT / "examples" / "vad.py"
    assert len(script.read_text().splitlines()) < 40
    done = subprocess.run(
        [sys.executable, script, SPEECH, SILERO / "silero_vad.onnx"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == SEGMENTS


def test_a_server_that_hears_speech(tmp_path, monkeypatch, capsys):
    """The guide's command, and its client, against the same probabilities without a server."""
    guide = (ROOT / "examples" / "serve_vad.md").read_text("utf-8")
    (command,) = re.findall(r"^fastrnn serve \S+ (.*)$", guide, re.MULTILINE)
    (client,) = re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    shutil.copy(SPEECH, tmp_path)
    monkeypatch.chdir(tmp_path)
    with ServerProcess(SILERO / "silero_vad.onnx", *shlex.split(command)) as server:
        exec(compile(client.replace("8765", str(server.port)), "serve_vad.md", "exec"), {})
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [word for *_, word in told] == ["speech", "silence"] * (len(told) // 2)
    stream = fastrnn.load_model(SILERO / "silero_vad.onnx", fixed={"sr": 16000}).stream()
    with wave.open(str(SPEECH)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    padded = np.pad(sound, (64, -len(sound) % 512))
    heard = [stream.step(padded[at : at + 576])[0] >= 0.5 for at in range(0, len(sound), 512)]
    changes = np.flatnonzero(np.diff(heard, prepend=False)) * 512 / 16000
    assert [float(seconds) for seconds, *_ in told] == [round(at, 2) for at in changes.tolist()]
    assert len(told) >= 4
