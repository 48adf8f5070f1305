"""The same bits for a row alone, in any batch, wherever it stands, at the first run and later."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx_models import model, unknown, value

import fastrnn

RNG = np.random.default_rng(0)
BATCH, CHANNELS, STEPS = 13, 6, 21


def noise(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 2).astype(np.float32)


def node(op, *inputs, **attributes):
    return op, inputs, attributes


POINTWISE = [
    *(node(op, "x") for op in (
        "Exp", "Sigmoid", "Tanh", "Erf", "Sqrt", "Log", "Sin", "Cos", "Softplus", "Softsign", "Elu",
        "Selu", "Celu", "Mish", "HardSwish", "HardSigmoid", "Gelu", "LeakyRelu", "Relu", "Atan",
        "Reciprocal", "Swish",
    )),
    node("Gelu", "x", approximate="tanh"),
    node("Pow", "x", "powers"),
    node("Div", "x", "scale"),
]  # fmt: skip
ALONG = [
    *(node("Softmax", "x", axis=axis) for axis in (1, 2)),
    *(node("LogSoftmax", "x", axis=axis) for axis in (1, 2)),
    *(
        node(f"Reduce{kind}", "x", axes)
        for kind in ("Sum", "Mean", "L2", "LogSumExp", "SumSquare", "Max")
        for axes in ("one", "two", "both")
    ),
    node("LayerNormalization", "x", "scale", "shift", axis=-1),
    node("LayerNormalization", "x", "grid", "grid", axis=1),
    node("InstanceNormalization", "x", "channels", "channels"),
    node("GroupNormalization", "x", "channels", "channels", num_groups=2),
    node("BatchNormalization", "x", "channels", "channels", "channels", "channels"),
    node("CumSum", "x", "axis"),
]
PRODUCTS = [
    node("MatMul", "x", "matrix"),
    node("Conv", "x", "kernel", "channels4"),
    node("Conv", "x", "kernel", pads=[2, 2], strides=[2]),
    node("Conv", "x", "kernel", dilations=[3], pads=[6, 0]),
    node("Conv", "x", "grouped", group=2, pads=[1, 1]),
    node("Conv", "x", "depthwise", "channels", group=CHANNELS, pads=[1, 1]),
    node("ConvTranspose", "x", "spread", "channels4", strides=[2]),
    node("AveragePool", "x", kernel_shape=[3], strides=[2], pads=[1, 1]),
    node("MaxPool", "x", kernel_shape=[3]),
    node("Einsum", "x", "matrix", equation="bct,th->bch"),
]
WEIGHTS = {
    "powers": np.abs(noise(STEPS)),
    "scale": noise(STEPS),
    "shift": noise(STEPS),
    "grid": noise(CHANNELS, STEPS),
    "channels": np.abs(noise(CHANNELS)),
    "channels4": noise(4),
    "matrix": noise(STEPS, 9),
    "kernel": noise(4, CHANNELS, 3),
    "grouped": noise(8, CHANNELS // 2, 3),
    "depthwise": noise(CHANNELS, 1, 3),
    "spread": noise(CHANNELS, 4, 3),
    "one": np.int64([1]),
    "two": np.int64([2]),
    "both": np.int64([2, 1]),
    "axis": np.int64(2),
}


def load(tmp_path, operator, inputs, attributes) -> fastrnn.Model:
    """A model of the operator, between Transposes that leave its input in another order, too."""
    nodes = [helper.make_node(operator, list(inputs), ["plain"], **attributes)]
    turned = ["turned" if name == "x" else name for name in inputs]
    nodes += [
        helper.make_node("Transpose", ["x"], ["there"], perm=[0, 2, 1]),
        helper.make_node("Add", ["there", "zero"], ["moved"]),
        helper.make_node("Transpose", ["moved"], ["turned"], perm=[0, 2, 1]),
        helper.make_node(operator, turned, ["strided"], **attributes),
    ]
    weights = {k: v for k, v in WEIGHTS.items() if k in inputs} | {"zero": np.float32(0)}
    made = model(
        nodes,
        [value("x", "batch", CHANNELS, "steps")],
        [unknown("plain"), unknown("strided")],
        weights,
        opset=24,
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return fastrnn.load_model(path)


CASES = POINTWISE + ALONG + PRODUCTS


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    CASES,
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_row_is_the_same_alone_and_in_company(operator, inputs, attributes, tmp_path):
    loaded = load(tmp_path, operator, inputs, attributes)
    x = noise(BATCH, CHANNELS, STEPS)
    together = loaded(x)
    assert not np.isnan(together["plain"]).all()
    for name in ("plain", "strided"):
        again = loaded(x)[name]
        assert np.array_equal(again, together[name], equal_nan=True)
        assert np.array_equal(together["plain"], together[name], equal_nan=True)
    for rows in (slice(0, 1), slice(5, 6), slice(12, 13), slice(3, 10)):
        for _ in range(2):
            alone = loaded(x[rows])
            for name in alone:
                assert np.array_equal(alone[name], together[name][rows], equal_nan=True)


TIMED = {"powers", "scale", "two", "both", "grid"}  # what has numbers of its own for each step
MIX_STEPS = {"InstanceNormalization", "GroupNormalization", "CumSum"}


def is_pointwise_along_time(case) -> bool:
    operator, inputs, attributes = case
    mixes = operator in MIX_STEPS or attributes.get("axis") in (2, -1)
    return not mixes and not TIMED & {*inputs}


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [case for case in POINTWISE + ALONG if is_pointwise_along_time(case)],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_is_pointwise_along_time_is_so_to_the_bit(operator, inputs, attributes, tmp_path):
    loaded = load(tmp_path, operator, inputs, attributes)
    x = noise(BATCH, CHANNELS, STEPS)
    whole = loaded(x)["plain"]
    for cut in (slice(0, 1), slice(7, 8), slice(2, 19)):
        piece = loaded(x[..., cut])["plain"]
        assert np.array_equal(piece, whole[..., cut], equal_nan=True)
