"""The code of a TorchScript archive, as text: what it says of recurrent modules beside weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.said import NotSaid, Said
from fastrnn.formats.torch.modules import is_torchs, of_another_class

# A module's code is some kilobytes long.
MAX_CODE = 4 << 20

_CLASS = re.compile(r"^class (\w+)\(Module\):$", re.MULTILINE)
_HOLDS = re.compile(r"^  (?:weight_hh|_packed_weight_hh|_all_weight_values)\w* : ", re.MULTILINE)
_CALL = re.compile(r"\btorch\.(?:quantized_)?(lstm|gru|rnn_tanh|rnn_relu)(?:_cell)?\(")
_BATCH_FIRST = re.compile(r"^  batch_first : Final\[bool\] = (True|False)$", re.MULTILINE)
# Of a call with a whole sequence, what is behind its weights: has_biases, num_layers, dropout,
# train, bidirectional, batch_first. One with a packed sequence has not the last.
_LAST = re.compile(
    r", (?:True|False), [0-9]{1,4}, [0-9.e+-]{1,30}, \w{1,200}, \w{4,5}, (True|False)"
    r"(?:, dtype=\w{1,20}, use_dynamic=\w{1,20})?\)$"
)


def code_of(archive: ZipArchive, root: str) -> Iterator[tuple[str, str]]:
    """The name of each module of code, "__torch__.torch.nn.modules.rnn", and its text.

    No more than MAX_CODE bytes of it. FormatError where a record is damaged.
    """
    left = MAX_CODE
    for record in archive.records.values():
        if record.name.startswith(f"{root}code/") and record.name.endswith(".py"):
            left -= record.size
            if left < 0:
                return
            module = record.name[len(root) + len("code/") : -len(".py")].replace("/", ".")
            yield module, archive.read(record.name).decode("utf-8", "replace")


def said_of_classes(archive: ZipArchive, root: str) -> dict[str, Said | NotSaid]:
    """What the code says of each of its classes that holds recurrent weights, where it says more
    than that they are torch's with tanh, and not batch_first.

    Of a class without code, all of which is in the class around it, the rest of the code says it.
    """
    bodies: dict[str, str] = {}
    texts = []
    for module, text in code_of(archive, root):
        texts.append(text)
        _, *parts = _CLASS.split(text)
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if _HOLDS.search(body):
                bodies[f"{module}.{name}"] = body
    around = _Calls("\n".join(texts)) if bodies else None
    found: dict[str, Said | NotSaid] = {}
    for name, body in bodies.items():
        own = "def forward" in body
        said = _said(name, body, _Calls(body) if own or around is None else around)
        if said is not None:
            found[name] = said
    return found


class _Calls:
    """The recurrent operations that some code calls, and which batch_first it gives them."""

    def __init__(self, text: str) -> None:
        self.ops: set[str] = set()
        self.batch_first: set[bool] = set()
        for line in text.splitlines():
            match = _CALL.search(line)
            if match:
                self.ops.add(match[1])
                last = _LAST.search(line[-400:])
                if last:
                    self.batch_first.add(last[1] == "True")


def _said(name: str, body: str, calls: _Calls) -> Said | NotSaid | None:
    if not (calls.ops or is_torchs(name)):
        return of_another_class(name.removeprefix("__torch__."))
    options: dict[str, Any] = {}
    unmangled = name.rpartition(".")[2]
    if "rnn_relu" in calls.ops and "rnn_tanh" in calls.ops and unmangled in ("RNN", "RNNCell"):
        return NotSaid("nonlinearity", "is relu or tanh")
    # Cells are traced as products and sums.
    if "rnn_relu" in calls.ops or (not calls.ops and "torch.relu(" in body):
        options["nonlinearity"] = "relu"
    stated = _BATCH_FIRST.search(body)
    given = {stated[1] == "True"} if stated else calls.batch_first
    if len(given) > 1:
        return NotSaid("batch_first", "is True or False")
    if given == {True}:
        options["batch_first"] = True
    return Said(options) if options else None
