"""Models in several files, as transformers and accelerate save them.

An index (model.safetensors.index.json, pytorch_model.bin.index.json) maps each tensor's name to the
file beside it that holds it, STEM-00001-of-00003.safetensors and so on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats.inventory import Contents, Weights
from fastrnn.formats.opening import source_of
from fastrnn.formats.source import Source, shown

_INDEX = ".index.json"
_DISTRIBUTED = ".distcp"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.[^.]+)")

ReadFile = Callable[[Source], Contents]


def index_in(folder: str) -> str | None:
    """The path of the only index in `folder`; None where it has none.

    Raises
    ------
    FormatError
        If it has several, or is a checkpoint of torch.distributed.
    OSError
        If it cannot be listed.
    """
    there = os.listdir(folder)
    if ".metadata" in there and any(name.endswith(_DISTRIBUTED) for name in there):
        raise FormatError(in_parts(folder))
    names = sorted(name for name in there if name.endswith(_INDEX))
    if len(names) > 1:
        raise FormatError(f"has {len(names)} indices, say which: {', '.join(map(shown, names))}")
    return os.path.join(folder, names[0]) if names else None


def in_parts(path: str) -> str:
    """What to do with a checkpoint of torch.distributed, if `path` is a file of one; else ""."""
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    if folder != path and not path.endswith(_DISTRIBUTED):
        return ""
    return (
        "is a checkpoint of torch.distributed, whose tensors are in parts: make one file of it, "
        f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder or '.'} model.pt"
    )


def is_index(parsed: object) -> bool:
    """Whether a JSON value is an index."""
    return isinstance(parsed, dict) and isinstance(parsed.get("weight_map"), dict)


def contents(index: dict[str, Any], source: Source, read: ReadFile) -> Contents:
    """Every tensor of the files that `index`, which `source` is, names.

    Each file is bounded by its own size. It has to be beside the index, to hold what the index says
    of it, and nothing that another one holds.

    Raises
    ------
    FormatError
        If that is not so, or a file is damaged.
    OSError
        If a file cannot be opened.
    """
    if not source.path:
        raise FormatError("is the index of a model in several files: give its path")
    files = _files(index)
    found, formats = Contents("", Weights(source.budget)), dict[str, None]()
    for file, names in files.items():
        path = os.path.join(os.path.dirname(source.path), file)
        try:
            part = source.others.enter_context(source_of(path))
            held = read(part)
            _check(file, held, names, index["weight_map"])
        except FileNotFoundError:
            raise FormatError(f"its index names {shown(file)}, which is not beside it") from None
        except FormatError as error:
            raise FormatError(f"{file}: {error}") from None
        formats[held.format] = None
        source.budget.grow(part.size)
        source.nbytes_of_others += part.size
        found.add_all(held)
    found.format = f"{', '.join(formats)} in {len(files)} files"
    return found


def add_others(held: Contents, path: str, parse: Callable[[Source], Any]) -> None:
    """Add to what the file at `path` holds, if it is a shard, what the others do.

    Where the index is beside it, the tensors of the other shards are among those skipped. Where it
    is not, nobody knows what is missing: no stack is made of it.
    """
    match = _SHARD.fullmatch(os.path.basename(path))
    if match is None or int(match["count"]) < 2:
        return
    index = os.path.join(os.path.dirname(path), f"{match['stem']}{match['suffix']}{_INDEX}")
    whole = f"file {int(match['number'])} of the {int(match['count'])} of a model"
    parsed: Any = None
    if os.path.isfile(index):
        with source_of(index) as source:
            parsed = parse(source)
    if not is_index(parsed):
        held.add_object("", f"is {whole}, and no index that is beside it says what else there is")
        return
    file = os.path.basename(path)
    others = {
        name: f"is in {place}, this is {whole}: load {os.path.basename(index)}"
        for place, names in _files(parsed).items()
        for name in names
        if place != file
    }
    for name, why in others.items():
        held.add(name, why)


def _files(index: dict[str, Any]) -> dict[str, list[str]]:
    """The files that an index names, and the names of the tensors in each."""
    files: dict[str, list[str]] = {}
    for name, file in index["weight_map"].items():
        plain = isinstance(file, str) and file.isprintable() and 0 < len(file) < 256
        if not plain or os.path.basename(file) != file or file in (os.curdir, os.pardir):
            raise FormatError(
                f"its index names {shown(file)}, expected the name of a file beside it"
            )
        files.setdefault(file, []).append(name)
    if not files:
        raise FormatError("its index names no tensor")
    return files


def _check(file: str, held: Contents, names: list[str], places: dict[str, str]) -> None:
    """FormatError unless the file holds `names`, and nothing that the index places elsewhere."""
    there = {*held.weights, *held.skipped}
    for name in names:
        if name not in there:
            raise FormatError(f"has no tensor {shown(name)}, which the index says is in it")
    for name in there:
        if places.get(name, file) != file:
            raise FormatError(
                f"has tensor {shown(name)}, which the index says is in {places[name]}"
            )
