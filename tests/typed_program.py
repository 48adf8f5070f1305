"""A program as users write them: mypy --strict passes it, and tests/test_types.py runs it.

assert_type fails under mypy where a type is another, or has become Any.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_type

import fastrnn
from fastrnn.serve import Batcher, Session

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def of_a_file(path: Path) -> Array:
    """Load by name; whichever cell it is, x goes in and y comes out."""
    layer = fastrnn.load(path, "encoder.lstm", engine="simd", threads=2)
    assert_type(layer, fastrnn.LSTM | fastrnn.GRU | fastrnn.RNN)
    x: Floats = np.zeros((7, layer.input_size), np.float32)
    y, _ = layer(x)
    assert_type(y, Array)
    assert isinstance(layer, fastrnn.LSTM)
    y, (h, c) = layer(x, lengths=None)
    assert_type(h, Array)
    assert_type(c, Array)
    assert_type(layer.batch_first, bool)
    assert_type(layer.isa, "str | None")
    return y


def of_weights(path: Path) -> tuple[fastrnn.LSTM, fastrnn.LSTMCell]:
    """A layer and a cell of a state dict."""
    weights = fastrnn.read(path)
    lstm = fastrnn.LSTM.from_state_dict(weights, "encoder.lstm", batch_first=False)
    assert_type(lstm, fastrnn.LSTM)
    cell = fastrnn.LSTMCell.from_state_dict(lstm.state_dict())
    assert_type(cell, fastrnn.LSTMCell)
    h, c = cell(np.zeros((2, cell.input_size)))
    h, c = cell(np.zeros((2, cell.input_size)), (h, c), out=(h, c))
    assert_type(h, Array)
    return lstm, cell


def streamed(lstm: fastrnn.LSTM, gru: fastrnn.GRU) -> bytes:
    """Streams and pools, whose states have the types of their layer's."""
    stream = lstm.stream(batch=2)
    y = stream.step(np.zeros((2, lstm.input_size), np.float32))
    assert_type(y, Array)
    assert_type(stream.state, tuple[Array, Array])
    h, c = stream.state
    stream.state = h, c
    assert_type(gru.stream().state, Array)
    pool = lstm.pool(capacity=2)
    id = pool.open()
    pool.step([id], np.zeros((1, pool.input_size)))
    h, c = pool.get_state([id])
    pool.set_state([id], (h, c))
    saved = pool.save(id)
    pool.close(id)
    assert_type(saved, bytes)
    assert_type(gru.pool(1).get_state([]), Array)
    return saved


async def served(lstm: fastrnn.LSTM, state: bytes) -> Array:
    """One session of a batcher."""
    async with Batcher(lstm, max_streams=10, max_batch=10) as batcher:
        session: Session
        async with batcher.session(state=state) as session:
            return await session.step(np.zeros(lstm.input_size))


def main(path: Path) -> None:
    """Do all of it."""
    of_a_file(path)
    lstm, _ = of_weights(path)
    gru = fastrnn.GRU(3, 5)
    gru.load_state_dict(
        {
            "weight_ih_l0": np.ones((15, 3)),
            "weight_hh_l0": np.ones((15, 5)),
            "bias_ih_l0": np.ones(15),
            "bias_hh_l0": np.ones(15),
        }
    )
    y = asyncio.run(served(lstm, streamed(lstm, gru)))
    try:
        fastrnn.load(path, "decoder")
    except fastrnn.FormatError as error:
        print(y.shape, error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
