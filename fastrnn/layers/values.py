"""What a state dict's values are: arrays, tensors, lists of numbers, or what is read later."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def is_later(value: Any) -> bool:
    """Whether `value` makes an array of its own when asked: one in a file, or one of parts."""
    return callable(getattr(value, "array", None))


def to_array(name: str, value: Any) -> Array:
    """`value` as an array. Torch tensors are taken from their graph and device; bfloat16 widens.

    Raises
    ------
    TypeError
        If it is no array, or a masked one.
    ValueError
        If it is to be read from a file, or made of parts, and cannot be.
    """
    if is_later(value):
        made: Array = value.array()
        return made
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, expected a plain one: use filled()")
    try:
        detach = getattr(value, "detach", None)
        if callable(detach):
            value = detach().cpu()
            if str(value.dtype) == "torch.bfloat16":
                value = value.float()
        array: Array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(f"{name} is {type(value).__name__}, expected an array: {error}") from None
    if isinstance(value, (list, tuple)) and array.dtype.kind in "fi":
        return array.astype(np.float32)  # JSON may write 0.0 as 0
    return array


def dtype_of(name: str, value: Any) -> np.dtype[Any]:
    """The dtype of `to_array`, without reading a value that says it by itself."""
    dtype = getattr(value, "dtype", None)
    return dtype if isinstance(dtype, np.dtype) else to_array(name, value).dtype
