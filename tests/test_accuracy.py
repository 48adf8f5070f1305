"""The promises on accuracy: over 1,000 steps, at most 1.5 times torch's own float32 error; with
weights of int8 at most half of that of torch's dynamic int8, of int16 a tenth.

Both are measured against the float64 reference, by maximum and by root mean square over every h of
every step. The maximum of one row is one step's luck (torch's own varies by half from row to row),
so it is each row's maximum, averaged over the rows. Weights are random, as torch initialises them
and twice as large, and those of real models.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference
from conftest import ENGINES
from test_real_models import data_file

import fastrnn
from fastrnn.layers.engines import available_isas
from fastrnn.layers.statedict import find_stack
from fastrnn.layers.weights import StackConfig

STEPS, BATCH = 1000, 16
FACTOR = 1.5
COMPACT = {"int8": 0.5, "int16": 0.1}  # times the rms error of torch's dynamic int8
COMPACT_STEPS, COMPACT_ROWS = 400, 4
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


def torch_int8(torch, config, weights, x):
    """What torch's dynamic int8 gives for each row of x alone: its scale is of the whole batch."""
    module = torch.nn.Sequential(
        getattr(torch.nn, config.cell)(
            config.input_size,
            config.hidden_size,
            config.num_layers,
            bidirectional=config.bidirectional,
        )
    )
    module[0].load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its deprecation
        quantized = torch.ao.quantization.quantize_dynamic(
            module, {type(module[0])}, dtype=torch.qint8
        )[0]
        rows = [quantized(torch.from_numpy(x[:, row : row + 1]))[0] for row in range(x.shape[1])]
        return torch.cat(rows, 1).numpy()


def compact_ratios(torch, config, weights, x):
    """Our rms errors over that of torch's dynamic int8, by weight_dtype, the worst of every ISA."""
    layer = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU}[config.cell]
    truth, *_ = reference.run(config, weights, x)
    _, theirs = errors(torch_int8(torch, config, weights, x), truth)
    return {
        weight_dtype: max(
            errors(layer.from_state_dict(weights, isa=isa, weight_dtype=weight_dtype)(x)[0], truth)[
                1
            ]
            for isa in available_isas()
        )
        / theirs
        for weight_dtype in COMPACT
    }


def check_compact(record_property, ratios):
    record_property("ratios_to_torch_int8", ratios)
    assert all(ratio <= COMPACT[name] for name, ratio in ratios.items()), ratios


@pytest.mark.parametrize(
    ("cell", "input_size", "hidden_size", "scale"), [case for case in RANDOM if case[0] != "RNN"]
)
def test_compact_random_weights(torch, rng, record_property, cell, input_size, hidden_size, scale):
    config = StackConfig(cell, input_size, hidden_size)
    weights = reference.random_weights(config, rng, scale=scale / np.sqrt(hidden_size))
    x = rng.standard_normal((COMPACT_STEPS, COMPACT_ROWS, input_size)).astype(np.float32)
    check_compact(record_property, compact_ratios(torch, config, weights, x))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("silero_vad_16k.safetensors", "lstm_cell"), ("silero_vad.jit", "_model_8k.decoder.rnn")],
)
def test_compact_silero_vad(torch, rng, record_property, name, prefix):
    found = find_stack(fastrnn.read(data_file("silero-vad", name)), prefix)
    x = rng.standard_normal((COMPACT_STEPS, COMPACT_ROWS, 128))
    x = np.maximum(x, 0).astype(np.float32)  # after a ReLU
    parameters = {k: np.asarray(v) for k, v in found.parameters.items()}
    check_compact(record_property, compact_ratios(torch, found.config, parameters, x))


def test_compact_uzmorph_bigru(torch, rng, record_property):
    weights = fastrnn.read(data_file("uzmorph-bigru", "morph_bigru.pth"))
    letters = weights["char_embeddings.weight"]
    x = letters[rng.integers(len(letters), size=(COMPACT_STEPS, COMPACT_ROWS))]
    found = find_stack(weights, "gru")
    check_compact(record_property, compact_ratios(torch, found.config, found.parameters, x))
