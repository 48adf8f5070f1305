"""Files as people have them, each rebuilt small: what comes out is what PyTorch gives, or no layer.

`data/cases/NN-*` has the files, and in expected*.npz the x and y of the model in PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main

CASES = Path(__file__).parent / "data" / "cases"


class Case(NamedTuple):
    """A file, the prefix a user would give, and what has to come of it.

    refused: words that the refusal has in it; None where y is that of `expected`, within `far`.
    folded: what the layer says of it.
    """

    file: str
    prefix: str = ""
    expected: str = "expected.npz"
    refused: str | None = None
    folded: str = ""
    far: float = 1e-6

    @property
    def path(self) -> Path:
        return CASES / self.file

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


LOADED = [
    Case("01-raw-and-dropped/lm.pth", folded="weight drop (weight_hh_l0)"),
    Case("01-raw-and-dropped/lm.pth", "model.0.rnns.0", folded="weight drop (weight_hh_l0)"),
    Case("03-weight-norm/old.pt", "lstm", "expected_old.npz", folded="weight_norm (weight_hh_l0)"),
    Case(
        "03-weight-norm/layer1.pt",
        expected="expected_layer1.npz",
        folded="weight_norm (weight_ih_l1, weight_hh_l1)",
    ),
    Case("04-pruned/masks.pt", "lstm", "expected_masks.npz", folded="mask (weight_ih_l0, weight_h"),
    Case("04-pruned/weights.pt", "lstm", "expected_weights.npz", folded="pruning (weight_ih_l0, "),
    Case(
        "06-dynamic-quantized/float16.pt",
        "lstm",
        "expected_float16.npz",
        folded="dynamic quantization (weight_ih_l0, ",
    ),
    # PyTorch quantizes the inputs of each product as well, which moves it by some 1e-2.
    Case(
        "06-dynamic-quantized/int8.pt",
        "lstm",
        "expected_int8.npz",
        folded="dynamic quantization, dequantized from int8 (weight_ih_l0, weight_hh_l0)",
        far=2e-2,
    ),
    Case("05-shards/cut_before_biases", expected="../expected_biases.npz"),
    Case(
        "05-shards/cut_before_biases/model.safetensors.index.json",
        "encoder.lstm",
        "../expected_biases.npz",
    ),
    Case("07-zip-around/agent.zip", "lstm_actor"),
    Case("07-zip-around/agent.zip::policy.pth", "lstm_actor"),
    Case("08-pt2/tagger.pt2", "gru"),
    Case("10-in-memory/model.pt"),
    Case("14-json/amp.json", "rec"),
    Case("15-plain-pickle/model.pkl"),
    Case("12-frozen-script/frozen.pt", "lstm", folded="constant of a frozen module (weight_ih_l0"),
    Case("17-foreign-objects/config.pt", "rnn"),
    Case("17-foreign-objects/examples.pt", "rnn"),
    Case("18-part-unreadable/float8.pt", expected="expected_float8.npz"),
]
REFUSED = [
    Case(
        "05-shards/cut_before_biases/model-00001-of-00002.safetensors",
        refused="encoder.lstm.bias_ih_l0 is in model-00002-of-00002.safetensors, this is file 1 of",
    ),
    Case(
        "05-shards/cut_before_biases/model-00002-of-00002.safetensors",
        refused="encoder.lstm.weight_ih_l0 is in model-00001-of-00002.safetensors, this is file 2",
    ),
    Case("19-layer-norm-cell/cell.pt", "cell", refused="cell.ln_c.bias is no parameter of torch's"),
]


def case_id(case):
    return f"{case.file} {case.prefix}".strip()


@pytest.mark.parametrize("case", LOADED, ids=case_id)
def test_the_layer_gives_what_pytorch_gives(case, capsys):
    want = np.load(case.folder / case.expected)
    layer = fastrnn.load(case.path, case.prefix)
    y, _ = layer(want["x"])
    np.testing.assert_allclose(y, want["y"], rtol=0, atol=case.far)
    assert repr(layer).count("folded=") == bool(case.folded)
    assert case.folded in repr(layer)
    again = fastrnn.LSTM if isinstance(layer, fastrnn.LSTM) else fastrnn.GRU
    np.testing.assert_array_equal(
        again.from_state_dict(fastrnn.read(case.path), case.prefix)(want["x"])[0], y
    )
    assert main(["inspect", str(case.path)]) == 0
    out = capsys.readouterr().out
    assert out.count("folded: ") == bool(case.folded)
    assert case.folded in out


@pytest.mark.parametrize("case", REFUSED, ids=case_id)
def test_what_would_be_another_model_is_refused_by_name(case, tmp_path, capsys):
    with pytest.raises(fastrnn.FormatError, match=f"^{case.path}: {case.refused}"):
        fastrnn.load(case.path, case.prefix)
    with pytest.raises(ValueError, match=case.refused):
        fastrnn.LSTM.from_state_dict(fastrnn.read(case.path), case.prefix)
    for command in ("inspect", "verify"):
        assert main([command, str(case.path)]) == 1
        assert f"cannot be loaded: {case.refused}" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["simd", "blas"])
def test_an_empty_row(engine):
    path = CASES / "11-empty-row" / "chars.pt"
    want = np.load(path.parent / "expected.npz")
    layer = fastrnn.load(path, engine=engine)
    y, (h, c) = layer(want["x"], lengths=want["lengths"])
    for ours, name in ((y, "y"), (h, "h"), (c, "c")):
        np.testing.assert_allclose(ours, want[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["simd", "blas"])
def test_streams_begin_with_a_learned_initial_state(engine):
    path = CASES / "13-learned-initial-state" / "tagger.pt"
    want = np.load(path.parent / "expected.npz")
    weights = fastrnn.read(path)
    layer = fastrnn.load(path, engine=engine)
    learned = (weights["lstm_init_h"], weights["lstm_init_c"])
    stream = layer.stream(3, initial_state=learned)
    pool = layer.pool(2, grow=True, initial_state=learned)
    ids = [pool.open() for _ in range(3)]
    runs = [layer(want["x"], learned)[0]]
    for _ in range(2):
        runs += [stream.run(want["x"]), pool.run(ids, want["x"])]
        stream.reset()
        pool.reset(ids)
    for y in runs:
        np.testing.assert_allclose(y, want["y"], rtol=0, atol=1e-6)


def test_a_learned_initial_state_beside_the_stack_is_not_in_its_way():
    path = CASES / "13-learned-initial-state" / "tagger.pt"
    want = np.load(path.parent / "expected.npz")
    weights = fastrnn.read(path)
    batch = want["x"].shape[1]
    states = tuple(np.repeat(weights[f"lstm_init_{s}"][:, None], batch, axis=1) for s in "hc")
    y, _ = fastrnn.load(path)(want["x"], states)
    np.testing.assert_allclose(y, want["y"], rtol=0, atol=1e-6)
