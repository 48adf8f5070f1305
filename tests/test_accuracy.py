"""The promise on accuracy: over 1,000 steps, at most 1.5 times torch's own float32 error.

Both are measured against the float64 reference, by maximum and by root mean square over every h of
every step. The maximum of one row is one step's luck (torch's own varies by half from row to row),
so it is each row's maximum, averaged over the rows. Weights are random, as torch initialises them
and twice as large, and those of real models.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from conftest import ENGINES
from test_real_models import data_file

import fastrnn
from fastrnn.layers.statedict import find_stack
from fastrnn.layers.weights import StackConfig

STEPS, BATCH = 1000, 16
FACTOR = 1.5
FLOAT32 = [param for param in ENGINES if "float32" in param.values]
RANDOM = [
    ("LSTM", 64, 128, 1.0),
    ("LSTM", 128, 256, 2.0),
    ("LSTM", 33, 65, 1.0),
    ("GRU", 64, 128, 1.0),
    ("GRU", 128, 256, 2.0),
    ("GRU", 33, 65, 1.0),
    ("RNN", 64, 128, 1.0),
]


def errors(y, truth):
    difference = np.abs(y.astype(np.float64) - truth)
    return difference.max(axis=(0, 2)).mean(), np.sqrt(np.mean(difference**2))


def compare(torch, config, weights, x, how):
    """(max, rms) of our error and of torch's, on the same input."""
    layer = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}[config.cell]
    truth, *_ = reference.run(config, weights, x)
    ours, _ = layer.from_state_dict(weights, **how)(x)
    module = getattr(torch.nn, config.cell)(
        config.input_size, config.hidden_size, config.num_layers, bidirectional=config.bidirectional
    )
    module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
    with torch.no_grad():
        theirs = module(torch.from_numpy(x))[0].numpy()
    return errors(ours, truth), errors(theirs, truth)


def check(record_property, ours, theirs):
    record_property("ratio_to_torch", tuple(a / b for a, b in zip(ours, theirs, strict=True)))
    assert ours[0] <= FACTOR * theirs[0]
    assert ours[1] <= FACTOR * theirs[1]


@pytest.mark.parametrize(("how", "dtype"), FLOAT32)
@pytest.mark.parametrize(("cell", "input_size", "hidden_size", "scale"), RANDOM)
def test_random_weights(
    torch, rng, record_property, how, dtype, cell, input_size, hidden_size, scale
):
    config = StackConfig(cell, input_size, hidden_size)
    weights = reference.random_weights(config, rng, scale=scale / np.sqrt(hidden_size))
    x = rng.standard_normal((STEPS, BATCH, input_size)).astype(dtype)
    check(record_property, *compare(torch, config, weights, x, how))


@pytest.mark.parametrize(("how", "dtype"), FLOAT32)
@pytest.mark.parametrize(
    ("name", "prefix"),
    [("silero_vad_16k.safetensors", "lstm_cell"), ("silero_vad.jit", "_model_8k.decoder.rnn")],
)
def test_silero_vad(torch, rng, record_property, how, dtype, name, prefix):
    weights = fastrnn.read(data_file("silero-vad", name))
    x = np.maximum(rng.standard_normal((STEPS, BATCH, 128)), 0).astype(dtype)  # after a ReLU
    found = find_stack(weights, prefix)
    check(record_property, *compare(torch, found.config, found.parameters, x, how))


@pytest.mark.parametrize(("how", "dtype"), FLOAT32)
def test_uzmorph_bigru(torch, rng, record_property, how, dtype):
    weights = fastrnn.read(data_file("uzmorph-bigru", "morph_bigru.pth"))
    letters = weights["char_embeddings.weight"]
    x = letters[rng.integers(len(letters), size=(STEPS, BATCH))]
    found = find_stack(weights, "gru")
    check(record_property, *compare(torch, found.config, found.parameters, x, how))
