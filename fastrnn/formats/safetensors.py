"""The safetensors format: a length, a JSON header, and the tensors' bytes one after another.

Format: https://huggingface.co/docs/safetensors. A reader of its own because the safetensors package
gives no bfloat16 to NumPy, and to stay with NumPy and SciPy alone.
"""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays
from fastrnn.formats.inventory import Contents, Stored, Weights, naming
from fastrnn.formats.source import Part, Source, shown

MAX_HEADER = 100_000_000  # the format's own limit
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_NAMES = {name: code for code, name in _DTYPES.items()}


def looks_like(head: bytes) -> bool:
    """Whether a file that starts with `head` can be one: a length below 2**56, then "{"."""
    return len(head) > 8 and head[7] == 0 and head[8:9] == b"{"


def contents(source: Source) -> Contents:
    """Every tensor of the file; FormatError where it is damaged.

    Tensors of types that NumPy has not (F4, F8_E8M0, ...) are skipped.
    """
    (length,) = struct.unpack("<Q", source.at(0, 8))
    if length > min(source.size - 8, MAX_HEADER):
        raise FormatError(
            f"truncated or damaged: has a header of {length} bytes by its first 8 bytes, "
            f"expected at most {min(source.size - 8, MAX_HEADER)}"
        )
    header = _header(source.at(8, length))
    header.pop("__metadata__", None)
    start = 8 + length
    _check_layout(header, source.size - start)
    found = Contents("safetensors", Weights(source.budget))
    for name, entry in header.items():
        with naming(name):
            stored = _stored(source, start, name, entry)
        found.add(name, stored)
    return found


def write(file: BinaryIO, weights: dict[str, np.ndarray]) -> None:
    """Write `weights`, little end first.

    Widest elements first and then by name: all are aligned, and the same weights give the same
    bytes.
    """
    header: dict[str, Any] = {}
    ordered = sorted(weights.items(), key=lambda item: (-item[1].itemsize, item[0]))
    position = 0
    for name, array in ordered:
        dtype = _NAMES[array.dtype.name]
        end = position + array.nbytes
        header[name] = {
            "dtype": dtype, "shape": list(array.shape), "data_offsets": [position, end]
        }  # fmt: skip
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for _, array in ordered:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)


def can_write(dtype: np.dtype[Any]) -> bool:
    """Whether the format has an element type for `dtype`, byte order aside."""
    return dtype.name in _NAMES


def _header(text: bytes) -> dict[str, dict[str, Any]]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise FormatError("its header is JSON nested too deep") from None
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"its header is not JSON: {str(error)[:200]}") from None
    if not isinstance(header, dict):
        raise FormatError(f"its header is {shown(header)}, expected a JSON object")
    for name, entry in header.items():
        if name != "__metadata__":
            _check_entry(name, entry)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FormatError("its header has one name twice")
    return made


def _check_entry(name: str, entry: object) -> None:
    if isinstance(entry, dict) and isinstance(entry.get("dtype"), str):
        shape, offsets = entry.get("shape"), entry.get("data_offsets", ())
        if _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2:
            return
    raise FormatError(
        f"tensor {shown(name)} is described by {shown(entry)}, "
        "expected dtype, shape and data_offsets"
    )


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_layout(header: dict[str, dict[str, Any]], size: int) -> None:
    """FormatError unless the tensors lie one behind another, without gaps, to the file's end."""
    position = 0
    for begin, end, name in sorted((*e["data_offsets"], name) for name, e in header.items()):
        if begin != position or end < begin or end > size:
            raise FormatError(
                f"truncated or damaged: tensor {shown(name)} is at bytes {shown(begin)} to "
                f"{shown(end)} of {size}, expected it to start at {position}"
            )
        position = end
    if position != size:
        raise FormatError(f"damaged: has {size} bytes of tensors, its header describes {position}")


def _stored(source: Source, start: int, name: str, entry: dict[str, Any]) -> Stored | str:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in _DTYPES:
        return f"its element type {shown(entry['dtype'])} is not one that NumPy has"
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    arrays.check_shape(shape)
    needed = arrays.nbytes(dtype, shape)
    if needed != end - begin:
        raise FormatError(
            f"has {end - begin} bytes, expected {needed} for {dtype} of shape {shown(shape)}"
        )
    part = Part(source, start + begin, end - begin)
    view = arrays.contiguous(dtype, shape)
    return Stored(
        name, arrays.made_dtype(dtype), shape, partial(arrays.build, view, part, source.budget)
    )
