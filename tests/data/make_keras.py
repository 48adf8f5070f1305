"""Writes tests/data/cases/keras with Keras 3 and Keras 2: files of every kind, and what they give.

Run it once, in an environment of its own with keras, tf_keras, tensorflow-cpu and h5py:
`python tests/data/make_keras.py`. The files, which are mostly zeros, are in files.zip. expected.npz
has, as "FILE/LAYER", what Keras gives for "FILE/x", of layers that are computed as torch does.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import h5py
import keras
import numpy as np
import tf_keras
from tf_keras.src.saving.legacy.hdf5_format import _convert_rnn_weights

FOLDER = Path(__file__).parent / "cases" / "keras"
STEPS, INPUTS = 6, 3


def layers_of(K) -> dict[str, object]:
    """A layer for each way of being computed, by name."""
    L = K.layers
    bias = {"bias_initializer": K.initializers.RandomNormal(seed=2)}
    return {
        "lstm": L.LSTM(2, return_sequences=True, dropout=0.2, name="lstm", **bias),
        "gru": L.GRU(2, return_sequences=True, name="gru", **bias),
        "before": L.GRU(2, return_sequences=True, reset_after=False, name="before", **bias),
        "plain": L.GRU(2, return_sequences=True, use_bias=False, reset_after=False, name="plain"),
        "relu": L.SimpleRNN(2, "relu", return_sequences=True, name="relu", **bias),
        "both": L.Bidirectional(L.LSTM(2, return_sequences=True, **bias), name="both"),
        "two": L.RNN([L.LSTMCell(2, **bias), L.LSTMCell(2)], return_sequences=True, name="two"),
    }


def refused_of(K) -> dict[str, object]:
    L = K.layers
    return {
        "hard": L.LSTM(2, recurrent_activation="hard_sigmoid", name="hard"),
        "soft": L.GRU(2, activation="softsign", name="soft"),
        "backwards": L.LSTM(2, go_backwards=True, name="backwards"),
        "sum": L.Bidirectional(L.GRU(2), merge_mode="sum", name="sum"),
        "mixed": L.RNN([L.LSTMCell(2), L.GRUCell(2)], name="mixed"),
        "deep": L.Bidirectional(L.RNN([L.GRUCell(2), L.GRUCell(2)]), name="deep"),
        "conv": L.ConvLSTM1D(2, 1, name="conv"),
        "dense": L.Dense(2, name="dense"),
    }


def model_of(K, named: dict[str, object], nested: bool):
    x = K.Input((STEPS, INPUTS), name="x")
    outputs = {
        name: layer(K.layers.Reshape((STEPS, INPUTS, 1))(x) if name == "conv" else x)
        for name, layer in named.items()
    }
    if nested:
        inner = [K.Input((STEPS, INPUTS)), K.layers.LSTM(2, return_sequences=True, name="inner")]
        sub = K.Sequential([*inner, K.layers.Dense(2, name="dense")], name="sub")
        outputs["sub"] = sub(x)
        return K.Model(x, outputs), K.Model(x, sub.layers[0](x))
    return K.Model(x, outputs), None


def cudnn_file(model, path: Path) -> None:
    """A .h5 model of Keras 2 with its LSTM and GRU turned into CuDNN's, as before TensorFlow 2."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for entry in config["config"]["layers"]:
            if entry["class_name"] not in ("LSTM", "GRU"):
                continue
            entry["class_name"] = f"CuDNN{entry['class_name']}"
            for key in ("activation", "recurrent_activation", "use_bias", "reset_after"):
                entry["config"].pop(key, None)
            layer = model.get_layer(entry["config"]["name"])
            target = type(entry["class_name"], (), {})()
            target.units, target.reset_after = layer.units, True
            weights = _convert_rnn_weights(target, layer.get_weights())
            group = file["model_weights"][layer.name]
            names = list(group.attrs["weight_names"])
            for name, array in zip(names, weights, strict=True):
                del group[name]
                group[name] = array
        file.attrs["model_config"] = json.dumps(config)


def main() -> None:
    x = np.random.default_rng(0).standard_normal((2, STEPS, INPUTS)).astype(np.float32)
    expected: dict[str, np.ndarray] = {"x": x}
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        for name, K in (("keras3", keras), ("keras2", tf_keras)):
            K.utils.set_random_seed(1)
            model, inner = model_of(K, layers_of(K), nested=True)
            for suffix in (".keras", ".h5"):
                model.save(where / f"{name}{suffix}")
            model.save_weights(where / f"{name}.weights.h5")
            if K is tf_keras:
                model.save_weights(where / f"{name}_weights.h5")
            outputs = {**model.predict(x, verbose=0), "sub.inner": inner.predict(x, verbose=0)}
            expected |= {f"{name}/{layer}": y for layer, y in outputs.items() if layer != "sub"}
            refused, _ = model_of(K, refused_of(K), nested=False)
            refused.save(where / f"{name}_refused.{'keras' if K is keras else 'h5'}")
        K = tf_keras
        named = {name: layer for name, layer in layers_of(K).items() if name in ("lstm", "gru")}
        model, _ = model_of(K, named, nested=False)
        cudnn_file(model, where / "cudnn.h5")
        expected |= {f"cudnn/{layer}": y for layer, y in model.predict(x, verbose=0).items()}

        i = tf_keras.Input((STEPS, 1), name="x")
        y = tf_keras.layers.Masking()(i)
        y = tf_keras.layers.LSTM(2, stateful=False, name="masked")(y)
        tf_keras.Model(i, y).save(where / "masked.h5")

        x16 = keras.Input((STEPS, INPUTS), name="x")
        policy = keras.layers.GRU(
            2, dtype="bfloat16", recurrent_initializer="glorot_uniform", name="gru"
        )
        model = keras.Model(x16, policy(x16))
        model.save(where / "bfloat16.keras")
        weights = [np.asarray(w, np.float32) for w in policy.get_weights()]
        parts = zip(("kernel", "recurrent", "bias"), weights, strict=True)
        expected |= {f"bfloat16/{part}": array for part, array in parts}

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(where.iterdir()):
                archive.writestr(
                    zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED
                )
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "files.zip").write_bytes(buffer.getvalue())
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
