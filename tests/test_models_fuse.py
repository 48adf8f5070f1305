"""What is fused computes the same, and only what nobody else sees is."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnx_models import model, unknown, value

import fastrnn
from fastrnn.formats import onnx
from fastrnn.models.fold import fold
from fastrnn.models.fuse import fuse
from fastrnn.models.graph import build

RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.standard_normal((6, 4)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "kernel": RNG.standard_normal((5, 3, 3)).astype(np.float32),
    "bias": RNG.standard_normal(5).astype(np.float32),
    "column": RNG.standard_normal((3, 1)).astype(np.float32),
    **{f"n{i}": np.abs(RNG.standard_normal(5)).astype(np.float32) for i in range(4)},
}
NORM = ["n0", "n1", "n2", "n3"]


def node(op, *inputs, to="y", **attributes):
    return helper.make_node(op, list(inputs), [to], **attributes)


MATMUL, CONV = node("MatMul", "x", "w", to="h"), node("Conv", "x", "kernel", to="h")


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ([MATMUL, node("Add", "h", "b")], ["Linear"]),
        ([MATMUL, node("Add", "b", "h")], ["Linear"]),
        ([CONV, node("BatchNormalization", "h", *NORM)], ["Conv"]),
        (
            [
                node("Conv", "x", "kernel", "bias", to="h", pads=[1, 1], strides=[2]),
                node("BatchNormalization", "h", *NORM, epsilon=0.1),
            ],
            ["Conv"],
        ),
        ([MATMUL, node("Add", "h", "column")], ["MatMul", "Add"]),  # a number for each row
        ([MATMUL, node("Add", "h", "h")], ["MatMul", "Add"]),
        ([MATMUL, node("Add", "h", "b", to="s"), node("Sub", "s", "h")], ["MatMul", "Add", "Sub"]),
        ([node("MatMul", "x", "w"), node("Add", "y", "b", to="z")], ["MatMul", "Add"]),
        (
            [CONV, node("BatchNormalization", "h", *NORM, to="s"), node("ReduceMax", "h", to="m"),
             node("Add", "s", "m")],
            ["Conv", "BatchNormalization", "ReduceMax", "Add"],
        ),
    ],
)  # fmt: skip
def test_fused(nodes, left, tmp_path):
    used = {name for one in nodes for name in one.input}
    outputs = [unknown("y")] + [unknown("z")] * ("z" in [name for n in nodes for name in n.output])
    made = model(
        nodes,
        [value("x", None, 3, 6)],
        outputs,
        {k: v for k, v in WEIGHTS.items() if k in used},
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    graph = fuse(fold(build(onnx.read(path))))
    assert [one.op.name for one in graph.nodes] == left
    x = RNG.standard_normal((2, 3, 6)).astype(np.float32)
    want = onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": x})
    got = fastrnn.load_model(path)(x)
    for array, other in zip(got.values() if isinstance(got, dict) else [got], want, strict=True):
        np.testing.assert_allclose(array, other, rtol=1e-5, atol=1e-5)
