"""The reader of ONNX files: the wire format, tensors, files beside the model, hostile ones."""

from __future__ import annotations

import os
import re
import struct

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import many_kinds, model, unknown, value

import fastrnn
from fastrnn.errors import FormatError
from fastrnn.formats import onnx as reader
from fastrnn.formats.onnx import wire
from fastrnn.formats.source import Budget


def varint(number: int) -> bytes:
    number %= 1 << 64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, wire_type: int, value: bytes | int) -> bytes:
    tag = varint(number << 3 | wire_type)
    if wire_type == wire.DELIMITED:
        return tag + varint(len(value)) + value
    return tag + (varint(value) if wire_type == wire.VARINT else value)


def message(number: int, *parts: bytes) -> bytes:
    return field(number, wire.DELIMITED, b"".join(parts))


HEAD = field(1, wire.VARINT, 9) + message(8, field(2, wire.VARINT, 17))
OUTPUT = message(12, message(1, b"y"))


def save(path, made) -> None:
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_a_model_reads_as_onnx_has_it(path):
    made = many_kinds()
    save(path, made)
    read = reader.read(path)
    assert read.opsets == {"": 17, "own": 1}
    assert read.producer == "tests"
    assert [node.op for node in read.graph.nodes] == [node.op_type for node in made.graph.node]
    for ours, theirs in zip(read.graph.nodes, made.graph.node, strict=True):
        assert (ours.inputs, ours.outputs) == (tuple(theirs.input), tuple(theirs.output))
        assert set(ours.attributes) == {attribute.name for attribute in theirs.attribute}
    assert read.graph.inputs == (reader.Value("x", "float32", ("batch", 3, "time")),)
    for tensor in made.graph.initializer:
        want = numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(
            read.graph.initializers[tensor.name].array(), want, strict=True
        )
    weights = fastrnn.read(path)
    assert list(weights) == [tensor.name for tensor in made.graph.initializer]


@pytest.mark.parametrize("packed", [True, False])
def test_numbers_are_read_packed_or_not(packed, path):
    numbers = [0, 1, -1, 300, -(2**63), 2**63 - 1]
    if packed:
        data = field(7, wire.DELIMITED, b"".join(map(varint, numbers)))
        dims = field(1, wire.DELIMITED, varint(2) + varint(3))
    else:
        data = b"".join(field(7, wire.VARINT, number) for number in numbers)
        dims = field(1, wire.VARINT, 2) + field(1, wire.VARINT, 3)
    tensor = message(5, dims, field(2, wire.VARINT, TensorProto.INT64), data, message(8, b"t"))
    save(path, HEAD + message(7, tensor, OUTPUT))
    assert fastrnn.read(path)["t"].tolist() == [numbers[:3], numbers[3:]]
    assert onnx.load_from_string(path.read_bytes()).graph.initializer[0].int64_data == numbers


def test_unknown_fields_are_skipped(path):
    extra = field(1000, wire.VARINT, 7) + field(1001, wire.FIXED64, bytes(8))
    extra += field(1002, wire.DELIMITED, b"abc") + field(1003, wire.FIXED32, bytes(4))
    made = many_kinds()
    path.write_bytes(made.SerializeToString() + extra)
    assert len(reader.read(path).graph.nodes) == len(made.graph.node)


def nested(depth: int) -> bytes:
    """An If in a branch of an If, and so on."""
    inner = OUTPUT
    for _ in range(depth):
        branch = message(
            5, message(1, b"then_branch"), field(20, wire.VARINT, 5), message(6, inner)
        )
        inner = message(1, message(4, b"If"), branch) + OUTPUT
    return HEAD + message(7, inner)


