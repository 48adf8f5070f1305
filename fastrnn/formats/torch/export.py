"""Archives of torch.export.save (.pt2): an exported program with its weights beside it.

Since PyTorch 2.9 (pt2 archives, torch/export/pt2_archive): ROOT/archive_format is "pt2", and for
each model M, ROOT/data/weights/M_weights_config.json names a record of raw bytes, a shape and
strides for every tensor of the state dict; 2.8 had ROOT/data/weights/M.pt, a torch.save file.
Before 2.8: serialized_state_dict.pt (or .json, of the same bytes) is a torch.save file.

Constants, which are the non-persistent buffers and tensors that the code has, are read likewise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import arrays, jsontext
from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.arrays import View
from fastrnn.formats.inventory import Contents, Stored, Weights, naming
from fastrnn.formats.said import Said
from fastrnn.formats.source import Blob, Budget, shown
from fastrnn.formats.torch import graph, saved

# torch/_export/serde/schema.py, ScalarType
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    34: "uint32",
    35: "uint64",
}
_STRIDED = 7  # ... Layout
_CONFIG = re.compile(r"data/(?P<kind>weights|constants)/(?P<model>.+)_(?P=kind)_config\.json")
_SAVED = re.compile(r"data/(?P<kind>weights|constants)/(?P<model>.+)\.pt")
_PROGRAM = "serialized_exported_program.json"
_OLD = {
    f"serialized_{what}.{suffix}"
    for what in ("state_dict", "constants")
    for suffix in ("pt", "json")
}

ReadSaved = Callable[[ZipArchive, str], Contents]  # of a record that torch.save wrote


def root_of(archive: ZipArchive) -> str | None:
    """The directory that is a pt2 archive, with its slash; "" for one of before 2.8; else None."""
    if _PROGRAM in archive.records:
        return ""
    for name in archive.records:
        root, mark, rest = name.partition("/")
        if mark and rest == "archive_format" and archive.read(name) == b"pt2":
            return f"{root}/"
    return None


def contents(archive: ZipArchive, root: str, read_saved: ReadSaved) -> Contents:
    """Every tensor of the exported programs; of several, under their names.

    Raises
    ------
    FormatError
        The archive is damaged, or has no weights (one of AOTInductor has them in its code).
    """
    found = Contents("torch export", Weights(archive.source.budget))
    names = [name.removeprefix(root) for name in archive.records if name.startswith(root)]
    configs = [match for match in map(_CONFIG.fullmatch, names) if match]
    files = [match for match in map(_SAVED.fullmatch, names) if match]
    models = {match["model"] for match in [*configs, *files]}
    payloads = _Payloads(archive, saved.byte_order(archive, root), read_saved)
    for match in configs:
        folder = f"{root}data/{match['kind']}/"
        prefix = f"{match['model']}." if len(models) > 1 else ""
        for name, payload in _described(archive, root + match[0]).items():
            with naming(name):
                stored = payloads.stored(prefix + name, folder + payload["path_name"], payload)
            found.add(prefix + name, stored)
    for match in files:
        prefix = f"{match['model']}." if len(models) > 1 else ""
        found.add_all(read_saved(archive, root + match[0]), prefix)
    for name in names:
        if not root and name in _OLD:
            found.add_all(read_saved(archive, name))
    for model in models or {""}:
        prefix = f"{model}." if len(models) > 1 else ""
        _add_said(found, archive, f"{root}models/{model}.json" if root else _PROGRAM, prefix)
    if not (models or found.weights or found.skipped):
        raise FormatError("is a .pt2 package of compiled code, without weights in a known place")
    return found


def _add_said(found: Contents, archive: ZipArchive, record: str, prefix: str) -> None:
    """Add what the program in `record` says of the stacks in `found`."""
    if record not in archive.records:
        return
    # A program is gone again when it is read: its memory is bounded as the file's tensors are.
    budget = Budget(archive.source.size)
    program = jsontext.parse(archive.read(record), budget, f"record {shown(record)}")
    for name, said in graph.said_of_stacks(program).items():
        if isinstance(said, Said):
            found.weights.said[(prefix + name).rstrip(".")] = said
        else:
            found.add_object(f"{prefix}{name}{'.' if name else ''}{said.attribute}", said.why)


def _described(archive: ZipArchive, record: str) -> dict[str, dict[str, Any]]:
    config = jsontext.parse(archive.read(record), archive.source.budget, f"record {shown(record)}")
    payloads = config.get("config") if isinstance(config, dict) else None
    if not isinstance(payloads, dict) or not all(map(_is_payload, payloads.values())):
        raise FormatError(f"record {shown(record)} does not describe weights as torch.export does")
    return payloads


def _is_payload(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("path_name"), str)


class _Payloads:
    """The records of tensors, each opened once: names of one tensor share one Stored."""

    def __init__(self, archive: ZipArchive, byte_order: str, read_saved: ReadSaved) -> None:
        self.archive, self.byte_order, self.read_saved = archive, byte_order, read_saved
        self.blobs: dict[str, Blob] = {}
        self.known: dict[tuple[str, View | None], Stored | str] = {}

    def stored(self, name: str, record: str, payload: dict[str, Any]) -> Stored | str:
        """The tensor in `record`, or why it cannot be read."""
        view = None if payload.get("use_pickle") else _view(payload.get("tensor_meta"))
        if isinstance(view, str):
            return view
        if (record, view) not in self.known:
            self.known[record, view] = self._open(name, record, view)
        return self.known[record, view]

    def _open(self, name: str, record: str, view: View | None) -> Stored | str:
        if view is None:
            held = self.read_saved(self.archive, record)
            found: list[Stored | str] = [*held.weights.values(), *held.skipped.values()]
            return found[0] if len(found) == 1 else "is an object of a class, not a tensor"
        arrays.check_shape(view.shape)
        make = partial(self._read, record, view)
        return Stored(name, arrays.made_dtype(view.dtype), view.shape, make)

    def _read(self, record: str, view: View) -> np.ndarray:
        if record not in self.blobs:
            self.blobs[record] = self.archive.blob(record, unchecked=True)
        budget = self.archive.source.budget
        return arrays.build(view, self.blobs[record], budget, byte_order=self.byte_order)


def _view(meta: Any) -> View | str:
    """The view that a TensorMeta describes, or why it cannot be read."""
    if not isinstance(meta, dict) or type(meta.get("dtype")) is not int:
        raise FormatError(f"is described by {shown(meta)}, expected a dtype, sizes and strides")
    if meta["dtype"] not in _DTYPES:
        return f"its element type (ScalarType {shown(meta['dtype'])}) is not one that NumPy has"
    if meta.get("layout") != _STRIDED:
        return "is sparse: export tensor.to_dense()"
    return View(
        _DTYPES[meta["dtype"]],
        _ints("sizes", meta.get("sizes")),
        _ints("strides", meta.get("strides")),
        *_ints("storage_offset", [meta.get("storage_offset")]),
    )


def _ints(what: str, values: Any) -> tuple[int, ...]:
    """The numbers of [{"as_int": 3}, ...]."""
    if isinstance(values, list) and len(values) <= arrays.MAX_DIMENSIONS:
        ints = [value.get("as_int") for value in values if isinstance(value, dict)]
        found = tuple(n for n in ints if type(n) is int and n.bit_length() < 64)
        if len(found) == len(values):
            return found
    raise FormatError(f"has the {what} {shown(values)}, expected {{'as_int': N}} for each")
