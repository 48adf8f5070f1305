"""Weights files, read without PyTorch and without trust, and written.

Read: torch.save (since 1.6 and before), torch.jit.save, torch.export.save, .safetensors, .npz,
pickles of NumPy arrays or torch tensors, ONNX models, Keras's files, JSON of nested lists, models
in several such files, and each of them inside a zip or tar archive. Written: .safetensors, .npz.
The format is told by a file's first bytes, not by its suffix.

A file never runs code. What it can make this allocate is bounded by its own size: 64 MiB and 8
times the file for arrays and for what is made of them (source.Budget); 100,000 objects, and one for
every 2 bytes, for what a pickle makes (interpreter.OBJECTS; an object takes some 128 bytes at
most); some 25 times a safetensors header, which has at most 100 MB. Tensors are read when they are
asked for.

    opening.py, source.py       what is read, and how much memory that justifies
    dispatch.py, guess.py       which reader it goes to; what it is if none
    archives/ pickles/ hdf5/    containers, whoever wrote them
    torch/ keras/ onnx/         what a framework wrote; the other files here are a format each
    inventory.py, said.py       what was found: tensors, and what is said of layers beside them
    arrays.py, names.py         from bytes to arrays; what a tensor can be called
    writing.py, replacing.py    files out
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats import dispatch, guess, onnx, safetensors, shards
from fastrnn.formats.archives import members
from fastrnn.formats.inventory import Contents, Stored, Weights
from fastrnn.formats.opening import Readable, source_of, title
from fastrnn.formats.said import Said
from fastrnn.formats.source import shown
from fastrnn.formats.writing import SUFFIXES, write

__all__ = [
    "SUFFIXES",
    "Contents",
    "Readable",
    "Said",
    "Stored",
    "Weights",
    "contents",
    "is_onnx",
    "opened",
    "read",
    "write",
]


def read(path: Readable) -> dict[str, np.ndarray]:
    """Every tensor in the file, by name: `contents(path).weights`.

    Arrays are C-contiguous and independent of the file. Their dtype is the file's; bfloat16 comes
    as float32, which holds the same values, and so do quantized tensors, dequantized. Nested
    checkpoints are flattened: dict keys, list indices and attributes are joined by dots
    ("optimizer.state.0.exp_avg"). No prefix is removed. The dict remembers what could not be read,
    so that no layer is made of a part of its weights.

    Parameters
    ----------
    path : str, path, bytes, bytearray, memoryview or open binary file
        The index of a model in several files (model.safetensors.index.json), or the folder that
        holds one, stands for them all. "agent.zip::policy.pth" is a file in a zip or tar archive;
        it may be left out where only one holds weights. An open file is read from its current
        position to its end, and is back there afterwards.

    Raises
    ------
    FormatError
        If the file is damaged, hostile, of another format, or has no readable tensor.
    TypeError
        If `path` is none of these; a file that is open for text is not.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> weights = fastrnn.read("model.pt")
    >>> weights["head.weight"].shape
    (10, 64)
    """
    return contents(path).weights


def contents(path: Readable) -> Contents:
    """What the file holds: its format, tensors, foreign objects, and tensors it could not read.

    Takes and raises what `read` does.
    """
    with opened(path) as found:
        return found.in_memory()


@contextmanager
def opened(path: Readable) -> Iterator[Contents]:
    """The same for the length of a block, with tensors that are read when asked for (Stored).

    What the block raises as FormatError is about the file, and comes out with its path in front.
    Raises as `read` does.
    """
    where, member = path, ""
    try:
        if isinstance(path, (str, os.PathLike)):
            where, member = members.split(os.fspath(path), os.path.lexists)
            if os.path.isdir(where):
                where = shards.index_in(where) or where
            elif shards.in_parts(where):
                raise FormatError(shards.in_parts(where))
        with source_of(where) as source:
            found = dispatch.contents(source, member)
            found.nbytes = source.size + source.nbytes_of_others
            shards.add_others(found, title(where), dispatch.parsed)
            if not found.weights:
                raise FormatError(_nothing(found))
            yield found
    except FormatError as error:
        raise FormatError(f"{title(path)}: {error}") from None


def is_onnx(path: Readable) -> bool:
    """Whether the file starts as an ONNX model does. Takes and raises what `read` does."""
    try:
        with source_of(path) as source:
            head = source.at(0, min(source.size, guess.HEAD))
            return onnx.looks_like(head) and not safetensors.looks_like(head)
    except (FormatError, FileNotFoundError, IsADirectoryError):
        return False  # a member of an archive, a folder, or nothing: the reader says


def _nothing(found: Contents) -> str:
    words = [f"has no readable tensor ({found.format})"]
    if found.skipped:
        name, reason = next(iter(found.skipped.items()))
        words.append(f"tensor {shown(name)} {reason}")
        if len(found.skipped) > 1:
            words[-1] += f" (and {len(found.skipped) - 1} more)"
    if found.foreign:
        words.append(f"it refers to {', '.join(found.foreign[:5])}")
    if not found.format.startswith("keras"):
        words.append("save weights with torch.save(model.state_dict(), path)")
    return "; ".join(words)
