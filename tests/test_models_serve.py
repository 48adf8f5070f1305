"""Whole models in a Batcher and behind the server: what a frame is, and the bits of a lone stream."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_models import model, value

import fastrnn
from fastrnn.serve import Batcher

SILERO = Path(str(find_spec("silero_vad").origin)).parent / "data" / "silero_vad.onnx"
RATE = {"sr": 16000}


def echo(tmp_path, *, ahead: int) -> fastrnn.Model:
    """A convolution that looks so many frames ahead, over x (batch, 3, frames)."""
    weight = np.random.default_rng(0).standard_normal((3, 3, 3)).astype(np.float32)
    made = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[2 - ahead, ahead])],
        [value("x", "batch", 3, "frames")],
        [value("y", "batch", 3, "frames")],
        {"w": weight},
    )
    path = tmp_path / "echo.onnx"
    path.write_bytes(made.SerializeToString())
    return fastrnn.load_model(path)


async def through(served, frames, **options):
    """What sessions get that send rows of frames (n, T, ...), step by step and in one message."""
    async with Batcher(served, max_streams=len(frames), max_batch=8, **options) as batcher:

        async def one(x, at_once):
            async with batcher.session() as session:
                if at_once:
                    return await session.run(x)
                return np.stack([await session.step(frame) for frame in x])

        return await asyncio.gather(*(one(x, i % 2) for i, x in enumerate(frames)))


def test_a_model_with_states():
    served = fastrnn.load_model(SILERO, fixed=RATE, shapes={"input": (None, 576)})
    frames = np.random.default_rng(0).standard_normal((7, 20, 576)).astype(np.float32) * 0.1
    for x, y in zip(frames, asyncio.run(through(served, frames)), strict=True):
        stream = served.stream()
        assert np.array_equal(y, [stream.step(frame) for frame in x])


def test_a_model_along_time(tmp_path):
    served = echo(tmp_path, ahead=0)
    frames = np.random.default_rng(0).standard_normal((5, 30, 3)).astype(np.float32)
    for x, y in zip(frames, asyncio.run(through(served, frames)), strict=True):
        assert np.array_equal(y, served(x.T[None])[0].T)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: fastrnn.load_model(SILERO, fixed=RATE), "say them with load_model's shapes="),
        (
            lambda path: echo(path, ahead=1),
            r"delay 1\), expected one input and output, and one frame",
        ),
    ],
)
def test_what_is_no_frame_for_a_frame_is_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        Batcher(make(tmp_path), max_streams=2, max_batch=2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (None, 576)}, "shapes has 'x', expected one of input, state"),
        ({"input": (1, 2, 3)}, r"shapes of 'input' is \(1, 2, 3\), in the file \(None, None\)"),
        ({"state": (3, None, 128)}, "in the file"),
    ],
)
def test_shapes_that_the_file_contradicts(shapes, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.load_model(SILERO, fixed=RATE, shapes=shapes)
