"""Models that others trained and published: numbers against torch's, and decisions.

Their packages come with the `test` extra and are never imported; only their data files are read.
"""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from conftest import ENGINES

import fastrnn
from fastrnn.layers.engines import available_isas
from fastrnn.measure import models

H_TOLERANCE = 2e-5
COMPACT = {"int8": 0.1, "int16": 5e-3}  # h, of weights stored so; decisions are the same
WAYS = [
    *ENGINES,
    *(
        pytest.param({"isa": isa, "weight_dtype": name}, "float32", id=f"{isa}-{name}")
        for isa in available_isas()
        for name in COMPACT
    ),
]


def tolerance(how):
    return COMPACT.get(how.get("weight_dtype"), H_TOLERANCE)


def data_file(package, name):
    """Return the path of a data file of an installed package."""
    path = models.data_file(package, name)
    if path is None:
        pytest.skip(f"{package} is not installed")
    return path


def torch_twin(torch, weights, prefix, module):
    """`module` with the weights under `prefix`, in eval mode."""
    own = {
        name: torch.from_numpy(weights[f"{prefix}.{name}"].copy()) for name in module.state_dict()
    }
    module.load_state_dict(own)
    return module.eval()


SILERO = [
    ("silero_vad_16k.safetensors", "lstm_cell"),
    ("silero_vad.jit", "_model.decoder.rnn"),
    ("silero_vad.jit", "_model_8k.decoder.rnn"),
]


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
@pytest.mark.parametrize(("name", "prefix"), SILERO)
def test_silero_vad(torch, rng, how, dtype, name, prefix):
    path = data_file("silero-vad", name)
    layer = fastrnn.load(path, prefix, dtype=dtype, **how)
    assert (layer.input_size, layer.hidden_size, layer.num_layers) == (128, 128, 1)
    twin = torch_twin(torch, fastrnn.read(path), prefix, torch.nn.LSTMCell(128, 128))
    x = np.maximum(rng.standard_normal((1000, 4, 128)), 0).astype(np.float32)  # after a ReLU
    stream, state, expected = layer.stream(batch=4), None, []
    with torch.no_grad():
        for frame in torch.from_numpy(x):
            state = twin(frame, state)
            expected.append(state[0].numpy())
    y = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(y, expected, rtol=0, atol=H_TOLERANCE)
    c = stream.state[1][0]
    np.testing.assert_allclose(c, state[1].numpy(), rtol=1e-5, atol=1e-4)


def test_silero_vad_weights_are_torchs_own(torch):
    path = data_file("silero-vad", "silero_vad.jit")
    expected = torch.jit.load(path).state_dict()
    weights = fastrnn.read(path)
    assert set(expected) <= set(weights)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy(), err_msg=name)


def test_silero_vad_has_two_stacks_and_load_asks_which():
    with pytest.raises(
        fastrnn.FormatError,
        match=r"2 recurrent stacks, say which by its prefix: '_model.decoder.rnn', '_model_8k",
    ):
        fastrnn.load(data_file("silero-vad", "silero_vad.jit"))


@pytest.mark.parametrize(("how", "dtype"), WAYS)
def test_uzmorph_bigru(torch, how, dtype):
    """Tags of Uzbek words, a stacked bidirectional GRU: numbers, and the tag of every letter."""
    path = data_file("uzmorph-bigru", "morph_bigru.pth")
    weights = fastrnn.read(path)
    gru = fastrnn.load(path, batch_first=True, dtype=dtype, **how)
    assert (gru.input_size, gru.hidden_size, gru.num_layers, gru.bidirectional) == (64, 64, 2, True)
    twin = torch_twin(
        torch, weights, "gru", torch.nn.GRU(64, 64, 2, bidirectional=True, batch_first=True)
    )
    letters = json.loads(data_file("uzmorph-bigru", "char_vocab.json").read_text("utf-8"))
    words = ["kitoblarimizdan", "maktabga", "bormoqdaman", "o'qituvchi", "salom", "yozilgan"]
    for word in words:
        indices = [letters.get(letter, 0) for letter in word]
        x = weights["char_embeddings.weight"][indices][None]
        with torch.no_grad():
            expected = twin(torch.from_numpy(x))[0].numpy()
        y, _ = gru(x)
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(how))

        def tags(hidden):
            return (hidden @ weights["hidden2tag.weight"].T + weights["hidden2tag.bias"]).argmax(-1)

        np.testing.assert_array_equal(tags(y), tags(expected))


