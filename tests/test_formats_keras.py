"""Keras's files: what Keras computes is what comes out, or the layer is refused by name.

data/cases/keras has files of Keras 2 and 3 and what these give (data/make_keras.py).
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import formats
from fastrnn.cli import main

FOLDER = Path(__file__).parent / "data" / "cases" / "keras"
WANT = np.load(FOLDER / "expected.npz")
SAYS = {"activation": "tanh", "recurrent_activation": "sigmoid"}

with zipfile.ZipFile(FOLDER / "files.zip") as _archive:
    FILES = {name: _archive.read(name) for name in _archive.namelist()}

LAYERS = {
    "lstm": "LSTM(3, 2, batch_first=True",
    "gru": "GRU(3, 2, batch_first=True",
    "before": "GRU(3, 2, batch_first=True, reset_after=False",
    "plain": "GRU(3, 2, bias=False, batch_first=True, reset_after=False",
    "relu": "RNN(3, 2, batch_first=True, nonlinearity='relu'",
    "both": "LSTM(3, 2, bidirectional=True, batch_first=True",
    "two": "LSTM(3, 2, num_layers=2, batch_first=True",
    "sub.inner": "LSTM(3, 2, batch_first=True",
}
WHOLE = {
    "keras3.keras": "keras",
    "keras3.h5": "keras h5",
    "keras2.keras": "keras",
    "keras2.h5": "keras h5",
}
IN_ORDER_OF_NAMES = ("keras3.h5", "keras2.h5", "keras2_weights.h5")  # no order of stacked cells


def check(file: str, prefix: str, layer: str, **options) -> None:
    loaded = fastrnn.load(FILES[file], prefix, **options)
    assert repr(loaded).startswith(LAYERS[layer]), repr(loaded)
    want = WANT[f"{file.partition('.')[0].partition('_')[0]}/{layer}"]
    np.testing.assert_allclose(loaded(WANT["x"])[0], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("file", WHOLE)
def test_a_layer_of_a_model_gives_what_keras_gives(file, layer):
    assert formats.contents(FILES[file]).format == WHOLE[file]
    if layer == "two" and file in IN_ORDER_OF_NAMES:
        with pytest.raises(fastrnn.FormatError, match=r"two\.weight_ih_l0 has several cells in no"):
            fastrnn.load(FILES[file], layer)
        return
    check(file, layer, layer)
    check(file, layer, layer, engine="blas")
    # What the file says goes with its weights.
    read = getattr(fastrnn, LAYERS[layer][: LAYERS[layer].index("(")])
    direct = read.from_state_dict(fastrnn.read(FILES[file]), layer)
    assert repr(direct).startswith(LAYERS[layer])


STORED = {"lstm": "lstm", "before": "gru", "gru": "gru_1", "plain": "gru_2", "relu": "simple_rnn"}
STORED |= {"both": "bidirectional", "two": "rnn", "sub.inner": "sequential.layers.lstm"}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("file", ["keras3.weights.h5", "keras2.weights.h5", "keras2_weights.h5"])
def test_of_weights_alone_the_caller_says_how_they_compute(file, layer):
    prefix = f"layers.{STORED[layer]}" if file == "keras2.weights.h5" else layer
    if layer == "two" and file in IN_ORDER_OF_NAMES:
        return
    with pytest.raises(
        fastrnn.FormatError, match=f"{prefix} is in a file of weights alone, .*keras_con"
    ):
        fastrnn.load(FILES[file], prefix)
    cell = getattr(fastrnn, LAYERS[layer][: LAYERS[layer].index("(")])
    with pytest.raises(ValueError, match="weights alone"):
        cell.from_state_dict(fastrnn.read(FILES[file]), prefix)
    says = {**SAYS, "activation": "relu"} if layer == "relu" else SAYS
    if layer == "plain":
        with pytest.raises(ValueError, match="does not say reset_after, and no bias does"):
            fastrnn.load(FILES[file], prefix, keras_config=says)
        says = {**says, "reset_after": False}
    check(file, prefix, layer, keras_config=says)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({}, "does not say its activation, expected tanh"),
        ({"activation": "tanh"}, "does not say its recurrent_activation"),
        ({**SAYS, "recurrent_activation": "hard_sigmoid"}, "hard_sigmoid.*0.2 x .*x / 6"),
        ({**SAYS, "activation": "relu"}, "has activation='relu'; what is computed here is tanh"),
        ({**SAYS, "go_backwards": True}, "go_backwards"),
        ({**SAYS, "reset_after": True}, "another reset_after than the bias"),
    ],
)
def test_what_the_caller_says_is_checked_as_a_files_config(says, words):
    with pytest.raises(ValueError, match=f"keras_config .*{words}") as caught:
        fastrnn.load(FILES["keras3.weights.h5"], "before", keras_config=says)
    assert not isinstance(caught.value, fastrnn.FormatError)


def test_what_the_caller_says_stands():
    assert fastrnn.load(FILES["keras3.keras"], "before", reset_after=True).reset_after
    assert not fastrnn.load(FILES["keras3.keras"], "before", batch_first=False).batch_first


def test_a_file_that_says_how_it_computes_takes_no_config():
    with pytest.raises(ValueError, match="keras_config is given"):
        fastrnn.load(FILES["keras3.keras"], "before", keras_config=SAYS)


@pytest.mark.parametrize("layer", ["lstm", "gru"])
def test_cudnns_layout(layer):
    found = fastrnn.load(FILES["cudnn.h5"], layer)
    np.testing.assert_allclose(found(WANT["x"])[0], WANT[f"cudnn/{layer}"], rtol=0, atol=1e-6)


REFUSED = {
    "hard": "has recurrent_activation='hard_sigmoid', which is clip",
    "soft": "has activation='softsign'; what is computed here is tanh",
    "backwards": "has go_backwards=True",
    "sum": "has merge_mode='sum', expected 'concat'",
    "mixed": "stacks cells that are not alike",
    "deep": "stacks cells inside each direction",
    "conv": "is recurrent by its weights, and by the config is not",
}


@pytest.mark.parametrize("layer", REFUSED)
@pytest.mark.parametrize("file", ["keras3_refused.keras", "keras2_refused.h5"])
def test_what_is_computed_otherwise_is_refused_by_name(file, layer, tmp_path, capsys):
    words = REFUSED[layer]
    if layer in ("mixed", "deep") and file in ("keras2_refused.h5",):
        words = "has several cells in no known order|stacks cells that are not alike"
    with pytest.raises(fastrnn.FormatError, match=rf"{layer}\.weight_ih_l0 ({words})"):
        fastrnn.load(FILES[file], layer)
    weights = fastrnn.read(FILES[file])
    assert not any(name.startswith(f"{layer}.") for name in weights)
    (tmp_path / file).write_bytes(FILES[file])
    assert main(["inspect", str(tmp_path / file)]) == 1
    assert layer in capsys.readouterr().out


def test_other_layers_come_as_keras_has_them():
    for file, names in {
        "keras3.keras": ["sub.dense.vars.0", "sub.dense.vars.1"],
        "keras2.h5": ["sub.dense.bias", "sub.dense.kernel"],
        "keras3.h5": ["sub.dense.bias", "sub.dense.kernel"],
    }.items():
        weights = fastrnn.read(FILES[file])
        assert [name for name in weights if "dense" in name] == names
        assert {weights[name].shape for name in names} == {(2, 2), (2,)}


def test_bfloat16_comes_as_float32():
    weights = fastrnn.read(FILES["bfloat16.keras"])
    np.testing.assert_array_equal(weights["gru.weight_ih_l0"][2:4], WANT["bfloat16/kernel"].T[:2])
    assert weights["gru.weight_ih_l0"].dtype == np.float32


def test_masks_and_what_keras_returns_are_told(tmp_path, capsys):
    path = tmp_path / "masked.h5"
    path.write_bytes(FILES["masked.h5"])
    said = formats.contents(path).weights.said["masked"]
    assert said.notes == (
        "return_sequences=False: what Keras returns is h_n",
        "the model masks steps: give lengths",
    )
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "LSTM(1, 2, batch_first=True): " in out
    assert "the model masks steps: give lengths" in out


def edited(edit, file: str = "keras3.keras") -> bytes:
    """A .keras file whose config, and records by name, are as `edit` leaves them."""
    records = {}
    with zipfile.ZipFile(io.BytesIO(FILES[file])) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(records["config.json"])
    layers = {entry["config"]["name"]: entry for entry in config["config"]["layers"]}
    edit(layers, config)
    records["config.json"] = json.dumps(config).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return out.getvalue()


def inner(layers, layer, **change):
    layers[layer]["config"].update(change)


@pytest.mark.parametrize(
    ("layer", "change", "words"),
    [
        ("lstm", {"units": 3}, "has units 3 by its config, and 2 by its weights"),
        ("lstm", {"units": None}, "has units=None"),
        (
            "lstm",
            {"activation": "sigmoid"},
            "has activation='sigmoid'; what is computed here is tanh",
        ),
        ("lstm", {"activation": {"class_name": "function", "config": "tanh"}}, "of its own"),
        ("lstm", {"recurrent_activation": None}, "does not say its recurrent_activation"),
        ("lstm", {"go_backwards": True}, "go_backwards"),
        ("lstm", {"go_backwards": 1}, "go_backwards"),
        ("gru", {"reset_after": False}, "reset_after=False, and its bias is of the other kind"),
        ("plain", {"reset_after": None}, "does not say its reset_after"),
        ("relu", {"activation": "elu"}, "what is computed here is tanh or relu"),
        ("both", {"merge_mode": None}, "has merge_mode=None"),
        ("two", {"cell": {"class_name": "Mine", "config": {}}}, "a cell of class 'Mine'"),
    ],
)
def test_a_config_that_says_something_else_is_believed(layer, change, words):
    data = edited(lambda layers, _: inner(layers, layer, **change))
    with pytest.raises(fastrnn.FormatError, match=words):
        fastrnn.load(data, layer)


@pytest.mark.parametrize("change", [{"module": "mine.layers"}, {"registered_name": "Mine>LSTM"}])
def test_a_class_of_the_same_name_is_another(change):
    data = edited(lambda layers, _: layers["lstm"].update(change))
    with pytest.raises(
        fastrnn.FormatError, match=r"lstm\.weight_ih_l0 is a class of its own named"
    ):
        fastrnn.load(data, "lstm")


@pytest.mark.parametrize("class_name", ["GRU", "Dense", "SimpleRNN"])
def test_a_config_of_other_layers_says_nothing_of_these(class_name):
    """A store's groups are named by class: layers are found in it as the config counts them."""
    data = edited(lambda layers, _: layers["lstm"].update(class_name=class_name))
    with pytest.raises(fastrnn.FormatError, match=r"weights alone|has no weights in the file"):
        fastrnn.load(data, "layers.lstm")


