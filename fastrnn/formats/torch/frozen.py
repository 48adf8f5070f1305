"""Frozen TorchScript: a module whose weights are constants of its code, without their names.

Which constants are a stack's weights, and in which order, stands in the calls of the code:

    self_lstm__flat_weights = [CONSTANTS.c0, CONSTANTS.c1, CONSTANTS.c2, CONSTANTS.c3]
    y, h, c = torch.lstm(x, [h0, c0], self_lstm__flat_weights, True, 1, 0., False, False, False)

The code is matched line by line and not understood; of the module's name the list's is what is
left. A call that looks otherwise leaves its constants without names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.inventory import Contents
from fastrnn.formats.said import Said
from fastrnn.formats.torch.scriptcode import code_of

# The weights of 100 layers.
MAX_LINE = 20_000

_CONSTANT = r"CONSTANTS\.c[0-9]{1,6}"
_LIST = re.compile(rf"\s*(\w+) = \[({_CONSTANT}(?:, {_CONSTANT})*)\]")
# x, state(s), weights, has_biases, num_layers, dropout, train, bidirectional, batch_first; of a
# packed sequence without the last
_LAYER = re.compile(
    r"\s*\w[\w, ]* = torch\.(lstm|gru|rnn_tanh|rnn_relu)\(.*, "
    r"(\w+|\[[^\[\]]*\]), (True|False), ([0-9]{1,4}), [0-9.e+-]+, \w+, (True|False)(?:, (\w+))?\)"
)
_CELL = re.compile(
    rf"\s*\w[\w, ]* = torch\.(lstm|gru|rnn_tanh|rnn_relu)_cell\(.*?, "
    rf"({_CONSTANT}(?:, {_CONSTANT}){{1,3}})"
    r"(?:, None, None)?\)"
)
_NAMED = re.compile(r"self_(\w+)__flat_weights\d*")
_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def name_constants(found: Contents, archive: ZipArchive, root: str) -> None:
    """Name the constants in `found` that the archive's code gives to recurrent layers and cells.

    They get the names that torch's modules give their parameters. FormatError where a record of the
    code is damaged.
    """
    names: dict[str, list[str]] = {}
    taken = {name.partition(".")[0] for name in (*found.weights, *found.skipped)}
    seen: set[tuple[str, ...]] = set()
    for call in _calls(archive, root):
        if call.constants in seen:
            continue
        seen.add(call.constants)
        numbered = (f"{call.name}_{index}" for index in range(1, len(taken) + 2))
        prefix = next(name for name in (call.name, *numbered) if name not in taken)
        taken.add(prefix)
        if call.options:
            found.weights.said[prefix] = Said(call.options)
        for constant, part in zip(call.constants, call.parts, strict=True):
            names.setdefault(constant, []).append(f"{prefix}.{part}")
    if names:
        _rename(found, names)


@dataclass(frozen=True)
class _Call:
    """A call of torch.`op`: its module's name, the constants that it is given, what they are."""

    op: str
    batch_first: bool
    name: str
    constants: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """What it says beside the weights, as a layer's constructor is told."""
        options: dict[str, Any] = {"nonlinearity": "relu"} if self.op == "rnn_relu" else {}
        return {**options, "batch_first": True} if self.batch_first else options


def _calls(archive: ZipArchive, root: str) -> Iterator[_Call]:
    for _, text in code_of(archive, root):
        lists: dict[str, str] = {}
        for line in text.splitlines():
            if len(line) > MAX_LINE:
                continue
            if match := _LIST.fullmatch(line):
                lists[match[1]] = match[2]
            elif match := _CELL.fullmatch(line):
                constants = tuple(match[2].split(", "))
                if len(constants) in (2, 4):
                    name, parts = match[1].partition("_")[0], _PARTS[: len(constants)]
                    yield _Call(match[1], False, name, constants, parts)
            elif match := _LAYER.fullmatch(line):
                yield from _layer(match, lists)


def _layer(call: re.Match[str], lists: dict[str, str]) -> Iterator[_Call]:
    op, given, bias, layers, bidirectional, batch_first = call.groups()
    inline = _LIST.fullmatch(f"_ = {given}")
    constants = tuple((inline[2] if inline else lists.get(given, "")).split(", "))
    parts = _parts(len(constants), int(layers), bias == "True", bidirectional == "True")
    if parts and constants != ("",):
        named = _NAMED.fullmatch(given)
        name = named[1] if named else op.partition("_")[0]
        yield _Call(op, batch_first == "True", name, constants, parts)


def _parts(count: int, layers: int, bias: bool, bidirectional: bool) -> tuple[str, ...]:
    """The names of so many weights, in torch's order; none where they are too many or too few."""
    each = _PARTS if bias else _PARTS[:2]
    cells = [f"_l{i}{end}" for i in range(layers) for end in ("", "_reverse")[: 1 + bidirectional]]
    if count == (len(each) + 1) * len(cells):
        each = (*each, "weight_hr")
    if not count or count != len(each) * len(cells):
        return ()
    return tuple(f"{part}{cell}" for cell in cells for part in each)


def _rename(found: Contents, names: dict[str, list[str]]) -> None:
    old = dict(found.weights)
    found.weights.clear()
    for constant, stored in old.items():
        for name in names.get(constant, [constant]):
            found.weights[name] = stored
            if name != constant:
                found.weights.notes[name] = "constant of a frozen module"
    for reasons in (found.skipped, found.weights.unread):
        for constant in names.keys() & reasons.keys():
            reason = reasons.pop(constant)
            reasons.update(dict.fromkeys(names[constant], reason))
