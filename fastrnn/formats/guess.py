"""Words for files that are not weights that can be read here: what they are, and what to do."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from fastrnn.formats.source import shown

_EXPECTED = "expected a file of torch.save, torch.jit.save or torch.export.save, .safetensors, .npz"

# (where the mark is, the mark, what the file is)
_MARKS = (
    (
        0,
        b"version https://git-lfs",
        "is a git-lfs pointer, not the file itself: run `git lfs pull`",
    ),
    (0, b"GGUF", f"is a GGUF file, {_EXPECTED}"),
    (4, b"TFL3", f"is a TensorFlow Lite model, {_EXPECTED}"),
    (
        4,
        b"PTMF",
        "is a flatbuffer for PyTorch Mobile: save the model with torch.jit.save or "
        "torch.save(model.state_dict(), path)",
    ),
    (0, b"\x93NUMPY", "is a single NumPy array without a name: use numpy.savez(path, name=array)"),
    (0, b"\x1f\x8b", "is compressed (gzip) inside of an archive: unpack it first"),
    (257, b"ustar", "is an archive (tar) inside of an archive: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed (Zstandard): unpack it first"),
    (0, b"\xfd7zXZ", "is compressed (xz): unpack it first"),
    (0, b"7z\xbc\xaf", "is compressed (7-Zip): unpack it first"),
    (0, b"PK\5\6", f"is an empty zip archive, {_EXPECTED}"),
)
# A dict, list, tuple or object, or an int as torch.save puts first, by pickles without a mark.
_OLD_PICKLE = re.compile(
    rb"(\((dp|lp|d|l|c\w|i\w)|[}\])]q|\(?[}\]]|L\d+L?\n|ccollections\n|c?copy_reg\n|cnumpy|ctorch)"
)
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)

HEAD = 512


def describe(head: bytes) -> str:
    """What a file that starts with `head` (HEAD bytes, or the whole file) seems to be."""
    if not head:
        return f"is empty, {_EXPECTED}"
    if head.startswith(b"\x93NUMPY") and b"'|O'" in head:
        return (
            "is a Python object (a dict of arrays?) that numpy.save pickled: get it by "
            "numpy.load(path, allow_pickle=True).item() and use numpy.savez(path, **weights)"
        )
    for offset, mark, words in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return words
    if _WEB_PAGE.match(head):
        return "is a web page, not the file itself: the download went wrong"
    if _OLD_PICKLE.match(head):
        return (
            "seems to be a pickle of protocol 0 or 1, expected protocol 2 to 5: load it with "
            "Python and save it again"
        )
    if _is_text(head):
        return f"is plain text, {_EXPECTED}"
    return f"starts with {shown(head[:8])}, {_EXPECTED}"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def is_old_script(names: Iterable[str]) -> bool:
    """Whether a zip archive with these records is one of TorchScript's first form."""
    return any(name.endswith("model.json") for name in names)


def is_old_tar(names: Iterable[str]) -> bool:
    """Whether a tar archive with these members is one of torch.save in its first releases."""
    return {"storages", "tensors", "pickle"} <= set(names)
