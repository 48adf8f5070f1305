"""What `fastrnn.models.summary` says of a file."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx_models import many_kinds, model, unknown, value

from fastrnn.errors import FormatError
from fastrnn.formats import read
from fastrnn.models import summary


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_a_file_in_words(path):
    path.write_bytes(many_kinds().SerializeToString())
    found = summary(path)
    assert (found.producer, found.opsets) == ("tests", {"": 17, "own": 1})
    assert [(v.name, v.shape) for v in found.inputs] == [("x", ("batch", 3, "time"))]
    assert [v.name for v in found.outputs] == ["p", "c"]
    assert found.operators["Constant"] == 1
    assert found.operators["own::Twice"] == 1
    assert found.operators["Neg"] == 1  # in a branch
    assert found.operators["LeakyRelu"] == 1  # in a function
    (stack,) = found.recurrent
    assert stack.kind == "LSTM"
    assert stack.tensors == {"lstm.w", "lstm.r", "lstm.b"}
    assert found.problem == ""


def test_every_tensor_is_used_or_listed(path):
    """The spare one, one that only a dead node has, and those of a branch that has no use for it."""
    made = many_kinds()
    made.graph.initializer.append(made.graph.initializer[0].__class__.FromString(
        made.graph.initializer[0].SerializeToString()
    ))  # fmt: skip
    made.graph.initializer[-1].name = "dead"
    made.graph.node.append(helper.make_node("Neg", ["dead"], ["nowhere"]))
    path.write_bytes(made.SerializeToString())
    found = summary(path)
    assert found.unused == ("spare", "dead")
    used = {name for name in read(path) if name not in found.unused}
    assert used == {tensor.name for tensor in made.graph.initializer} - {"spare", "dead"}


def test_what_cannot_run_is_described_all_the_same(path):
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Loop", ["h"], ["y"])]
    made = model(nodes, [value("x", 2)], [unknown("y")], {"w": np.zeros(1, np.float32)})
    path.write_bytes(made.SerializeToString())
    found = summary(path)
    assert found.operators == {"Relu": 1, "Loop": 1}
    assert "operator 'Loop' is not one that fastrnn runs" in found.problem
    assert found.recurrent == ()


def test_a_damaged_file_is_refused(path):
    path.write_bytes(many_kinds().SerializeToString()[:-50])
    with pytest.raises(FormatError):
        summary(path)
