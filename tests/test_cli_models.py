"""The commands on whole models: inspect, verify, trace and bench of .onnx files."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from cli_files import block_imports
from onnx import helper, numpy_helper

import fastrnn
from fastrnn.cli import main
from fastrnn.layers.engines import available_isas
from fastrnn.measure.whole_models import OURS
from fastrnn.models.example import KEY, Example

SIZE, H = 3, 8
WAYS = [*(f"simd {isa}" for isa in available_isas()), "blas", "ONNX Runtime"]


def weights():
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 4 * H, SIZE), "r": (1, 4 * H, H), "b": (1, 8 * H), "spare": (5,)}
    return {n: (0.4 * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()}


def save(path, nodes, inputs, outputs, metadata=None):
    def info(name, shape):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    constants = [numpy_helper.from_array(value, name) for name, value in weights().items()]
    constants.append(numpy_helper.from_array(np.array([1]), "one"))
    graph = helper.make_graph(
        nodes, "g", [info(*i) for i in inputs.items()], [info(*o) for o in outputs.items()],
        constants,
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def lstm(states):
    given = ["x", "w", "r", "b", "", *states]
    return helper.make_node(
        "LSTM", given, ["all", *(f"{s}_out" for s in states)], "ears", hidden_size=H
    )


HEAD = [
    helper.make_node("Squeeze", ["all", "one"], ["h"]),
    helper.make_node("Sigmoid", ["h"], ["y"], "head"),
]
X, Y = ("time", "batch", SIZE), ("time", "batch", H)


@pytest.fixture
def along(tmp_path):
    """Without states, with an example of torch's, as it were: of fastrnn itself."""
    path = save(tmp_path / "along.onnx", [lstm([]), *HEAD], {"x": X}, {"y": Y})
    x = np.random.default_rng(1).standard_normal((6, 2, SIZE)).astype(np.float32)
    example = Example({"x": x}, {"y": fastrnn.load_model(path)(x)})
    return save(path, [lstm([]), *HEAD], {"x": X}, {"y": Y}, {KEY: example.as_text()})


@pytest.fixture
def stateful(tmp_path):
    state = (1, "batch", H)
    return save(
        tmp_path / "states.onnx", [lstm(["s", "c"]), *HEAD],
        {"x": X, "s": state, "c": state}, {"y": Y, "s_out": state, "c_out": state},
    )  # fmt: skip


def as_json(capsys, *argv, code=0):
    assert main([*map(str, argv), "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


# inspect


def test_inspect(along, capsys):
    assert main(["inspect", str(along)]) == 0
    out = capsys.readouterr().out
    assert "opset 17" in out
    assert "x  float32  time x batch x 3" in out
    assert "streams along time, 0 frames late" in out
    assert "ears  in the kernels: LSTM(3, 8, " in out
    assert "not used:\n  spare\n" in out
    assert "`fastrnn verify`: an example with its answer" in out


def test_inspect_json(stateful, capsys):
    found, err = as_json(capsys, "inspect", stateful)
    assert err == ""
    assert found["states"] == {"s": "s_out", "c": "c_out"}
    assert found["inputs"][0] == {
        "name": "x", "element": "float32", "kind": "tensor", "shape": ["time", "batch", SIZE]
    }  # fmt: skip
    assert found["nodes"] == {"LSTM": 1, "Squeeze": 1, "Sigmoid": 1}
    assert list(found["recurrent"]) == ["ears"]
    assert found["unused"] == ["spare"]
    assert found["example"] is False
    assert found["problem"] is None


def test_inspect_of_what_cannot_run(tmp_path, capsys):
    path = save(tmp_path / "m.onnx", [helper.make_node("Det", ["x"], ["y"])], {"x": X}, {"y": Y})
    found, _ = as_json(capsys, "inspect", path, code=1)
    assert "Det" in found["problem"]
    assert found["nodes"] == {"Det": 1}
    assert main(["inspect", str(path)]) == 1
    assert "cannot be run: " in capsys.readouterr().out


def test_inspect_says_why_there_is_no_stream(tmp_path, capsys):
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], "all_of_it", axes=[0])]
    path = save(tmp_path / "m.onnx", nodes, {"x": X}, {"y": (1, "batch", SIZE)})
    assert main(["inspect", str(path)]) == 0
    assert "does not stream: node 'all_of_it' (ReduceMean)" in capsys.readouterr().out