GRAPH = message(7, OUTPUT)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (HEAD, "no ONNX model: it has no graph"),
        (HEAD + GRAPH + GRAPH, "a model has two of graph"),
        (HEAD + field(7, wire.VARINT, 5), "graph of a model has wire type 0, expected 2"),
        (HEAD + field(7, wire.DELIMITED, b"x" * 9)[:-3], "field 7 has 9 bytes, its message 6"),
        (HEAD + b"\x3a" + b"\xff" * 12, "a number does not end"),
        (HEAD + b"\x3b", "field 7 has wire type 3"),
        (HEAD + b"\x00\x01", "a field has the number 0"),
        (
            HEAD + message(7, message(2, b"\xff\xfe")),
            r"name of a graph is b'\xff\xfe', expected UTF-8",
        ),
        (nested(200), "nested deeper than 64"),
        (
            HEAD + message(8, field(2, wire.VARINT, 18)) + GRAPH,
            "two versions of operators of domain",
        ),
        (
            HEAD + message(7, message(15, message(1, message(8, b"few")))),
            "initializer 'few' is sparse, expected a dense tensor",
        ),
        (
            HEAD + message(7, message(5, message(8, b"t")), message(5, message(8, b"t"))),
            "tensor 't' has the unknown element type 0",
        ),
        (
            HEAD + message(7, *[message(5, field(2, wire.VARINT, 1), message(8, b"t"))] * 2),
            "two initializers are named 't'",
        ),
        (
            HEAD
            + message(
                7, message(1, *[message(5, message(1, b"a"), field(20, wire.VARINT, 2))] * 2)
            ),
            "has attribute 'a' twice",
        ),
        (
            HEAD + message(7, message(5, field(2, wire.VARINT, 1), field(1, wire.VARINT, -5))),
            "has the impossible shape (-5)",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_damaged_models_are_refused(data, words, path):
    save(path, data)
    with pytest.raises(FormatError, match=re.escape(words)) as raised:
        fastrnn.load_model(path)
    assert str(raised.value).startswith(f"{path}: as an ONNX model: ")


def test_what_is_nested_less_is_read(path):
    save(path, nested(15))
    assert reader.read(path).graph.nodes[0].op == "If"


def tensor_model(**fields) -> onnx.ModelProto:
    made = model([helper.make_node("Identity", ["t"], ["y"])], [], [unknown("y")])
    made.graph.initializer.append(TensorProto(name="t", **fields))
    return made


INT8, FLOAT, STRING, BFLOAT16 = (
    TensorProto.INT8, TensorProto.FLOAT, TensorProto.STRING, TensorProto.BFLOAT16
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"data_type": FLOAT, "dims": [2], "raw_data": bytes(7)},
            "has 7 bytes of data, expected 8",
        ),
        (
            {"data_type": FLOAT, "dims": [2], "raw_data": bytes(12)},
            "has 12 bytes of data, expected 8",
        ),
        ({"data_type": FLOAT, "dims": [2]}, "has 0 bytes of data, expected 8"),
        ({"data_type": FLOAT, "dims": [1 << 40]}, "has 0 bytes of data, expected"),
        ({"data_type": FLOAT, "dims": [1 << 62, 1 << 62]}, "impossible shape"),
        (
            {"data_type": FLOAT, "dims": [1], "raw_data": bytes(4), "float_data": [1.0]},
            "has its data twice: float_data and raw_data",
        ),
        (
            {"data_type": FLOAT, "dims": [1], "int32_data": [1]},
            "has int32_data, expected float_data",
        ),
        ({"data_type": INT8, "dims": [2], "int32_data": [1, 300]}, "has a value that int8 has not"),
        ({"data_type": INT8, "dims": [1], "int32_data": [1] * 9}, "more data than its shape has"),
        (
            {"data_type": STRING, "dims": [1], "string_data": [b"a"]},
            "type string, which NumPy lacks",
        ),
        ({"data_type": BFLOAT16, "dims": [1], "raw_data": b"ab"}, "bfloat16, which NumPy lacks"),
        (
            {"data_type": TensorProto.INT4, "dims": [2], "raw_data": b"a"},
            "type int4, which NumPy lacks",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(fields, words, path):
    save(path, tensor_model(**fields))
    with pytest.raises(FormatError, match=f"tensor 't' .*{re.escape(words)}"):
        fastrnn.load_model(path)


def test_bfloat16_is_read_as_float32(path):
    raw = struct.pack("<f", -1.5)[2:]
    save(path, tensor_model(data_type=BFLOAT16, dims=[1], raw_data=raw))
    weights = fastrnn.read(path)
    assert weights["t"].dtype == np.float32
    assert weights["t"].tolist() == [-1.5]


def external(
    location: str, offset: int | None = None, length: int | None = None
) -> onnx.ModelProto:
    made = tensor_model(data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    entries = {"location": location, "offset": offset, "length": length}
    for key, text in entries.items():
        if text is not None:
            made.graph.initializer[0].external_data.add(key=key, value=str(text))
    return made


def test_data_in_another_file(tmp_path, path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "data.bin").write_bytes(
        bytes(4) + np.float32([1.5, -2]).tobytes() + b"rest"
    )
    save(path, external("weights/data.bin", 4, 8))
    assert fastrnn.load_model(path)().tolist() == [1.5, -2]
    assert fastrnn.read(path)["t"].tolist() == [1.5, -2]
    path.rename(tmp_path / "weights" / "model.onnx")
    os.rename(tmp_path / "weights", tmp_path / "moved")
    save(tmp_path / "moved" / "model.onnx", external("data.bin", 4, 8))
    before = os.getcwd()
    os.chdir(tmp_path / "moved")
    try:
        assert fastrnn.read("model.onnx")["t"].tolist() == [1.5, -2]
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    ("location", "offset", "length", "words"),
    [
        ("../data.bin", None, None, "expected a file in the model's own folder"),
        ("a/../../data.bin", None, None, "expected a file in the model's own folder"),
        ("..\\data.bin", None, None, "expected a file in the model's own folder"),
        ("/etc/hostname", None, None, "expected a file in the model's own folder"),
        ("", None, None, "expected a file in the model's own folder"),
        ("link", None, None, "a link that leaves the model's own folder"),
        ("folder_link/data.bin", None, None, "a link that leaves the model's own folder"),
        ("none.bin", None, None, "No such file"),
        (".", None, None, "directory"),
        ("pipe", None, None, "not a regular file"),
        ("data.bin", 4, 8, "has 8 bytes, wanted 8 from 4 on"),
        ("data.bin", -4, 8, "wanted 8 from -4 on"),
        ("data.bin", 1 << 70, 8, "has 8 bytes"),
        ("data.bin", "two", 8, "offset 'two'"),
        ("data.bin", 0, 4, "has 4 bytes of data, expected 8"),
        ("data.bin", 12, None, "has 8 bytes"),
        (None, 0, 8, "external data without a location"),
    ],
)
def test_no_other_file_is_read(location, offset, length, words, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(8))
    (folder / "data.bin").write_bytes(bytes(8))
    (folder / "link").symlink_to(tmp_path / "data.bin")
    (folder / "folder_link").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    save(folder / "model.onnx", external(location, offset, length))
    with pytest.raises(FormatError, match=f"tensor 't' .*{re.escape(words)}"):
        fastrnn.load_model(folder / "model.onnx")


def test_a_file_makes_no_more_than_its_size_warrants():
    """Two bytes ask for a node; a million of them are refused before they are made."""
    nodes = memoryview(message(1, b"") * 1_000_000)
    budget = Budget(len(nodes))
    with pytest.raises(FormatError, match="more memory than the file's size justifies"):
        wire.decode({"graph": {1: wire.Field("node", "graph", True)}}, "graph", nodes, budget)


def call(name: str, *inputs: str, outputs: tuple[str, ...] = ("y",)) -> onnx.NodeProto:
    return helper.make_node(name, list(inputs), list(outputs), domain="own")


def function(name: str, nodes: list[onnx.NodeProto], **more) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets, **more)


