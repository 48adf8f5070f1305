"""From decoded messages to a Model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats.onnx import schema, tensors
from fastrnn.formats.onnx.model import (
    Function,
    Graph,
    Model,
    Node,
    Reference,
    Unread,
    Value,
)
from fastrnn.formats.onnx.wire import decode
from fastrnn.formats.source import Budget, shown


def read(data: memoryview, folder: tensors.Folder, budget: Budget) -> Model:
    """The model whose file's bytes are `data`; FormatError where they are none."""
    message = decode(schema.MESSAGES, "model", data, budget)
    if "graph" not in message:
        raise FormatError("is no ONNX model: it has no graph")
    build = _Builder(folder, budget)
    functions = {}
    for entry in message.get("functions", ()):
        function = build.function(entry)
        key = (function.domain, function.name)
        if key in functions:
            raise FormatError(f"two functions are named {shown(function.name)}")
        functions[key] = function
    training = len(message.get("training_info", ()))
    return Model(
        message.get("ir_version", 0),
        _opsets(message.get("opset_import", ())),
        " ".join(filter(None, (message.get(f"producer_{k}", "") for k in ("name", "version")))),
        build.graph(message["graph"]),
        functions,
        _entries(message.get("metadata_props", ())),
        ("how to train it (training_info)",) if training else (),
        budget,
    )


class _Builder:
    def __init__(self, folder: tensors.Folder, budget: Budget) -> None:
        self.folder, self.budget = folder, budget

    def graph(self, message: Mapping[str, Any]) -> Graph:
        name = message.get("name", "")
        for sparse in message.get("sparse_initializer", ()):
            tensor = sparse.get("values", {}).get("name", "")
            raise FormatError(f"initializer {shown(tensor)} is sparse, expected a dense tensor")
        initializers: dict[str, tensors.Tensor] = {}
        for entry in message.get("initializer", ()):
            made = tensors.make(entry, self.folder, self.budget)
            if made.name in initializers:
                raise FormatError(f"two initializers are named {shown(made.name)}")
            initializers[made.name] = made
        return Graph(
            name,
            tuple(map(self.node, message.get("node", ()))),
            initializers,
            tuple(map(_value, message.get("input", ()))),
            tuple(map(_value, message.get("output", ()))),
            {value.name: value for value in map(_value, message.get("value_info", ()))},
        )

    def node(self, message: Mapping[str, Any]) -> Node:
        node = Node(
            message.get("op_type", ""),
            _domain(message.get("domain", "")),
            message.get("name", ""),
            tuple(message.get("input", ())),
            tuple(message.get("output", ())),
            {},
            message.get("doc_string", ""),
            _entries(message.get("metadata_props", ())),
        )
        if message.get("overload"):
            raise FormatError(f"{node} calls overload {shown(message['overload'])} of a function")
        attributes: dict[str, Any] = {}
        for entry in message.get("attribute", ()):
            name = entry.get("name", "")
            if name in attributes:
                raise FormatError(f"{node} has attribute {shown(name)} twice")
            attributes[name] = self.attribute(entry, str(node))
        object.__setattr__(node, "attributes", attributes)
        return node

    def attribute(self, message: Mapping[str, Any], where: str) -> Any:
        name, kind = message.get("name", ""), message.get("type", 0)
        if "ref_attr_name" in message:
            return Reference(message["ref_attr_name"])
        if kind not in schema.ATTRIBUTES:
            what = schema.UNREAD_ATTRIBUTES.get(kind, f"of the unknown type {shown(kind)}")
            return Unread(what)
        field, many = schema.ATTRIBUTES[kind]
        if many:
            return tuple(message.get(field, ()))
        if field not in message:
            if field in ("t", "g"):
                raise FormatError(f"{where}: attribute {shown(name)} has no value")
            return {"f": 0.0, "i": 0, "s": ""}[field]  # protobuf leaves out what is zero
        if field == "t":
            return tensors.make(message["t"], self.folder, self.budget)
        return self.graph(message["g"]) if field == "g" else message[field]

    def function(self, message: Mapping[str, Any]) -> Function:
        name = message.get("name", "")
        if message.get("overload"):
            raise FormatError(f"function {shown(name)} has overloads")
        return Function(
            name,
            _domain(message.get("domain", "")),
            tuple(message.get("input", ())),
            tuple(message.get("output", ())),
            tuple(message.get("attribute", ())),
            {
                entry.get("name", ""): self.attribute(entry, f"function {shown(name)}")
                for entry in message.get("attribute_proto", ())
            },
            tuple(map(self.node, message.get("node", ()))),
            _opsets(message.get("opset_import", ())),
        )


def _value(message: Mapping[str, Any]) -> Value:
    name, kind = message.get("name", ""), message.get("type", {})
    if "tensor" not in kind:
        return Value(name, kind=next(iter(kind), "tensor"))
    tensor = kind["tensor"]
    element = schema.ELEMENTS.get(tensor.get("elem_type", 0))
    if "shape" not in tensor:
        return Value(name, element)
    shape = tuple(_length(dim) for dim in tensor["shape"].get("dim", ()))
    return Value(name, element, shape)


def _length(message: Mapping[str, Any]) -> int | str | None:
    """One axis. Exporters write 0, a negative length or an empty name where they know none."""
    if message.get("dim_param"):
        return str(message["dim_param"])
    length = message.get("dim_value", 0)
    return int(length) if length > 0 else None


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _opsets(messages: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for message in messages:
        domain, version = _domain(message.get("domain", "")), message.get("version", 0)
        if opsets.get(domain, version) != version:
            raise FormatError(f"has two versions of operators of domain {shown(domain)}")
        opsets[domain] = version
    return opsets


def _entries(messages: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {message.get("key", ""): message.get("value", "") for message in messages}
