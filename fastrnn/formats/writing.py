"""Writing weights to a file: all of it, or none."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from fastrnn.errors import FormatError
from fastrnn.formats import npz, safetensors
from fastrnn.formats.names import check_name
from fastrnn.formats.replacing import replacing

_WRITERS = {".safetensors": safetensors.write, ".npz": npz.write}
SUFFIXES = tuple(_WRITERS)


def write(
    path: str | os.PathLike[str], weights: Mapping[str, ArrayLike], *, overwrite: bool = True
) -> None:
    """Write `weights` to `path`, in the format that its suffix names: .safetensors or .npz.

    Element types are kept: floats of 16, 32 and 64 bits, ints, bool. What was at `path` before
    stays whole until the new file is, which then takes its place and its permissions, and stays
    where writing fails. `overwrite=False`: whatever is at `path`, or comes there meanwhile, stays.

    Raises
    ------
    TypeError
        If a name is not a str, or an array is masked.
    ValueError
        For another suffix, a name that `read` would refuse, or an element type that the formats
        have not.
    FileExistsError
        If there is something at `path`, and it may not be overwritten.
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
    with replacing(target, overwrite=overwrite) as file:
        _WRITERS[suffix](file, arrays)


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