def test_functions_are_written_out(path):
    scale = helper.make_node("Elu", ["a"], ["b"])
    reference = scale.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "height"
    inner = function("Inner", [scale], attributes=["height"])
    outer = function(
        "Outer",
        [
            helper.make_node("Inner", ["a"], ["h"], domain="own", height=3.0),
            helper.make_node("Neg", ["h"], ["b"]),
        ],
    )
    made = model(
        [call("Outer", "x", outputs=("h",)), call("Outer", "h")],
        [value("x", 3)],
        [unknown("y")],
        domains={"own": 1},
        functions=[inner, outer],
    )
    save(path, made)
    x = np.float32([-1, 0, 2])

    def elu(x):
        return np.where(x >= 0, x, 3 * np.expm1(x))

    np.testing.assert_allclose(fastrnn.load_model(path)(x), -elu(-elu(x)), rtol=1e-6)


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ([function("F", [call("F", "a", outputs=("b",))])], "call each other more than 32 deep"),
        (
            [
                function(
                    f"F{i or ''}",
                    [call(f"F{i + 1}", "a", outputs=(f"h{n}",)) for n in range(40)]
                    + [helper.make_node("Neg", ["a"], ["b"])],
                )
                for i in range(12)
            ]
            + [function("F12", [helper.make_node("Neg", ["a"], ["b"])])],
            "more memory than the file's size justifies",
        ),
        (
            [function("F", [helper.make_node("Neg", ["z"], ["b"])])],
            "'y/z' is defined nowhere before it",
        ),
        ([function("F", [])], "output 'y' is defined nowhere"),
    ],
)
def test_functions_without_end_or_sense_are_refused(functions, words, path):
    made = model(
        [call("F", "x")], [value("x", 3)], [unknown("y")], domains={"own": 1}, functions=functions
    )
    save(path, made)
    with pytest.raises(FormatError, match=re.escape(words)):
        fastrnn.load_model(path)


def test_names_of_two_branches_may_be_the_same(path):
    branches = {
        f"{side}_branch": helper.make_graph(
            [helper.make_node(op, ["x"], ["same"]), helper.make_node("Neg", ["same"], ["out"])],
            side,
            [],
            [unknown("out")],
            [numpy_helper.from_array(np.float32([number]), "weight")],
        )
        for side, op, number in (("then", "Exp", 1), ("else", "Abs", 2))
    }
    made = model(
        [helper.make_node("If", ["flag"], ["y"], **branches)],
        [value("x", 2), value("flag", dtype=TensorProto.BOOL)],
        [unknown("y")],
    )
    save(path, made)
    x = np.float32([-1, 2])
    loaded = fastrnn.load_model(path)
    np.testing.assert_allclose(loaded(x, True), -np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(loaded(x, False), -np.abs(x))
    for flag, want in ((True, -np.exp(x)), (False, -np.abs(x))):
        fixed = fastrnn.load_model(path, fixed={"flag": flag})
        assert list(fixed.inputs) == ["x"]
        np.testing.assert_allclose(fixed(x), want, rtol=1e-6)


def test_how_to_train_is_ignored_with_a_word(path):
    made = many_kinds()
    made.training_info.add()
    save(path, made)
    assert reader.read(path).ignored == ("how to train it (training_info)",)
    assert fastrnn.load_model(path).inputs