def test_time_major_is_as_the_file_says():
    data = edited(lambda layers, _: inner(layers, "lstm", time_major=True), "keras2.keras")
    layer = fastrnn.load(data, "lstm")
    assert not layer.batch_first
    x = WANT["x"].transpose(1, 0, 2)
    want = WANT["keras2/lstm"].transpose(1, 0, 2)
    np.testing.assert_allclose(layer(x)[0], want, rtol=0, atol=1e-6)


def test_directions_that_differ_are_refused():
    def edit(layers, _):
        backward = layers["both"]["config"]["backward_layer"]["config"]
        backward["activation"] = "relu"

    with pytest.raises(fastrnn.FormatError, match="has activation='relu'"):
        fastrnn.load(edited(edit), "both")


@pytest.mark.parametrize(
    "config", [[], None, 3, {}, {"class_name": "Functional", "config": {"layers": 3}}]
)
def test_a_config_that_is_none_leaves_weights_alone(config):
    def edit(_, whole):
        whole.clear()
        whole.update(config if isinstance(config, dict) else {"config": config})

    with pytest.raises(fastrnn.FormatError, match="a file of weights alone"):
        fastrnn.load(edited(edit), "layers.lstm")


def test_a_config_nested_without_end_is_read_as_far_as_models_are():
    def edit(_, whole):
        for _ in range(300):
            whole["config"] = {"layers": [{"class_name": "Sequential", "config": whole["config"]}]}

    assert all(said.unsaid for said in formats.contents(edited(edit)).weights.said.values())


def test_a_converted_file_needs_what_the_first_said(tmp_path, capsys):
    (tmp_path / "a.keras").write_bytes(FILES["keras3.keras"])
    assert main(["convert", str(tmp_path / "a.keras"), str(tmp_path / "a.npz")]) == 0
    told = capsys.readouterr().err
    assert "what is said of before: load it with reset_after=False, batch_first=True\n" in told
    x, want = WANT["x"], WANT["keras3/before"]
    layer = fastrnn.load(tmp_path / "a.npz", "before", reset_after=False, batch_first=True)
    np.testing.assert_allclose(layer(x)[0], want, rtol=0, atol=1e-6)
