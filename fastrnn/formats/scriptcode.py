"""The code of a TorchScript archive, as text: what it says of recurrent modules beside weights."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastrnn.formats.ziparchive import ZipArchive

# A module's code is some kilobytes long.
MAX_CODE = 4 << 20

_CLASS = re.compile(r"^class (\w+)\(Module\):$", re.MULTILINE)


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


def with_relu(archive: ZipArchive, root: str) -> dict[str, bool]:
    """The classes of torch's RNN and RNNCell that compute with relu, or may: True, or False.

    They do where their code says so. Where they have none, since all of it is in the class around
    them, the rest of the code says it if it calls but one of the two.
    """
    classes: dict[str, str] = {}
    everything = ""
    for module, text in code_of(archive, root):
        everything += text
        _, *parts = _CLASS.split(text)
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in ("RNN", "RNNCell"):
                classes[f"{module}.{name}"] = body
    relu, tanh = "rnn_relu" in everything, "rnn_tanh" in everything
    found: dict[str, bool] = {}
    for name, body in classes.items():
        if "def forward" not in body and relu:
            found[name] = not tanh
        elif "rnn_relu" in body or "torch.relu(" in body:
            found[name] = True
    return found
