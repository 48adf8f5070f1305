"""The examples give what is recorded, and are as short as they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from test_models import SILERO

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
