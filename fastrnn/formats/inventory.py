"""What a file was found to hold, and how it is put together tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastrnn.errors import FormatError
from fastrnn.formats.flatten import check_name
from fastrnn.formats.source import Budget, shown

# What a name and an array object take beside the array's data, roughly.
_ENTRY_BYTES = 512


@dataclass(frozen=True)
class Said:
    """What a file says of a stack beside its tensors; Keras's do.

    options: what the layer's constructor is to be told ("batch_first", "reset_after"...).
    notes: what was done around the layer where the file comes from, for its user to know.
    alone: the cell, where the file does not say what has to be known, and its user has to; else "".
    """

    options: dict[str, Any]
    notes: tuple[str, ...] = ()
    alone: str = ""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    format: "torch zip", "torch legacy", "torchscript", "torch export", "pickle", "safetensors",
        "npz", "json", "keras", "keras h5" or "keras weights", and what is around it.
    weights: every readable tensor by its name, in the order of the file. Names that share memory
        in the file (tied weights) share one array.
    foreign: the sorted names of classes and functions that its pickle refers to and that mean
        nothing here ("mypkg.models.Net"). They were neither imported nor called.
    skipped: the tensors that could not be read, by name, and why ("is quantized: ...").
    incomplete: why there may be more of the model in other files, which are not known; "" where
        nothing says so.
    said: what the file says of its stacks beside their tensors, by prefix.
    """

    format: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    incomplete: str = ""
    said: dict[str, Said] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], np.ndarray | str], budget: Budget) -> None:
        """Add tensor `name`: the array that `make` returns, or its reason why there is none.

        Raises
        ------
        FormatError
            The name is impossible or taken by another tensor, or `make` raises one;
            its message then starts with the tensor's name.
        """
        check_name(name)
        budget.take(_ENTRY_BYTES)
        try:
            made = make()
        except FormatError as error:
            raise FormatError(f"tensor {shown(name)} {error}") from None
        if name in self.skipped or self.weights.get(name, made) is not made:
            raise FormatError(f"two different tensors are named {shown(name)}")
        if isinstance(made, str):
            self.skipped[name] = made
        else:
            self.weights[name] = made
