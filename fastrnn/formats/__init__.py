"""Weights files, read without PyTorch and without trust, and written.

Read: torch.save (since 1.6 and before), torch.jit.save, .safetensors, .npz, plain pickles of NumPy
arrays. Written: .safetensors, .npz. The format is told by a file's first bytes, not by its suffix.

A file never runs code. What it can make this allocate is bounded by its own size: 64 MiB and 8
times the file for arrays (source.Budget); a million objects, and one for every 2 bytes, for what a
pickle makes (opcodes.OBJECTS; an object takes some 128 bytes at most); some 25 times a safetensors
header, which has at most 100 MB.
"""

from __future__ import annotations

import os

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import guess, npz, onnx, safetensors, torchlegacy, torchzip
from fastrnn.formats.inventory import Contents
from fastrnn.formats.source import Source, open_regular, shown
from fastrnn.formats.writing import SUFFIXES, write
from fastrnn.formats.ziparchive import ZipArchive

__all__ = ["SUFFIXES", "Contents", "contents", "is_onnx", "read", "write"]


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every tensor in the file, by name: `contents(path).weights`.

    Arrays are C-contiguous and independent of the file. Their dtype is the file's; bfloat16 comes
    as float32, which holds the same values. Nested checkpoints are flattened: dict keys, list
    indices and attributes are joined by dots ("optimizer.state.0.exp_avg"). No prefix is removed.

    Raises
    ------
    FormatError
        If the file is damaged, hostile, of another format, or has no readable tensor.
    OSError
        If the file cannot be opened.
    """
    return contents(path).weights


def contents(path: str | os.PathLike[str]) -> Contents:
    """What the file holds: its format, tensors, foreign objects, and tensors it could not read.

    Raises as `read` does.
    """
    name = os.fspath(path)
    with open_regular(name) as file:
        try:
            found = _contents(Source(file))
            if not found.weights:
                raise FormatError(_nothing(found))
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from None
    return found


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether the file starts as an ONNX model does. Raises OSError if it cannot be opened."""
    with open_regular(os.fspath(path)) as file:
        return onnx.looks_like(file.read(guess.HEAD))


def _contents(source: Source) -> Contents:
    head = source.at(0, min(source.size, guess.HEAD))
    if head.startswith(b"PK\3\4"):
        archive = ZipArchive(source)
        root = torchzip.root_of(archive)
        if root is not None:
            return torchzip.contents(archive, root)
        if npz.is_npz(archive):
            return npz.contents(archive)
        raise FormatError(guess.describe_archive(list(archive.records)))
    if head.startswith(b"\x80"):
        return torchlegacy.contents(source)
    if safetensors.looks_like(head):
        return safetensors.contents(source)
    if onnx.looks_like(head):
        return onnx.contents(source)
    raise FormatError(guess.describe(head))


def _nothing(found: Contents) -> str:
    words = [f"has no readable tensor ({found.format})"]
    if found.skipped:
        name, reason = next(iter(found.skipped.items()))
        words.append(f"tensor {shown(name)} {reason}")
        if len(found.skipped) > 1:
            words[-1] += f" (and {len(found.skipped) - 1} more)"
    if found.foreign:
        words.append(f"it refers to {', '.join(found.foreign[:5])}")
    words.append("save weights with torch.save(model.state_dict(), path)")
    return "; ".join(words)
