"""What the objects of a pickle become here: records that nothing is ever run on.

None, bool, int, float, str, bytes, tuple, list and dict stand for themselves (a set is a list, an
OrderedDict a dict); everything else is one of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastrnn.formats.arrays import View
from fastrnn.formats.source import Bytes


class Global:
    """A class or function that the pickle names. It is never imported."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Foreign:
    """An object of a class that is not known here: what it was made from, and its state."""

    __slots__ = ("args", "entries", "items", "name", "state")

    def __init__(self, name: str, args: object) -> None:
        self.name = name
        self.args = args
        self.state: object = None
        self.items: list[object] = []
        self.entries: dict[Any, object] = {}

    @property
    def states(self) -> list[dict[object, object]]:
        """Its attributes: of an object with __slots__ they are a pair of dicts."""
        states = self.state if isinstance(self.state, tuple) else (self.state,)
        return [state for state in states[:2] if isinstance(state, dict)]


@dataclass(frozen=True, slots=True)
class DType:
    """A torch element type, or a storage class, which in torch implies one."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements kept outside the pickle: those of record `key`, from element `offset` on."""

    dtype: str
    key: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Enclosed:
    """A storage that is still the bytes of a file that torch.save wrote."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """A torch tensor: a view of a storage."""

    storage: Storage
    view: View


@dataclass(frozen=True, slots=True)
class Quantized:
    """A torch tensor of integers q that stand for (q - zero_point) * scale.

    `integers` is their view, of the element type that they are kept in. scale and zero_point are
    numbers, or tensors with one for each index of `axis`.
    """

    integers: Tensor
    scale: float | Tensor
    zero_point: int | Tensor
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A tensor that is there and cannot be read, and why."""

    reason: str


@dataclass(slots=True)
class NumpyDType:
    """A NumPy dtype under construction: its code (as "f4"; None where unsupported), byte order."""

    code: str | None
    byte_order: str = "<"


@dataclass(slots=True)
class NumpyArray:
    """A NumPy array under construction; `data` is None until its state is known."""

    dtype: NumpyDType = field(default_factory=lambda: NumpyDType(None))
    shape: tuple[int, ...] = ()
    fortran: bool = False
    data: Bytes | None = None
