"""What a file was found to hold, tensor by tensor, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import FormatError
from fastrnn.formats.names import check_name
from fastrnn.formats.said import Said
from fastrnn.formats.source import Budget, shown

# What a name and its entries take beside the array's data and the name's characters, roughly.
_ENTRY_BYTES = 512


class Stored:
    """A tensor in an open file, which is read whenever an array is made of it (np.asarray).

    dtype and shape are the array's. Names that share memory in the file (tied weights) share one
    Stored. Reading raises FormatError where the file is damaged there, naming the tensor.
    """

    __slots__ = ("_make", "dtype", "name", "shape")

    def __init__(
        self,
        name: str,
        dtype: npt.DTypeLike,
        shape: tuple[int, ...],
        make: Callable[[], np.ndarray],
    ) -> None:
        self.name, self.dtype, self.shape = name, np.dtype(dtype), shape
        self._make = make

    def array(self) -> np.ndarray:
        """Read it: an owned array, another at each call."""
        with naming(self.name):
            return self._make()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.array()
        return array if dtype is None else array.astype(dtype, copy=False)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Make FormatErrors in a block begin with the tensor that they are about."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"tensor {shown(name)} {error}") from None


class Weights(dict[str, Any]):
    """Tensors by name, and with them what their file has that is no array.

    A dict like any other to whoever only wants arrays. Whoever makes a model of them has to know
    the rest, since a model without it would be another one.

    unread: what has no array here, by name, and why: tensors that could not be read, and objects
        and lists of numbers that stand among tensors.
    notes: what was done to a tensor on reading, by name ("dequantized from int8").
    said: what the file says of its stacks beside their tensors, by prefix.
    budget: what the file's size justifies, for whatever is made of the arrays.
    """

    __slots__ = ("budget", "notes", "said", "unread")

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.unread: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.said: dict[str, Said] = {}
        self.budget = budget

    def holding(self, arrays: Mapping[str, Any]) -> Weights:
        """The same with other arrays."""
        made = Weights(self.budget)
        made.update(arrays)
        made.unread, made.notes, made.said = self.unread, self.notes, self.said
        return made

    def __reduce__(self) -> Any:
        return _with, (dict(self), self.budget, self.unread, self.notes, self.said)


def _with(arrays: dict[str, Any], budget: Budget, *more: Any) -> Weights:
    made = Weights(budget)
    made.unread, made.notes, made.said = more
    return made.holding(arrays)


@dataclass
class Contents:
    """What a file holds.

    format: "torch zip", "torch legacy", "torchscript", "torch export", "pickle", "safetensors",
        "npz", "json", "keras", "keras h5", "keras weights" or "hdf5", and what is around it.
    weights: every readable tensor by its name, in the order of the file: an array, or a Stored
        while the file is open. Names that share memory in the file (tied weights) share one.
    foreign: the sorted names of classes and functions that its pickle refers to and that mean
        nothing here ("mypkg.models.Net"). They were neither imported nor called.
    skipped: the tensors that could not be read, by name, and why ("is sparse: ...").
    nbytes: the size of the file; of a model in several files, of all.
    """

    format: str
    weights: Weights
    foreign: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    nbytes: int = 0

    def add(self, name: str, found: Stored | str) -> None:
        """Add tensor `name`, or why it cannot be read; a name that two tensors have is neither's.

        Raises
        ------
        FormatError
            The name cannot be one, or there are more than the file's size justifies.
        """
        check_name(name)
        self.weights.budget.take(_ENTRY_BYTES + len(name))
        if name in self.skipped:
            return
        if self.weights.get(name, found) is not found:
            del self.weights[name]
            found = "is the name of two different tensors"
        if isinstance(found, str):
            self.skipped[name] = self.weights.unread[name] = found
        else:
            self.weights[name] = found

    def add_object(self, name: str, what: str) -> None:
        """Note that `name` stands among tensors and is none, but `what`."""
        self.weights.budget.take(_ENTRY_BYTES + len(name))
        self.weights.unread.setdefault(name, what)

    def in_memory(self, names: Iterable[str] | None = None) -> Contents:
        """The same, with every tensor read, or only those of `names`."""
        made: dict[int, np.ndarray] = {}
        read = {}
        for name in self.weights if names is None else names:
            stored = self.weights[name]
            if id(stored) not in made:
                made[id(stored)] = stored.array()
            read[name] = made[id(stored)]
        return replace(self, weights=self.weights.holding(read))

    def add_all(self, other: Contents, prefix: str = "") -> None:
        """Add everything that `other` holds, its names behind `prefix`."""
        for name, found in [*other.weights.items(), *other.skipped.items()]:
            self.add(prefix + name, found)
        for name, what in other.weights.unread.items():
            self.weights.unread.setdefault(prefix + name, what)
        self.weights.notes |= {prefix + name: note for name, note in other.weights.notes.items()}
        self.weights.said |= {prefix + name: said for name, said in other.weights.said.items()}
        self.foreign = tuple(sorted({*self.foreign, *other.foreign}))
