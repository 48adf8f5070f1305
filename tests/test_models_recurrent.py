"""Recurrent nodes with every attribute: in plain NumPy and in the layers, beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_models import model, unknown, value

import fastrnn

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
T, B, I, H = 6, 5, 4, 7  # noqa: E741 - I is input_size
LENGTHS = np.int32([6, 1, 4, 6, 2])
TOLERANCE = 2e-6

TORCH_LIKE = [
    ("LSTM", {}),
    ("LSTM", {"activations": ["SIGMOID", "tanh", "Tanh"]}),
    ("GRU", {}),
    ("GRU", {"linear_before_reset": 1}),
    ("RNN", {}),
    ("RNN", {"activations": ["Relu"]}),
]
ODD = [
    ("LSTM", {"clip": 0.4}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    (
        "LSTM",
        {
            "activations": ["HardSigmoid", "ScaledTanh", "LeakyRelu"],
            "activation_alpha": [0.3, 1.7, 0.2],
            "activation_beta": [0.4, 0.66],
        },
    ),
    ("GRU", {"clip": 0.3, "linear_before_reset": 1}),
    ("GRU", {"activations": ["Sigmoid", "Softplus"]}),
    ("GRU", {"activations": ["HardSigmoid", "Elu"], "activation_alpha": [0.25, 0.7]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
    ("RNN", {"clip": 0.2}),
]


def twice(attributes: dict, directions: int) -> dict:
    """The attributes for so many directions."""
    return {k: v * directions if isinstance(v, list) else v for k, v in attributes.items()}


def tensors(kind: str, directions: int, *, peepholes: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(directions)
    gates = GATES[kind]
    shapes = {
        "x": (T, B, I),
        "w": (directions, gates * H, I),
        "r": (directions, gates * H, H),
        "b": (directions, 2 * gates * H),
        "h": (directions, B, H),
        "c": (directions, B, H),
        "p": (directions, 3 * H),
    }
    made = {k: (rng.standard_normal(s) * 0.5).astype(np.float32) for k, s in shapes.items()}
    made["lengths"] = LENGTHS
    if kind != "LSTM":
        del made["c"]
    if not peepholes:
        del made["p"]
    return made


def node_model(kind: str, given: dict[str, np.ndarray], constant: set[str], **attributes):
    """A model of one node; the inputs in `given`, those in `constant` as weights."""
    order = ["x", "w", "r", "b", "lengths", "h", "c", "p"]
    names = [name if name in given else "" for name in order]
    while not names[-1]:
        names.pop()
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, names, outputs, hidden_size=H, **attributes)
    inputs = [
        value(k, *v.shape, dtype=TensorProto.INT32 if k == "lengths" else TensorProto.FLOAT)
        for k, v in given.items()
        if k not in constant
    ]
    weights = {k: given[k] for k in given if k in constant}
    return model([node], inputs, [unknown(name) for name in outputs], weights, opset=14)


def run_fastrnn(tmp_path, made, given, constant, **options):
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    loaded = fastrnn.load_model(path, **options)
    return loaded, loaded(**{k: v for k, v in given.items() if k not in constant})


def run_onnxruntime(made, given):
    session = onnxruntime.InferenceSession(made.SerializeToString())
    names = {entry.name for entry in session.get_inputs()}
    wanted = session.run(None, {k: v for k, v in given.items() if k in names})
    return dict(zip(["y", "y_h", "y_c"], wanted, strict=False))


WEIGHTS = {"w", "r", "b"}


@pytest.mark.parametrize("constant", [set(), WEIGHTS], ids=["varying", "constant"])
@pytest.mark.parametrize("left_out", [(), ("lengths",), ("h", "c", "b"), ("lengths", "b", "h")])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "attributes"), TORCH_LIKE + ODD)
def test_as_onnxruntime(kind, attributes, direction, left_out, constant, tmp_path):
    directions = 2 if direction == "bidirectional" else 1
    given = {k: v for k, v in tensors(kind, directions).items() if k not in left_out}
    attributes = {**twice(attributes, directions), "direction": direction}
    made = node_model(kind, given, constant, **attributes)
    _, got = run_fastrnn(tmp_path, made, given, constant)
    for name, want in run_onnxruntime(made, given).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=TOLERANCE, strict=True)


@pytest.mark.parametrize("constant", [set(), {*WEIGHTS, "p"}], ids=["varying", "constant"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_peepholes(direction, constant, tmp_path):
    given = tensors("LSTM", 2 if direction == "bidirectional" else 1, peepholes=True)
    made = node_model("LSTM", given, constant, direction=direction)
    _, got = run_fastrnn(tmp_path, made, given, constant)
    for name, want in run_onnxruntime(made, given).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=TOLERANCE, strict=True)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "attributes"), TORCH_LIKE + ODD[:1])
def test_batch_first(kind, attributes, direction, tmp_path):
    """layout=1, which ONNX Runtime has not: as layout=0 with axes exchanged."""
    directions = 2 if direction == "bidirectional" else 1
    given = tensors(kind, directions)
    attributes = {**twice(attributes, directions), "direction": direction}
    plain = node_model(kind, given, WEIGHTS, **attributes)
    _, wanted = run_fastrnn(tmp_path, plain, given, WEIGHTS)
    turned = {k: v.swapaxes(0, 1) if k in ("x", "h", "c") else v for k, v in given.items()}
    made = node_model(kind, turned, WEIGHTS, layout=1, **attributes)
    _, got = run_fastrnn(tmp_path, made, turned, WEIGHTS)
    assert np.array_equal(got["y"], wanted["y"].transpose(2, 0, 1, 3))
    for name in ("y_h", "y_c")[: len(wanted) - 1]:
        assert np.array_equal(got[name], wanted[name].swapaxes(0, 1))


@pytest.mark.parametrize(("kind", "attributes"), TORCH_LIKE)
def test_what_torch_has_runs_in_a_layer(kind, attributes, tmp_path):
    given = tensors(kind, 1)
    made = node_model(kind, given, WEIGHTS, **attributes)
    loaded, _ = run_fastrnn(tmp_path, made, given, WEIGHTS, engine="simd")
    assert f"    {kind}({I}, {H}" in repr(loaded)
    assert "engine='simd'" in repr(loaded)


@pytest.mark.parametrize(("kind", "attributes"), ODD)
def test_what_torch_has_not_runs_beside_it(kind, attributes, tmp_path):
    given = tensors(kind, 1)
    loaded, _ = run_fastrnn(
        tmp_path, node_model(kind, given, WEIGHTS, **attributes), given, WEIGHTS
    )
    assert "engine" not in repr(loaded)


@pytest.mark.parametrize("constant", [{"w", "r"}, {"w", "b"}, {"w", "r", "b"}])
def test_no_varying_input_is_left_out(constant, tmp_path):
    """A bias or peepholes that are inputs count, whatever else is constant."""
    given = tensors("LSTM", 1, peepholes=True)
    made = node_model("LSTM", given, constant)
    _, got = run_fastrnn(tmp_path, made, given, constant)
    for name, want in run_onnxruntime(made, given).items():
        np.testing.assert_allclose(got[name], want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("constant", [set(), WEIGHTS], ids=["varying", "constant"])
def test_rows_and_sequences_of_no_steps(kind, constant, tmp_path):
    given = {**tensors(kind, 2), "lengths": np.int32([0, 3, 0, 6, 1])}
    made = node_model(kind, given, constant, direction="bidirectional")
    _, got = run_fastrnn(tmp_path, made, given, constant)
    assert not got["y"][:, :, [0, 2]].any()
    assert np.array_equal(got["y_h"][:, [0, 2]], given["h"][:, [0, 2]])
    alive = run_fastrnn(tmp_path, made, {**given, "lengths": np.int32([1, 3, 1, 6, 1])}, constant)[
        1
    ]
    assert np.array_equal(got["y"][:, :, [1, 3, 4]], alive["y"][:, :, [1, 3, 4]])
    none = {**given, "x": given["x"][:0], "lengths": np.zeros(B, np.int32)}
    _, got = run_fastrnn(
        tmp_path, node_model(kind, none, constant, direction="bidirectional"), none, constant
    )
    assert got["y"].shape == (0, 2, B, H)
    assert np.array_equal(got["y_h"], given["h"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r": np.zeros((1, 27, H), np.float32)}, "R is .*27, 7.*expected .*28, 7"),
        ({"w": np.zeros((2, 28, I), np.float32)}, "W is .*2, 28, 4.*expected .*1, 28, 4"),
        ({"b": np.zeros((1, 55), np.float32)}, "B is .*55.*expected .*1, 56"),
        ({"w": np.full((1, 28, I), np.nan, np.float32)}, "holds NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, words, tmp_path):
    given = {**tensors("LSTM", 1), **change}
    with pytest.raises(fastrnn.FormatError, match=f"node 'y y_h y_c' .LSTM.: .*{words}"):
        run_fastrnn(tmp_path, node_model("LSTM", given, WEIGHTS), given, WEIGHTS)


def test_dynamic_quantize_lstm_is_that_of_the_numbers_it_stands_for(tmp_path):
    rng, given = np.random.default_rng(3), tensors("LSTM", 2)
    quantised, numbers, scales = {}, {}, {}
    for name in ("w", "r"):
        shape = given[name].swapaxes(1, 2).shape
        integers = rng.integers(0, 256, shape, np.uint8)
        scale = (rng.random((2, 4 * H)) * 0.01).astype(np.float32)
        zero = rng.integers(100, 150, (2, 4 * H)).astype(np.uint8)
        wide = (integers.astype(np.float32) - zero[:, None]) * scale[:, None]
        quantised[name], numbers[name] = integers, np.ascontiguousarray(wide.swapaxes(1, 2))
        scales |= {f"{name}_scale": scale, f"{name}_zero": zero}
    plain = {**given, **numbers}
    _, want = run_fastrnn(
        tmp_path, node_model("LSTM", plain, WEIGHTS, direction="bidirectional"), plain, WEIGHTS
    )
    names = ["x", "w", "r", "b", "lengths", "h", "c", "", *scales]
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        names,
        ["y", "y_h", "y_c"],
        domain="com.microsoft",
        hidden_size=H,
        direction="bidirectional",
    )
    free = [value("x", T, B, I), value("lengths", B, dtype=TensorProto.INT32)]
    free += [value("h", 2, B, H), value("c", 2, B, H)]
    made = model(
        [node],
        free,
        [unknown("y"), unknown("y_h"), unknown("y_c")],
        {**quantised, "b": given["b"], **scales},
        domains={"com.microsoft": 1},
    )
    loaded, got = run_fastrnn(tmp_path, made, given, WEIGHTS)
    assert "LSTM(4, 7, bidirectional=True" in repr(loaded)
    for name in want:
        assert np.array_equal(got[name], want[name])
