"""The state of the pickle interpreter: its input, stack, marks and memo.

Every length is checked against the bytes left, and the number of objects is bounded by the bytes
that the pickle takes in its file. What each opcode does to it is in opcodes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from fastrnn.errors import FormatError
from fastrnn.formats.pickles import constructors
from fastrnn.formats.pickles.inert import Enclosed, Global, Unreadable
from fastrnn.formats.source import shown

# Objects and memo slots a pickle may make: this many, and one for every 2 bytes of it; of one that
# is deflated, 4 for every byte that it takes in the file.
OBJECTS = 100_000

_MAX_NAME = 500

Persistent = Callable[[object], object]


def refuse_persistent(saved_id: object) -> object:
    """The `persistent` of a pickle that has no data outside itself."""
    raise FormatError(f"the pickle refers to outside data by {shown(saved_id)}, expected none")


def _unread(data: bytes) -> Unreadable:
    """The `enclosed` of a pickle whose storages are elsewhere."""
    return Unreadable("was pickled without torch.save: its storage is a pickle of its own")


class Interpreter:
    """Reads from `file`, at its current position, up to byte `end`.

    `packed` is how many bytes of a file these are, where they were inflated.
    `persistent` is given the id of every persistent reference and returns what stands for it;
    `enclosed` the bytes of every storage that is a file of torch.save inside the pickle.
    `objects` is what a pickle may make at least.
    `foreign` collects the names of the globals that are not known here.
    """

    def __init__(
        self,
        file: BinaryIO,
        end: int,
        persistent: Persistent = refuse_persistent,
        packed: int | None = None,
        objects: int = OBJECTS,
    ) -> None:
        self.file, self.end, self.packed, self.objects = file, end, packed, objects
        self.persistent: Persistent = persistent
        self.enclosed: Callable[[bytes], object] = _unread
        self.position = file.tell()
        self.foreign: set[str] = set()
        self.start()

    def start(self) -> None:
        """Forget what the last pickle made; the next one may make as much as its bytes justify."""
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        justified = (self.end - self.position) // 2
        if self.packed is not None:
            justified = min(justified, 4 * self.packed)
        self.made_left = self.objects + justified

    def take(self, nbytes: int) -> bytes:
        """The next `nbytes` bytes; FormatError where so many are not left."""
        if nbytes > self.end - self.position:
            raise FormatError(
                f"truncated or damaged: the pickle wants {nbytes} bytes, "
                f"{self.end - self.position} are left"
            )
        data = self.file.read(nbytes)
        if len(data) != nbytes:
            raise FormatError("the file became shorter while it was read")
        self.position += nbytes
        return data

    def number(self, kind: str) -> int:
        """The next int, of struct type `kind`."""
        return int(struct.unpack(kind, self.take(struct.calcsize(kind)))[0])

    def line(self) -> bytes:
        """The next bytes up to a newline, which is dropped."""
        data = self.file.readline(min(self.end - self.position, _MAX_NAME + 1))
        self.position += len(data)
        if not data.endswith(b"\n"):
            raise FormatError(
                f"truncated or damaged: a line of the pickle has no end within {_MAX_NAME} bytes"
            )
        return data[:-1]

    def count(self, objects: int = 1) -> None:
        """Count objects as made; FormatError where they are too many."""
        self.made_left -= objects
        if self.made_left < 0:
            raise FormatError("the pickle makes more objects than its size justifies")

    def push(self, value: object) -> None:
        """Put a new object on the stack."""
        self.count()
        self.stack.append(value)

    def pop_to_mark(self) -> list[Any]:
        """Take everything above the last mark from the stack."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def remember(self, index: int) -> None:
        """Put the top of the stack into the memo."""
        self.count()
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        """Put an object of the memo on the stack."""
        if index not in self.memo:
            raise FormatError(f"the pickle recalls {shown(index)}, which it has not memoized")
        self.stack.append(self.memo[index])

    def named(self, module: object, name: object) -> None:
        """Put the global of this name on the stack."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise FormatError(f"a global is named by {shown(module)} and {shown(name)}, not by str")
        full = f"{module}.{name}"
        if len(full) > _MAX_NAME or not full.isprintable():
            raise FormatError(f"{shown(full)} cannot be the name of a global")
        self.count(len(full) // 64)  # the same two texts make many names
        known = constructors.lookup(module, name)
        if isinstance(known, Global) and not constructors.is_known(known):
            self.foreign.add(known.name)
        self.push(known)

    def call(self, function: object, args: object) -> None:
        """Put on the stack what `function(*args)` stands for."""
        self.count(constructors.cost(function, args))
        made = constructors.call(function, args)
        self.stack.append(self.enclosed(made.data) if isinstance(made, Enclosed) else made)
