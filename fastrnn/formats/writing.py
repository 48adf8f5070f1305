"""Writing weights to a file: all of it, or none."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.errors import FormatError
from fastrnn.formats import npz, safetensors
from fastrnn.formats.flatten import check_name

_WRITERS = {".safetensors": safetensors.write, ".npz": npz.write}
SUFFIXES = tuple(_WRITERS)


def write(path: str | os.PathLike[str], weights: Mapping[str, ArrayLike]) -> None:
    """Write `weights` to `path`, in the format that its suffix names: .safetensors or .npz.

    Element types are kept: floats of 16, 32 and 64 bits, ints, bool. The file is written beside
    `path` and then takes its place: what was at `path` before stays whole until then, and stays
    where writing fails.

    Raises
    ------
    TypeError
        If a name is not a str, or an array is masked.
    ValueError
        For another suffix, a name that `read` would refuse, or an element type that the formats
        have not.
    OSError
        If the directory cannot be written to.
    """
    target = os.fspath(path)
    suffix = os.path.splitext(target)[1].lower()
    if suffix not in _WRITERS:
        raise ValueError(
            f"write: path is {target!r}, expected it to end in {' or '.join(SUFFIXES)}"
        )
    arrays = {name: _checked(name, value) for name, value in weights.items()}
    if not arrays:
        raise ValueError("write: weights is empty, expected at least one tensor")
    with replacing(target) as file:
        _WRITERS[suffix](file, arrays)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a new file beside `path`, which takes its place at the end of a block that succeeds.

    A link at `path` is replaced, not followed.
    """
    target = os.fspath(path)
    temporary = f"{target}.{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = target
        raise


def _checked(name: str, value: ArrayLike) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"write: weights has the key {name!r}, expected a str")
    try:
        check_name(name)
    except FormatError as error:
        raise ValueError(f"write: {error}") from None
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"write: tensor {name!r} is a masked array: use filled()")
    array = np.asarray(value)
    if not safetensors.can_write(array.dtype):
        raise ValueError(
            f"write: tensor {name!r} has dtype {array.dtype}, expected a float of 16, 32 or 64 "
            "bits, an int or bool"
        )
    return array
