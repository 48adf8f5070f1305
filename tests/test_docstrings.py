"""The examples of the API reference run as they are written, and every public name has one."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import shutil

import numpy as np
import pytest
from cli_files import stack_weights
from test_models import SILERO

import fastrnn
import fastrnn.serve
from fastrnn.layers.weights import StackConfig

NAMES = {name: getattr(fastrnn, name) for name in fastrnn.__all__ if name != "__version__"}
NAMES |= {"Batcher": fastrnn.serve.Batcher}
DOCUMENTED = {
    name: thing
    for name, thing in NAMES.items()
    if not (inspect.isclass(thing) and issubclass(thing, Exception))
}


@pytest.fixture
def folder(torch, tmp_path, monkeypatch):
    weights = stack_weights("encoder.lstm", StackConfig("LSTM", 40, 64, num_layers=2))
    weights |= {"head.weight": np.zeros((10, 64), np.float32)}
    torch.save(
        {name: torch.tensor(value) for name, value in weights.items()}, tmp_path / "model.pt"
    )
    cells = [
        stack_weights(cell.lower(), StackConfig(cell, 3, 5)) for cell in ("LSTM", "GRU", "RNN")
    ]
    np.savez(tmp_path / "net.npz", **{k: v for of in cells for k, v in of.items()})
    shutil.copy(SILERO / "silero_vad.onnx", tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_of(name, folder, capsys):
    thing = DOCUMENTED[name]
    names = {"fastrnn": fastrnn, "np": np, "asyncio": asyncio, "Batcher": fastrnn.serve.Batcher}
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), names, name, None, 0)
    assert example.examples, f"{name} has no example"
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert found.failed == 0, capsys.readouterr().out