@pytest.mark.parametrize(("how", "dtype"), WAYS)
def test_g2pm(torch, how, dtype):
    """Readings of Chinese characters, a bidirectional LSTM over ragged sentences."""
    with data_file("g2pM", "np_ckpt.pkl").open("rb") as file:
        weights = pickle.load(file)  # a trusted package's pickle of arrays, not ours to read
    with data_file("g2pM", "char2idx.pkl").open("rb") as file:
        index = pickle.load(file)
    lstm = fastrnn.LSTM.from_state_dict(weights, "lstm", batch_first=True, dtype=dtype, **how)
    twin = torch_twin(
        torch, weights, "lstm", torch.nn.LSTM(64, 32, bidirectional=True, batch_first=True)
    )
    sentences = ["然而，他红了20年以后，他竟退出了大家的视线。", "重庆", "银行行长觉得很重要"]
    lengths = [len(sentence) for sentence in sentences]
    indices = np.zeros((3, max(lengths)), int)
    for row, sentence in enumerate(sentences):
        indices[row, : len(sentence)] = [index.get(c, index["<UNK>"]) for c in sentence]
    x = weights["embedding.weight"][indices]
    rnn = torch.nn.utils.rnn
    with torch.no_grad():
        packed = rnn.pack_padded_sequence(
            torch.from_numpy(x), torch.tensor(lengths), True, enforce_sorted=False
        )
        expected = rnn.pad_packed_sequence(twin(packed)[0], True)[0].numpy()
    y, _ = lstm(x, lengths=lengths)
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(how))

    def readings(hidden):
        first = hidden @ weights["logit_layer.0.weight"].T + weights["logit_layer.0.bias"]
        second = weights["logit_layer.2.weight"], weights["logit_layer.2.bias"]
        return (np.maximum(first, 0) @ second[0].T + second[1]).argmax(-1)

    np.testing.assert_array_equal(readings(y), readings(expected))


def syllables(seconds, rate=16_000):
    """Something that Silero takes for speech now and then: a buzz through moving formants."""
    t = np.arange(seconds * rate) / rate
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * t) + 20 * np.sin(2 * np.pi * 2.3 * t)
    phase, buzz = np.cumsum(pitch) / rate, np.zeros(len(t))
    first = 500 + 250 * np.sin(2 * np.pi * 1.9 * t)
    second = 1500 + 600 * np.sin(2 * np.pi * 1.3 * t + 1)
    for k in range(1, 30):
        formants = ((first, 90), (second, 120), (2600, 200))
        gain = sum(1 / (1 + ((k * pitch - centre) / width) ** 2) for centre, width in formants)
        buzz += gain * np.sin(2 * np.pi * k * phase) / k**0.3
    loud = np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.3, 0, None) * (np.sin(2 * np.pi * t / 7) > -0.2)
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.12 * buzz * loud + 0.003 * noise).astype(np.float32)


def speech(probabilities):
    """First and last frames of speech by Silero's rule: from 0.5 on, until 0.35 for 100 ms; 250 ms."""
    found, start, quiet = [], None, 0
    for frame, probability in enumerate([*probabilities, 0, 0, 0, 0]):
        if probability >= 0.5:
            quiet, start = 0, frame if start is None else start
        elif start is not None and probability < 0.35:
            quiet += 1
            if quiet == 4:
                found += [(start, frame - 3)] if frame - 3 - start >= 8 else []
                start, quiet = None, 0
    return found


def test_silero_vad_hears_the_same_speech_with_compact_weights(torch):
    """60 seconds through torch's own encoder and decoder, our cell between them."""
    path = data_file("silero-vad", "silero_vad.jit")
    jit = torch.jit.load(path).eval()
    model = jit._model
    frames = torch.from_numpy(syllables(60)[: 60 * 16_000 // 512 * 512].reshape(-1, 512))
    before = torch.cat([torch.zeros(1, 64), frames[:-1, -64:]])
    with torch.no_grad():
        x = model.encoder.forward(model.run_extractors(torch.cat([before, frames], 1)))[:, :, 0]

        def probabilities(weight_dtype):
            cell = fastrnn.load(path, "_model.decoder.rnn", weight_dtype=weight_dtype)
            h = torch.from_numpy(cell(x.numpy())[0])
            return model.decoder.decoder.forward(h[:, :, None]).reshape(-1).detach().numpy()

        floats = probabilities(None)
        own = [jit(frame[None], 16_000).item() for frame in frames[:50]]
    np.testing.assert_allclose(floats[:50], own, rtol=0, atol=1e-4)
    assert len(speech(floats)) >= 10
    for weight_dtype, largest in (("int8", 0.05), ("int16", 0.004)):
        compact = probabilities(weight_dtype)
        np.testing.assert_allclose(compact, floats, rtol=0, atol=largest)
        heard, there = np.array(speech(compact)), np.array(speech(floats))
        assert heard.shape == there.shape
        assert np.abs(heard - there).max() <= (weight_dtype == "int8")  # frames of 32 ms
