"""Whole models: the published files, beside ONNX Runtime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import fastrnn

SILERO = Path(str(find_spec("silero_vad").origin)).parent / "data"
FILES = sorted(path.name for path in SILERO.glob("*.onnx"))
TOLERANCE = 2e-5


def inputs(session: onnxruntime.InferenceSession, batch: int) -> dict[str, np.ndarray]:
    """Noise for each input of a silero file but `sr`; states as if something had been heard."""
    rng = np.random.default_rng(batch)
    given = {}
    for value in session.get_inputs():
        shape = [n if isinstance(n, int) and n else batch for n in value.shape]
        if value.name == "input":
            shape = [batch, 576]
        if value.name != "sr":
            given[value.name] = (rng.standard_normal(shape) * 0.3).astype(np.float32)
    return given


def test_all_of_silero_is_here():
    assert len(FILES) == 6


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("file", FILES)
def test_silero_whole(file, batch):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(SILERO / file), options)
    if batch > 1 and session.get_inputs()[0].shape == [1, 576]:
        pytest.skip("the file has a batch of 1 written into it")
    rate = {"sr": 16000} if "sr" in [value.name for value in session.get_inputs()] else {}
    model = fastrnn.load_model(SILERO / file, fixed=rate)
    given = inputs(session, batch)
    assert list(model.inputs) == list(given)
    wanted = session.run(None, {**given, **{k: np.array(v) for k, v in rate.items()}})
    first, again = model(**given), model(*given.values())
    for name, want in zip(model.outputs, wanted, strict=True):
        assert first[name].shape == want.shape
        np.testing.assert_allclose(first[name], want, rtol=0, atol=TOLERANCE)
        assert np.array_equal(first[name], again[name])
