"""ONNX's messages, as far as they are read: field numbers, names, kinds.

From https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (IR version 14).
"""

from __future__ import annotations

from fastrnn.formats.onnx.wire import Field, Schema


def _many(name: str, kind: str) -> Field:
    return Field(name, kind, many=True)


MESSAGES: Schema = {
    "model": {
        1: Field("ir_version", "int"),
        2: Field("producer_name", "string"),
        3: Field("producer_version", "string"),
        7: Field("graph", "graph"),
        8: _many("opset_import", "opset"),
        14: _many("metadata_props", "entry"),
        20: _many("training_info", "bytes"),
        25: _many("functions", "function"),
    },
    "opset": {1: Field("domain", "string"), 2: Field("version", "int")},
    "entry": {1: Field("key", "string"), 2: Field("value", "string")},
    "graph": {
        1: _many("node", "node"),
        2: Field("name", "string"),
        5: _many("initializer", "tensor"),
        11: _many("input", "value"),
        12: _many("output", "value"),
        13: _many("value_info", "value"),
        15: _many("sparse_initializer", "sparse"),
    },
    "function": {
        1: Field("name", "string"),
        4: _many("input", "string"),
        5: _many("output", "string"),
        6: _many("attribute", "string"),
        7: _many("node", "node"),
        9: _many("opset_import", "opset"),
        10: Field("domain", "string"),
        11: _many("attribute_proto", "attribute"),
        13: Field("overload", "string"),
    },
    "node": {
        1: _many("input", "string"),
        2: _many("output", "string"),
        3: Field("name", "string"),
        4: Field("op_type", "string"),
        5: _many("attribute", "attribute"),
        6: Field("doc_string", "string"),
        7: Field("domain", "string"),
        8: Field("overload", "string"),
        9: _many("metadata_props", "entry"),
    },
    "attribute": {
        1: Field("name", "string"),
        2: Field("f", "float"),
        3: Field("i", "int"),
        4: Field("s", "string"),
        5: Field("t", "tensor"),
        6: Field("g", "graph"),
        7: _many("floats", "float"),
        8: _many("ints", "int"),
        9: _many("strings", "string"),
        20: Field("type", "int"),
        21: Field("ref_attr_name", "string"),
    },
    "tensor": {
        1: _many("dims", "int"),
        2: Field("data_type", "int"),
        4: _many("float_data", "numbers"),
        5: _many("int32_data", "numbers"),
        6: _many("string_data", "bytes"),
        7: _many("int64_data", "numbers"),
        8: Field("name", "string"),
        9: Field("raw_data", "bytes"),
        10: _many("double_data", "numbers"),
        11: _many("uint64_data", "numbers"),
        13: _many("external_data", "entry"),
        14: Field("data_location", "int"),
    },
    "sparse": {1: Field("values", "tensor")},
    "value": {1: Field("name", "string"), 2: Field("type", "type")},
    "type": {
        1: Field("tensor", "tensor_type"),
        4: Field("sequence", "bytes"),
        5: Field("map", "bytes"),
        7: Field("opaque", "bytes"),
        8: Field("sparse tensor", "bytes"),
        9: Field("optional", "bytes"),
    },
    "tensor_type": {1: Field("elem_type", "int"), 2: Field("shape", "shape")},
    "shape": {1: _many("dim", "dimension")},
    "dimension": {1: Field("dim_value", "int"), 2: Field("dim_param", "string")},
}

# The attribute types that are read: which field has the value, and whether it is a list.
ATTRIBUTES = {
    1: ("f", False),
    2: ("i", False),
    3: ("s", False),
    4: ("t", False),
    5: ("g", False),
    6: ("floats", True),
    7: ("ints", True),
    8: ("strings", True),
}
UNREAD_ATTRIBUTES = {
    9: "a list of tensors",
    10: "a list of graphs",
    11: "a sparse tensor",
    12: "a list of sparse tensors",
    13: "a type",
    14: "a list of types",
}

# Element types: names as in formats.arrays; those that NumPy lacks are here for messages.
ELEMENTS = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
    24: "float8e8m0",
    25: "uint2",
    26: "int2",
    27: "float6e2m3",
    28: "float6e3m2",
}

# Which typed field has the elements of a type, and how they stand in it: a NumPy code for numbers
# of fixed width, None for varints.
TYPED_DATA: dict[str, tuple[str, str | None]] = {
    "float32": ("float_data", "<f4"),
    "complex64": ("float_data", "<f4"),
    "float64": ("double_data", "<f8"),
    "complex128": ("double_data", "<f8"),
    "int64": ("int64_data", None),
    "uint32": ("uint64_data", None),
    "uint64": ("uint64_data", None),
    **dict.fromkeys(
        ("int32", "int16", "int8", "uint16", "uint8", "bool", "float16", "bfloat16"),
        ("int32_data", None),
    ),
    **dict.fromkeys(
        ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        ("int32_data", None),
    ),
}
