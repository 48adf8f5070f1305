"""Words for files that are not weights that can be read here: what they are, and what to do."""

from __future__ import annotations

import codecs
import re

from fastrnn.formats.source import shown

_EXPECTED = "expected a file of torch.save or torch.jit.save, .safetensors or .npz"

# (where the mark is, the mark, what the file is)
_MARKS = (
    (
        0,
        b"version https://git-lfs",
        "is a git-lfs pointer, not the file itself: run `git lfs pull`",
    ),
    (0, b"\x89HDF\r\n\x1a\n", f"is an HDF5 file (Keras?), {_EXPECTED}"),
    (0, b"GGUF", f"is a GGUF file, {_EXPECTED}"),
    (4, b"TFL3", f"is a TensorFlow Lite model, {_EXPECTED}"),
    (
        4,
        b"PTMF",
        "is a flatbuffer for PyTorch Mobile: save the model with torch.jit.save or "
        "torch.save(model.state_dict(), path)",
    ),
    (0, b"\x93NUMPY", "is a single NumPy array without a name: use numpy.savez(path, name=array)"),
    (
        257,
        b"ustar",
        "is a tar archive: if it is one of torch.save in its first releases, load it with PyTorch "
        "and save it again",
    ),
    (0, b"\x1f\x8b", "is compressed (gzip): unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed (Zstandard): unpack it first"),
    (0, b"\xfd7zXZ", "is compressed (xz): unpack it first"),
    (0, b"7z\xbc\xaf", "is compressed (7-Zip): unpack it first"),
    (0, b"PK\5\6", f"is an empty zip archive, {_EXPECTED}"),
)
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE)

HEAD = 512


def describe(head: bytes) -> str:
    """What a file that starts with `head` (HEAD bytes, or the whole file) seems to be."""
    if not head:
        return f"is empty, {_EXPECTED}"
    for offset, mark, words in _MARKS:
        if head[offset : offset + len(mark)] == mark:
            return words
    if _WEB_PAGE.match(head):
        return "is a web page, not the file itself: the download went wrong"
    if _is_text(head):
        return f"is plain text, {_EXPECTED}"
    return f"starts with {shown(head[:8])}, {_EXPECTED}"


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def describe_archive(names: list[str]) -> str:
    """What a zip archive with these records seems to be."""
    if any(name.endswith("model.json") for name in names):
        return "is a TorchScript archive from before PyTorch 1.4: save it again with a newer one"
    if any(name.endswith("model.weights.h5") for name in names):
        return f"is a Keras archive, {_EXPECTED}"
    some = ", ".join(map(shown, names[:5])) + (", ..." if len(names) > 5 else "")
    return f"is a zip archive of {some}: neither one data.pkl (PyTorch) nor only .npy (NumPy)"
