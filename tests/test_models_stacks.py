"""Recurrent nodes of ONNX files as layers: `fastrnn.load("model.onnx", name)`."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import fastrnn
from fastrnn.errors import FormatError

SILERO = Path(str(find_spec("silero_vad").origin)).parent / "data"
X = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)


class Tagger(torch.nn.Module):
    """A recurrent module in a module, and what stands around it."""

    def __init__(self, kind: str, **options) -> None:
        super().__init__()
        self.encoder = Encoder(kind, options)
        self.head = torch.nn.Linear(12 if options.get("bidirectional") else 6, 2)

    def forward(self, x):
        return self.head(self.encoder(x))


class Encoder(torch.nn.Module):
    def __init__(self, kind: str, options: dict) -> None:
        super().__init__()
        self.rnn = getattr(torch.nn, kind)(5, 6, **options)

    def forward(self, x):
        return self.rnn(x)[0]


def export(module, path, *, dynamo=False) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            dims = {0: torch.export.Dim("first"), 1: torch.export.Dim("second")}
            torch.onnx.export(
                module,
                (torch.from_numpy(X),),
                path,
                dynamo=True,
                dynamic_shapes=(dims,),
                verbose=False,
            )
        else:
            torch.onnx.export(
                module,
                (torch.from_numpy(X),),
                path,
                dynamo=False,
                input_names=["x"],
                dynamic_axes={"x": {0: "first", 1: "second"}},
            )


OPTIONS = [
    {},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bias": False},
]


@pytest.mark.parametrize(
    ("kind", "options"),
    [*(("LSTM", options) for options in OPTIONS), ("GRU", OPTIONS[2]), ("RNN", OPTIONS[1])],
    ids=str,
)
def test_a_stack_is_one_layer(kind, options, tmp_path):
    path = tmp_path / "model.onnx"
    module = Tagger(kind, **options).eval()
    export(module, path)
    batch_first = options.get("batch_first", False)
    with torch.no_grad():
        want = module.encoder.rnn(torch.from_numpy(X))[0].numpy()
    for name in ("", "rnn", "encoder.rnn", "/encoder/rnn"):
        layer = fastrnn.load(path, name, batch_first=batch_first)
        assert layer.num_layers == options.get("num_layers", 1)
        np.testing.assert_allclose(layer(X)[0], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_so_it_is_from_the_other_exporter(kind, tmp_path):
    path = tmp_path / "model.onnx"
    module = Tagger(kind, num_layers=2, bidirectional=True).eval()
    export(module, path, dynamo=True)
    layer = fastrnn.load(path, "encoder.rnn")
    with torch.no_grad():
        want = module.encoder.rnn(torch.from_numpy(X))[0].numpy()
    np.testing.assert_allclose(layer(X)[0], want, rtol=0, atol=1e-6)


def test_one_layer_of_a_stack_by_its_node(tmp_path):
    path = tmp_path / "model.onnx"
    module = Tagger("GRU", num_layers=2).eval()
    export(module, path)
    above = fastrnn.load(path, "/encoder/rnn/GRU_1")
    assert (above.input_size, above.num_layers) == (6, 1)
    assert np.array_equal(
        above.state_dict()["weight_hh_l0"], module.encoder.rnn.weight_hh_l1.detach().numpy()
    )


def test_by_the_name_of_a_tensor():
    layer = fastrnn.load(SILERO / "silero_vad_16k_op15.onnx", "model.decoder.rnn.weight_hh")
    weights = fastrnn.read(SILERO / "silero_vad_16k_op15.onnx")
    for name, array in layer.state_dict().items():
        assert np.array_equal(array, weights[f"model.decoder.rnn.{name.removesuffix('_l0')}"])


@pytest.mark.parametrize(
    ("file", "name", "words"),
    [
        (
            "silero_vad_16k_op15.onnx",
            "encoder",
            "no recurrent node or stack 'encoder', expected one",
        ),
        ("silero_vad.onnx", "", "2 recurrent stacks, say which by its name: 'If_0_then"),
        ("silero_vad_op18_ifless.onnx", "", "no LSTM, GRU or RNN node in the graph"),
    ],
)
def test_what_there_is_not(file, name, words):
    with pytest.raises(FormatError, match=words):
        fastrnn.load(SILERO / file, name)


def test_options_that_the_file_contradicts(tmp_path):
    path = tmp_path / "model.onnx"
    export(Tagger("GRU").eval(), path)
    assert fastrnn.load(path, reset_after=True).reset_after
    with pytest.raises(FormatError, match="reset_after=False, in the file True"):
        fastrnn.load(path, reset_after=False)


def test_every_tensor_of_a_file_is_read():
    weights = fastrnn.read(SILERO / "silero_vad.onnx")
    assert len(weights) == 30  # 15 of each sampling rate, constants in the branches of an If
    assert sum(name.endswith("~1") for name in weights) == 0