# verify


def test_verify_on_the_recorded_example(along, capsys):
    found, _ = as_json(capsys, "verify", along)
    assert found["ok"] is True
    assert found["example"] is True
    given = list(dict.fromkeys(d["given"] for d in found["differences"]))
    assert given[0] == "the recorded example"
    assert given[1].startswith("random x ")
    for one in given:
        assert [d["runner"] for d in found["differences"] if d["given"] == one] == WAYS


def test_verify_finds_another_answer(along, capsys):
    proto = onnx.load(along)
    (entry,) = proto.metadata_props
    kept = json.loads(entry.value)
    example = fastrnn.models.example.read({KEY: entry.value})
    off = Example(example.inputs, {"y": example.outputs["y"] * np.float32(1.0001)})
    entry.value = off.as_text()
    assert json.loads(entry.value)["inputs"] == kept["inputs"]
    along.write_bytes(proto.SerializeToString())
    assert main(["verify", str(along)]) == 1
    out = capsys.readouterr().out
    assert out.count("DIFFERS") == len(WAYS)
    assert "different answers" in out


@pytest.mark.parametrize("text", ["{", '{"inputs": {}, "outputs": {}}'])
def test_verify_of_a_damaged_example(along, capsys, text):
    proto = onnx.load(along)
    proto.metadata_props[0].value = text
    along.write_bytes(proto.SerializeToString())
    assert main(["verify", str(along)]) == 1
    assert "example" in capsys.readouterr().err


def test_verify_without_onnxruntime(stateful, capsys, monkeypatch):
    block_imports(monkeypatch, "onnxruntime")
    monkeypatch.setattr("importlib.import_module", lambda name: __import__(name))
    assert main(["verify", str(stateful)]) == 0
    out = capsys.readouterr().out
    assert "ONNX Runtime is not installed: not compared" in out
    assert "no example is recorded in the file" in out


def test_shapes_can_be_said(along, capsys):
    found, _ = as_json(capsys, "verify", along, "--shape", f"x=4,5,{SIZE}")
    assert any(d["given"] == f"random x 4 x 5 x {SIZE}" for d in found["differences"])


# trace


def trace_json(capsys, path, x, *more, code=0):
    np.save(path.parent / "x.npy", x)
    return as_json(capsys, "trace", path, "--input", path.parent / "x.npy", *more, code=code)


def test_trace_is_the_layers(along, capsys):
    x = np.random.default_rng(2).standard_normal((7, SIZE)).astype(np.float32)
    found, _ = trace_json(capsys, along, x)
    assert (found["cell"], found["steps"]) == ("LSTM", 7)
    (part,) = found["parts"]
    layer = fastrnn.load(along, "ears")
    gates = layer.trace(x)
    assert part["gates"]["forget"]["mean"] == pytest.approx(float(gates["forget"].mean()))
    assert part["states"]["c"]["largest"] == pytest.approx(float(np.abs(gates["c"]).max()))


def test_trace_by_name_and_row(stateful, capsys):
    x = np.random.default_rng(2).standard_normal((7, 3, SIZE)).astype(np.float32)
    found, _ = trace_json(capsys, stateful, x, "--stack", "ears", "--row", "2", "--steps", "1:4")
    assert (found["first_step"], found["end_step"], found["row"]) == (1, 4, 2)
    whole = fastrnn.load_model(stateful).trace(
        "ears", x, np.zeros((1, 3, H), np.float32), np.zeros((1, 3, H), np.float32)
    )
    assert whole["h"].shape == (1, 1, 7, 3, H)
    mean = float(whole["forget"][0, 0, 1:4, 2].mean())
    assert found["parts"][0]["gates"]["forget"]["mean"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "3 rows, say which with --row"),
        (("--row", "3"), "--row 3: expected 0 to 2"),
        (("--row", "0", "--stack", "eyes"), "no recurrent node or stack 'eyes', expected one of"),
        (("--row", "0", "--nonlinearity", "relu"), "--nonlinearity is for weights"),
        (("--row", "0", "--fix", "z=1"), "fixed has 'z', expected one of x"),
        (("--row", "0", "--fix", "z"), "'z', expected NAME=N"),
        (("--row", "0", "--state", "s"), "'s', expected two names with ="),
    ],
)
def test_trace_of_what_there_is_not(along, capsys, more, message):
    np.save(along.parent / "x.npy", np.zeros((7, 3, SIZE), np.float32))
    code = main(["trace", str(along), "--input", str(along.parent / "x.npy"), *more])
    assert code in (1, 2)
    assert message in capsys.readouterr().err


