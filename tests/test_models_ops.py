"""Operators as earlier versions of ONNX had them, beside ONNX Runtime; and how the table refuses."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model, unknown, value

import fastrnn
from fastrnn.errors import FormatError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
WIDE = RNG.standard_normal((2, 6, 5, 4)).astype(np.float32)
INT64 = TensorProto.INT64


def case(op: str, opset: int, *arrays: np.ndarray, outputs: int = 1, **attributes):
    shown = ",".join(f"{k}={v}" for k, v in attributes.items())
    return pytest.param(op, opset, arrays, outputs, attributes, id=f"{op}-{opset}({shown})")


REDUCTIONS = ["Sum", "Mean", "Max", "Min", "Prod", "SumSquare", "L1", "L2", "LogSum", "LogSumExp"]
BEFORE_INPUTS = {"Sum": 11}  # the last version with axes as an attribute

EARLIER = [
    *(
        case(f"Reduce{name}", BEFORE_INPUTS.get(name, 13), np.abs(X) + 0.1, **attributes)
        for name in REDUCTIONS
        for attributes in ({}, {"axes": [1]}, {"axes": [-1, 0], "keepdims": 0})
    ),
    *(
        case(op, opset, X, **attributes)
        for op in ("Softmax", "LogSoftmax")
        for opset in (7, 11)
        for attributes in ({}, {"axis": 0}, {"axis": 2})
    ),
    case("Clip", 7, X, min=-0.5, max=0.25),
    case("Clip", 10, X, max=0.25),
    case("Squeeze", 11, X[:, :1], axes=[1]),
    case("Squeeze", 7, X[:1, :1]),
    case("Unsqueeze", 11, X, axes=[0, 4]),
    case("Split", 11, X, outputs=2, axis=2),
    case("Split", 11, X, outputs=2, axis=1, split=[1, 2]),
    case("Split", 13, X, np.int64([1, 2]), outputs=2, axis=1),
    case("Slice", 9, X, starts=[0, -3], ends=[1, 100], axes=[0, 2]),
    case("Slice", 9, X, starts=[1, 1], ends=[2, -1]),
    case("Pad", 10, X, pads=[0, 1, 0, 2, 0, 1], value=0.5),
    case("Pad", 10, X, pads=[0, 0, 2, 0, 0, 1], mode="reflect"),
    case("Pad", 10, X, pads=[0, 1, 0, 0, 0, -1], mode="edge"),
    case("Dropout", 10, X, ratio=0.9),
    case("TopK", 9, X, outputs=2, k=2, axis=1),
    case("ArgMax", 11, X, axis=1),
    case("ArgMin", 11, X, axis=-1, keepdims=0),
    case("Gather", 10, X, np.int64([[2, 0], [1, 1]]), axis=1),
    case("Flatten", 7, X, axis=2),
    case("OneHot", 9, np.int64([0, -1, 2]), np.int64([3]), np.float32([0, 5])),
    case("MaxPool", 8, WIDE, kernel_shape=[2, 3], pads=[0, 1, 1, 1], strides=[2, 1]),
    case("AveragePool", 7, WIDE, kernel_shape=[3, 2], pads=[1, 1, 1, 0], count_include_pad=1),
    case("AveragePool", 10, WIDE, kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1),
    case("AveragePool", 11, X, kernel_shape=[2], auto_pad="SAME_LOWER"),
    case("BatchNormalization", 9, WIDE, *(np.abs(RNG.standard_normal((4, 6))).astype(np.float32))),
    case("Gemm", 7, X[0], X[1].T.copy(), X[1, :, :3].copy(), alpha=0.5, beta=2.0),
    case("Gemm", 9, X[0], X[1], X[0, :1, :1], transB=1),
    case("Equal", 7, np.int64([1, 2]), np.int64([1, 3])),
    case("Cast", 9, X * 9, to=TensorProto.INT32),
    case("Shape", 13, X),
    case("Reshape", 7, X, np.int64([0, -1])),
    case("PRelu", 7, X, np.abs(X[:1, :, :1])),
    case("Conv", 10, X, X[:1, :, :2], auto_pad="SAME_UPPER"),
    case("Conv", 7, WIDE, WIDE[:, :3, :2, :3].repeat(2, 0), group=2, dilations=[2, 1]),
    case("ConvTranspose", 7, X, X[0, :, None, :3], strides=[2], output_padding=[1], dilations=[2]),
    case("ConvTranspose", 10, X, X[0, :, None, :3], group=3, strides=[3], pads=[1, 0]),
    case("ConvTranspose", 10, X, X[0, :, None, :3], output_shape=[9], strides=[2]),
]


@pytest.mark.parametrize("constant", [False, True], ids=["varying", "constant"])
@pytest.mark.parametrize(("op", "opset", "arrays", "outputs", "attributes"), EARLIER)
def test_earlier_versions(op, opset, arrays, outputs, attributes, constant, tmp_path):
    names = [f"x{i}" for i in range(len(arrays))]
    given = dict(zip(names, arrays, strict=True))
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, **attributes)
    weights = {name: array for name, array in given.items() if constant and name != "x0"}
    inputs = [
        value(name, *array.shape, dtype=helper.np_dtype_to_tensor_dtype(array.dtype))
        for name, array in given.items()
        if name not in weights
    ]
    made = model([node], inputs, [unknown(name, 0) for name in results], weights, opset=opset)
    for entry in made.graph.output:
        entry.ClearField("type")
    session = onnxruntime.InferenceSession(made.SerializeToString())
    wanted = session.run(None, {k: v for k, v in given.items() if k not in weights})
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    got = fastrnn.load_model(path)(**{k: v for k, v in given.items() if k not in weights})
    got = list(got.values()) if isinstance(got, dict) else [got]
    for array, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(array, want, rtol=1e-5, atol=1e-6, strict=True)


def load(tmp_path, *nodes, opset=17, inputs=None, weights=None, outputs=("y",), domains=None):
    made = model(
        nodes,
        [value("x", 2, 3)] if inputs is None else inputs,
        [unknown(name) for name in outputs],
        weights,
        opset=opset,
        domains=domains,
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return fastrnn.load_model(path)


def node(op, inputs=("x",), outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Loop", name="turns")], "node 'turns' (Loop): operator 'Loop' is not one"),
        ([node("Gelu", domain="com.acme")], "(Gelu of domain com.acme): operator 'Gelu' is not"),
        ([node("Relu", slope=1.0)], "(Relu): attribute 'slope' is not one of the operator's"),
        ([node("Concat")], "(Concat): attribute 'axis' is missing"),
        ([node("HardSwish")], "no such operator in opset 12, it came with 14"),
        ([node("Cast", to=TensorProto.BFLOAT16)], "(Cast): the element type bfloat16 is not one"),
        ([node("Cast", to=TensorProto.STRING)], "the element type string is not one"),
        ([node("Relu", ["z"])], "input 'z' is defined nowhere before it"),
        ([node("Relu", ["h"]), node("Relu", ["x"], ["h"])], "input 'h' is defined nowhere before"),
        ([node("Relu"), node("Neg")], "an output is named 'y', as something before it is"),
        ([node("Relu", outputs=["x"]), node("Relu")], "an output is named 'x'"),
        ([node("Relu", outputs=["z"])], "output 'y' is defined nowhere"),
        (
            [node("Constant", [], value=helper.make_tensor("t", TensorProto.STRING, [1], [b"a"]))],
            "attribute value: has the element type string, which NumPy lacks",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(nodes, words, tmp_path):
    with pytest.raises(FormatError, match=re.escape(words)):
        load(tmp_path, *nodes, opset=12, domains={"com.acme": 1})


@pytest.mark.parametrize("opset", [1, 6, 29, 2**40])
def test_other_opsets_are_refused(opset, tmp_path):
    with pytest.raises(FormatError, match=rf"opset {opset}, expected 7 to"):
        load(tmp_path, node("Relu"), opset=opset)


HUGE = np.int64([1 << 20, 1 << 20])


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", ["huge"], ["y"])],
        [node("Expand", ["scalar", "huge"], ["e"]), node("Exp", ["e"])],
        [node("Tile", ["x", "huge"])],
        [node("Pad", ["x", "four"])],
        [node("Range", ["zero", "many", "one"], ["y"])],
        [node("OneHot", ["few", "many", "pair"], ["y"])],
        [node("Transpose", ["long"], ["t"]), node("Add", ["long", "t"])],
        [node("Transpose", ["long"], ["t"]), node("MatMul", ["t", "long"])],
        [node("Einsum", ["flat", "flat"], ["y"], equation="i,j->ij")],
        [node("Gather", ["long", "indices"])],
        [node("Concat", ["x"] * 8, ["c0"], axis=0)]
        + [node("Concat", [f"c{i}"] * 8, [f"c{i + 1}"], axis=0) for i in range(12)]
        + [node("Neg", ["c12"])],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
@pytest.mark.parametrize("fixed", [False, True], ids=["running", "folding"])
def test_no_graph_takes_all_memory(nodes, fixed, tmp_path):
    """A file of some kilobytes; nothing near what it asks for is taken, at load or in a run."""
    weights = {
        "huge": HUGE,
        "four": np.int64([0, 0, 1 << 40, 1 << 40]),
        "zero": np.int64(0),
        "one": np.int64(1),
        "many": np.int64(1 << 60),
        "scalar": np.float32(1),
        "few": np.int64([1, 2]),
        "pair": np.float32([0, 1]),
        "long": np.zeros((1, 1 << 17), np.float32),
        "flat": np.zeros(1 << 17, np.float32),
        "indices": np.zeros(1 << 16, np.int64),
    }
    used = {name for one in nodes for name in one.input}
    chosen = {name: array for name, array in weights.items() if name in used}
    inputs = [value("x", 2, 3)]
    if not fixed:
        inputs += [
            value(name, *array.shape, dtype=helper.np_dtype_to_tensor_dtype(array.dtype))
            for name, array in chosen.items()
        ]
    loaded = load(tmp_path, *nodes, inputs=inputs, weights=chosen if fixed else None)
    given = {} if fixed else chosen
    with pytest.raises(ValueError, match=r"node '.*would take .* bytes"):
        loaded(x=np.zeros((2, 3), np.float32), **given)


def test_numbers_of_every_type_are_read_from_typed_data_too(tmp_path):
    """Tensors whose numbers stand in typed fields, of which protobuf packs most."""
    for dtype in ("int8", "uint8", "int16", "uint16", "int32", "int64", "uint32", "uint64", "bool",
                  "float16", "float32", "float64"):  # fmt: skip
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        numbers = np.array([0, 1, 100, 1]).astype(dtype)
        if dtype[0] in "if":
            numbers[1] = -1
        tensor = helper.make_tensor("t", kind, [4], numbers)
        assert not tensor.HasField("raw_data")
        loaded = load(tmp_path, node("Constant", [], value=tensor), inputs=[], outputs=("y",))
        assert np.array_equal(loaded(), numbers)
        assert np.array_equal(numpy_helper.to_array(tensor), numbers)


@pytest.mark.parametrize("perm", [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 1, 0]])
@pytest.mark.parametrize(
    ("op", "attributes", "more"),
    [
        *((op, {"axis": axis}, {}) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, -1)),
        *(
            (op, {"keepdims": keep}, {"axes": np.array([axis])})
            for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
            for axis in (0, 1, 2)
            for keep in (0, 1)
        ),
        ("LayerNormalization", {}, {"scale": np.ones(4, np.float32)}),
        *((op, {}, {}) for op in ("Sigmoid", "Tanh", "Erf", "Gelu", "LeakyRelu", "Relu")),
    ],
)
def test_later_calls_give_what_the_first_gave(op, attributes, more, perm):
    """They run over arrays that stay, which may lie in memory in any order, or have gaps."""
    shapes = {"x": [5, 6, 4]}
    turned = [shapes["x"][axis] for axis in perm]
    if "scale" in more:
        more = {"scale": np.ones(turned[-1] // 2, np.float32)}
    half = turned[-1] // 2
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm),
        helper.make_node("Slice", ["t", "start", "end", "axis"], ["s"]),
        helper.make_node(op, ["s", *more], ["y"], **attributes),
    ]
    weights = {"start": np.array([0]), "end": np.array([half]), "axis": np.array([2]), **more}
    made = model(nodes, [value("x", *shapes["x"])],
                             [unknown("y")], weights, opset=20)  # fmt: skip
    loaded = fastrnn.load_model(made.SerializeToString())
    rng = np.random.default_rng(0)
    x, other = (rng.standard_normal(shapes["x"]).astype(np.float32) for _ in "xo")
    first = loaded(x)
    for again in (x, other, x):
        later = loaded(again)
    assert np.array_equal(later, first)


@pytest.mark.parametrize(
    "op", ["Tanh", "Sigmoid", "Erf", "Gelu", "ReduceMin", "ReduceSum", "Neg", "MatMul", "Softmax"]
)
def test_relu_after_anything_in_later_calls(op):
    """A product sees to the Relu behind it; nothing else does."""
    more = {"MatMul": {"w": -np.eye(4, dtype=np.float32)}}.get(op, {})
    nodes = [
        helper.make_node(op, ["x", *more], ["t"]),
        helper.make_node("Relu", ["t"], ["y"]),
        helper.make_node("Tanh", ["y"], ["z"]),
        helper.make_node("Relu", ["z"], ["last"]),
    ]
    made = model(nodes, [value("x", 3, 4)], [unknown("last")], more, opset=20)
    loaded = fastrnn.load_model(made.SerializeToString())
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    first = loaded(x)
    assert (first >= 0).all()
    for _ in range(2):
        assert np.array_equal(loaded(x), first)
        assert np.array_equal(loaded(-x) >= 0, np.ones(first.shape, bool))


@pytest.mark.parametrize(
    ("equation", "shapes", "is_product"),
    [
        ("bth,hk->btk", ((2, 7, 6), (6, 4)), True),
        ("b t h, k h -> b t k", ((2, 7, 6), (4, 6)), True),
        ("hk,bth->btk", ((6, 4), (2, 7, 6)), True),
        ("kh,bth->btk", ((4, 6), (2, 7, 6)), True),
        ("bth,hk->bkt", ((2, 7, 6), (6, 4)), False),
        ("bth,tk->bhk", ((2, 7, 6), (7, 4)), False),
        ("bth,hk", ((2, 7, 6), (6, 4)), False),
        ("bth,h->bt", ((2, 7, 6), (6,)), False),
        ("...h,hk->...k", ((2, 7, 6), (6, 4)), False),
    ],
)
def test_einsum_by_a_constant_matrix_is_a_product(equation, shapes, is_product):
    """It then streams; whatever it is, it gives what NumPy does, and refuses other axes."""
    rng = np.random.default_rng(2)
    weight = min(range(2), key=lambda i: len(shapes[i]))
    names = ["x", "x"]
    names[weight] = "m"
    m = rng.standard_normal(shapes[weight]).astype(np.float32)
    x = rng.standard_normal(shapes[1 - weight]).astype(np.float32)
    nodes = [helper.make_node("Einsum", names, ["y"], name="sum", equation=equation)]

    def load(*axes):
        made = model(nodes, [value("x", *axes)], [unknown("y")], {"m": m})
        return fastrnn.load_model(made.SerializeToString(), time_axis=1)

    loaded = load("batch", "time", x.shape[2])
    expected = np.einsum(equation, *(m if name == "m" else x for name in names))
    for _ in range(2):
        np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-5)
    if not is_product:
        return
    stream = loaded.stream(2)
    parts = [stream.run(x[:, :3]), stream.run(x[:, 3:])]
    assert np.array_equal(np.concatenate(parts, 1), loaded(x))
    with pytest.raises(ValueError, match=r"'sum' \(Einsum\): rows are \(7, 6\), expected 3 axes"):
        load("time", 6)(x[0])


def test_windows_of_several_threads_have_the_same_bits():
    """One thread brings a few windows together at a time; more share out a product of all."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((96, 48, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], dilations=[3], strides=[2], pads=[2, 1])
    made = model([node], [value("x", "batch", 48, "time")], [unknown("y")], {"w": weight})
    one, two = (fastrnn.load_model(made.SerializeToString(), threads=n) for n in (1, 2))
    x = rng.standard_normal((9, 48, 301)).astype(np.float32)
    for _ in range(2):
        assert np.array_equal(one(x), two(x))
