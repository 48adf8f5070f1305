"""ONNX models for tests, made with the `onnx` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    domains: dict[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    **more: Any,
) -> onnx.ModelProto:
    """A model of the nodes, with `weights` as initializers."""
    made = [numpy_helper.from_array(np.asarray(v), name) for name, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, made, **more)
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(
        graph, opset_imports=opsets, functions=list(functions), ir_version=9, producer_name="tests"
    )


def value(name: str, *shape: int | str | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    """A value of that type and shape."""
    return helper.make_tensor_value_info(name, dtype, shape)


def unknown(name: str, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    """A value of whose shape nothing is said."""
    return helper.make_tensor_value_info(name, dtype, None)


def many_kinds() -> onnx.ModelProto:
    """A small model with a bit of everything that a reader and a folder meet: for mutants."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    weights = {
        "conv.weight": noise(4, 3, 3),
        "conv.bias": noise(4),
        "lstm.w": noise(1, 20, 4),
        "lstm.r": noise(1, 20, 5),
        "lstm.b": noise(1, 40),
        "head.weight": noise(2, 5),
        "head.bias": noise(2),
        "halves": np.float16([0.5, 1.5]),
        "two": np.int64([2]),
        "axes": np.int64([0]),
    }
    node = helper.make_node
    branches = {
        f"{side}_branch": helper.make_graph(
            [
                node("Add", ["wide", "wide"], [side])
                if side == "then"
                else node("Neg", ["wide"], [side])
            ],
            side,
            [],
            [value(side, None, None, None)],
        )
        for side in ("then", "else")
    }
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "two"], ["steps"], axis=0),
        node("Greater", ["steps", "two"], ["long"]),
        node("Conv", ["x", "conv.weight", "conv.bias"], ["wide"], pads=[1, 1], kernel_shape=[3]),
        node("If", ["long"], ["chosen"], name="choose", **branches),
        node("Constant", [], ["ten"], value_int=10),
        node(
            "ConstantOfShape", ["two"], ["zeros"], value=helper.make_tensor("v", FLOAT, [1], [0.5])
        ),
        node("Unsqueeze", ["ten", "axes"], ["tens"]),
        node("Expand", ["zeros", "two"], ["expanded"]),
        node("Transpose", ["chosen"], ["turned"], perm=[2, 0, 1]),
        node("Twice", ["turned"], ["doubled"], domain="own", alpha=2.0),
        node("LSTM", ["doubled", "lstm.w", "lstm.r", "lstm.b"], ["y", "h", "c"], hidden_size=5),
        node("Squeeze", ["y", "one"], ["flat"]),
        node("MatMul", ["flat", "head"], ["scores"]),
        node("Transpose", ["head.weight"], ["head"], perm=[1, 0]),
        node("Add", ["scores", "head.bias"], ["sum"]),
        node("Slice", ["sum", "axes", "tens"], ["cut"]),
        node("Cast", ["halves"], ["widened"], to=FLOAT),
        node("Mul", ["cut", "widened"], ["scaled"]),
        node("Mul", ["scaled", "expanded"], ["mixed"]),
        node("Softmax", ["mixed"], ["p"], axis=-1),
    ]
    nodes.insert(12, nodes.pop(14))  # before its use
    twice = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [node("LeakyRelu", ["a"], ["positive"]), node("Add", ["positive", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
        attributes=["alpha"],
    )
    made = model(
        nodes,
        [value("x", "batch", 3, "time")],
        [value("p", None, "batch", 2), value("c", 1, "batch", 5)],
        weights,
        domains={"own": 1},
        functions=[twice],
    )
    one = TensorProto(name="one", data_type=TensorProto.INT64, dims=[1], int64_data=[1])
    made.graph.initializer.append(one)
    extra = TensorProto(name="spare", data_type=FLOAT, dims=[2, 3], float_data=range(6))
    made.graph.initializer.append(extra)
    onnx.checker.check_model(made)
    return made