def test_trace_of_an_input_that_does_not_fit(along, capsys):
    np.save(along.parent / "x.npy", np.zeros((7, SIZE + 1), np.float32))
    assert main(["trace", str(along), "--input", str(along.parent / "x.npy")]) == 1
    assert "x is (7, 1, 4), expected (time, batch, 3)" in capsys.readouterr().err


# bench


def test_bench_along_time(along, capsys):
    found, err = as_json(capsys, "bench", along, "--seconds", "0.01", "--batch", "1,3")
    assert err == ""
    assert [(c["mode"], c["batch"]) for c in found["cases"]] == [
        ("whole", 1), ("whole", 3), ("step", 1), ("step", 3)
    ]  # fmt: skip
    names = [OURS, "ONNX Runtime run", "ONNX Runtime binding"]
    for case in found["cases"]:
        own = [row["runner"] for row in case["rows"]]
        assert own == (names if case["mode"] == "whole" else names[:1])
        assert case["rows"][0]["ratio"] == 1
        assert all(row["us"] > 0 and row["difference"] <= 2e-5 for row in case["rows"])


def test_bench_carries_states(stateful, capsys):
    found, _ = as_json(capsys, "bench", stateful, "--seconds", "0.01", "--batch", "2")
    steps = [case for case in found["cases"] if case["mode"] == "step"]
    (case,) = steps
    assert len(case["rows"]) == 3
    assert case["given"].startswith(f"x 1 x 2 x {SIZE}")


def test_bench_of_a_model_that_does_not_stream(tmp_path, capsys):
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], "all_of_it", axes=[0])]
    path = save(tmp_path / "m.onnx", nodes, {"x": X}, {"y": (1, "batch", SIZE)})
    found, err = as_json(capsys, "bench", path, "--seconds", "0.01", "--batch", "1")
    assert [case["mode"] for case in found["cases"]] == ["whole"]
    assert "step, batch 1: left out" in err
    assert "all_of_it" in err


def test_bench_of_made_up_shapes_that_do_not_fit(tmp_path, capsys):
    # The axis that the file leaves open has one length that fits, which nothing in it tells.
    nodes = [
        helper.make_node("Constant", [], ["seven"], value_ints=[1, 7]),
        helper.make_node("Reshape", ["x", "seven"], ["x7"], "into_seven"),
        helper.make_node("Add", ["x7", "h"], ["y"]),
        helper.make_node("Mul", ["y", "h"], ["hn"]),
    ]
    inputs = {"x": (1, "samples"), "h": (1, 7)}
    path = save(tmp_path / "m.onnx", nodes, inputs, {"y": (1, 7), "hn": (1, 7)})
    given = ["bench", str(path), "--state", "h=hn", "--seconds", "0.01", "--batch", "1"]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert "ONNX Runtime: " in err
    assert "into_seven" in err
    assert "m.onnx: nothing could be timed" in err
    assert "--shape" in err
    found, err = as_json(capsys, *given, "--shape", "x=1,7")
    assert err == ""
    assert [case["mode"] for case in found["cases"]] == ["step"]


def test_options_of_stacks_are_refused(along, capsys):
    assert main(["bench", str(along), "--cell", "GRU"]) == 2
    assert "--cell is for a stack" in capsys.readouterr().err
    assert main(["verify", str(along), "--prefix", "a"]) == 2
    assert "PREFIX is for weights" in capsys.readouterr().err
