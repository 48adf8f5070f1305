"""ONNX's own cases for its operators: each is computed as ONNX says, or refused by name.

The `onnx` package makes them, some 1,900, with data. Those of operators that fastrnn has must pass,
but for what REFUSED and `refusal` name; those of other operators must say which operator it is.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

import fastrnn
from fastrnn.errors import FormatError
from fastrnn.formats.onnx.schema import ELEMENTS
from fastrnn.models.ops import table
from fastrnn.models.ops.elements import UNREADABLE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own, where it makes the data
    CASES = load_model_tests(kind="node")

TRAINING = "expected a model for inference"
REFUSED = {
    "test_batchnorm_example_training_mode": TRAINING,
    "test_batchnorm_epsilon_training_mode": TRAINING,
    "test_training_dropout_default": TRAINING,
    "test_training_dropout_default_mask": TRAINING,
    "test_training_dropout": TRAINING,
    "test_training_dropout_mask": TRAINING,
}


def nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g) if attribute.HasField("g") else ()


def foreign(case) -> set[str]:
    """The operators of a case that fastrnn has not."""
    known = {"If", *(name for domain, name in table.TABLE if not domain)}
    domains = {"", "ai.onnx"}
    return {
        node.op_type
        for node in nodes(case.model.graph)
        if node.domain not in domains or node.op_type not in known
    }


def lacking(case) -> set[str]:
    """The element types in a case that NumPy lacks, and what is no tensor."""
    graph, found = case.model.graph, set()
    for value in [*graph.input, *graph.output]:
        if value.type.HasField("tensor_type"):
            found.add(ELEMENTS.get(value.type.tensor_type.elem_type))
        else:
            found.add(value.type.WhichOneof("value").removesuffix("_type"))
    for node in nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                found.add(ELEMENTS.get(attribute.t.data_type))
            if attribute.name in ("to", "output_dtype", "dtype"):
                found.add(ELEMENTS.get(attribute.i))
    return found & {*UNREADABLE.values(), "sequence", "optional", "map"}


def refusal(case) -> str | None:
    """What a refusal of the case must say; None where it must pass."""
    if case.name in REFUSED:
        return REFUSED[case.name]
    versions = [entry.version for entry in case.model.opset_import if not entry.domain]
    if versions and versions[0] < table.OLDEST:
        return f"opset {versions[0]}, expected {table.OLDEST} to"
    words = [f"'{name}' is not one that fastrnn" for name in foreign(case)]
    words += [rf"\b{name}\b" for name in lacking(case)]
    return "|".join(words) or None


def as_array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def outputs(made):
    return list(made.values()) if isinstance(made, dict) else [made]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cases") / "model.onnx"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_node_case(case, path):
    path.write_bytes(case.model.SerializeToString())
    words = refusal(case)
    ((inputs, wanted),) = case.data_sets
    if case.name in REFUSED:
        with pytest.raises(ValueError, match=words):
            fastrnn.load_model(path)(*map(as_array, inputs))
        return
    if words is not None:
        with pytest.raises(FormatError, match=words):
            fastrnn.load_model(path)
        return
    arrays = list(map(as_array, inputs))
    model = fastrnn.load_model(path)
    first = outputs(model(*arrays))
    for got, want in zip(first, map(as_array, wanted), strict=True):
        np.testing.assert_allclose(got, want, case.rtol, case.atol, strict=True)
    again = outputs(model(*arrays))  # with what the shapes of the first run decide
    for got, want in zip(again, first, strict=True):
        np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("case", [c for c in CASES if not refusal(c)], ids=lambda case: case.name)
def test_node_case_with_constants(case, path):
    """All inputs but the first fixed, as weights are, and then all of them."""
    path.write_bytes(case.model.SerializeToString())
    ((inputs, wanted),) = case.data_sets
    names = [value.name for value in case.model.graph.input]
    arrays = dict(zip(names, map(as_array, inputs), strict=True))
    for free in [names[:1], []] if len(names) > 1 else [[]]:
        fixed = {name: array for name, array in arrays.items() if name not in free}
        model = fastrnn.load_model(path, fixed=fixed)
        for got, want in zip(
            outputs(model(*(arrays[name] for name in free))), map(as_array, wanted), strict=True
        ):
            np.testing.assert_allclose(got, want, case.rtol, case.atol, strict=True)


def test_so_many_cases_pass():
    passing = [case for case in CASES if refusal(case) is None]
    assert len(passing) > 1_080
    assert len(CASES) > 1_800


def test_every_operator_has_a_case():
    """But for those listed, which ONNX has no cases of; `test_models_ops.py` has them."""
    covered = {
        node.op_type for case in CASES if not refusal(case) for node in nodes(case.model.graph)
    }
    names = {name for domain, name in table.TABLE if not domain}
    assert names - covered <= WITHOUT_CASES


WITHOUT_CASES: set[str] = set()
