"""What each opcode of a pickle does to the Interpreter.

The opcodes are those of protocols 2 to 5 (see pickletools), without extension codes, which name
classes by number, and without out-of-band buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats.pickles import constructors
from fastrnn.formats.pickles.inert import Foreign
from fastrnn.formats.pickles.interpreter import Interpreter
from fastrnn.formats.source import shown

# The opcodes that only protocols 0 and 1 use. torch.save has always used protocol 2.
TEXT_OPCODES = frozenset({b"I", b"L", b"F", b"S", b"V", b"l", b"d", b"p", b"g", b"i", b"P"})

Step = Callable[[Interpreter], None]


def _mark(self: Interpreter) -> None:
    self.count()
    self.marks.append(self.stack)
    self.stack = []


def _pop(self: Interpreter) -> None:
    if self.stack:
        self.stack.pop()
    else:
        self.pop_to_mark()


def _pop_mark(self: Interpreter) -> None:
    self.pop_to_mark()


def _tuple(length: int) -> Step:
    def step(self: Interpreter) -> None:
        if len(self.stack) < length:
            raise IndexError
        items = tuple(self.stack[len(self.stack) - length :])
        del self.stack[len(self.stack) - length :]
        self.push(items)

    return step


def _extend(self: Interpreter, items: list[Any]) -> None:
    target = self.stack[-1]
    if isinstance(target, Foreign):
        target = target.items
    if type(target) is not list:
        raise FormatError(f"the pickle appends to {shown(target)}")
    target.extend(items)


def _set_items(self: Interpreter, items: list[Any]) -> None:
    target = self.stack[-1]
    if isinstance(target, Foreign):
        target = target.entries
    if type(target) is not dict:
        raise FormatError(f"the pickle sets items of {shown(target)}")
    constructors.set_items(target, items)


def _set_item(self: Interpreter) -> None:
    value, key = self.stack.pop(), self.stack.pop()
    _set_items(self, [key, value])


def _build(self: Interpreter) -> None:
    state = self.stack.pop()
    constructors.set_state(self.stack[-1], state)


def _reduce(self: Interpreter) -> None:
    args, function = self.stack.pop(), self.stack.pop()
    self.call(function, args)


def _newobj_ex(self: Interpreter) -> None:
    keywords, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
    self.call(cls, args if not keywords else (args, keywords))


def _obj(self: Interpreter) -> None:
    cls, *args = self.pop_to_mark() or [None]
    self.call(cls, tuple(args))


def _stack_global(self: Interpreter) -> None:
    name, module = self.stack.pop(), self.stack.pop()
    self.named(module, name)


def _protocol(self: Interpreter) -> None:
    protocol = self.number("<B")
    if protocol > 5:
        raise FormatError(f"pickle protocol {protocol}, expected 5 at most")


def _frame(self: Interpreter) -> None:
    length = self.number("<Q")
    if length > self.end - self.position:
        raise FormatError(
            f"truncated or damaged: a frame of {length} bytes, {self.end - self.position} are left"
        )


def _short_old_string(data: bytes) -> str | bytes:
    """A string of Python 2, below 256 bytes: text where it is UTF-8, as torch.load reads it."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _sized(kind: str, make: Callable[[bytes], object]) -> Step:
    """A step for the opcodes that carry a length (of struct type `kind`) and that many bytes."""

    def step(self: Interpreter) -> None:
        length = self.number(kind)
        if length < 0:
            raise FormatError(f"a string of {length} bytes")
        self.push(make(self.take(length)))

    return step


STEPS: dict[bytes, Step] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"(": _mark,
    b"0": _pop,
    b"1": _pop_mark,
    b"2": lambda self: self.push(self.stack[-1]),
    # Constants and numbers.
    b"N": lambda self: self.stack.append(None),
    b"\x88": lambda self: self.stack.append(True),
    b"\x89": lambda self: self.stack.append(False),
    b"J": lambda self: self.push(self.number("<i")),
    b"K": lambda self: self.stack.append(self.number("<B")),
    b"M": lambda self: self.push(self.number("<H")),
    b"\x8a": _sized("<B", _long),
    b"\x8b": _sized("<i", _long),
    b"G": lambda self: self.push(struct.unpack(">d", self.take(8))[0]),
    # Strings and bytes.
    b"T": _sized("<i", bytes),
    b"U": _sized("<B", _short_old_string),
    b"X": _sized("<I", _text),
    b"\x8c": _sized("<B", _text),
    b"\x8d": _sized("<Q", _text),
    b"B": _sized("<I", bytes),
    b"C": _sized("<B", bytes),
    b"\x8e": _sized("<Q", bytes),
    b"\x96": _sized("<Q", bytes),
    # Containers. A set is a list: nothing from the file is hashed but plain keys.
    b")": lambda self: self.stack.append(()),
    b"t": lambda self: self.push(tuple(self.pop_to_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"]": lambda self: self.push([]),
    b"a": lambda self: _extend(self, [self.stack.pop()]),
    b"e": lambda self: _extend(self, self.pop_to_mark()),
    b"\x8f": lambda self: self.push([]),
    b"\x90": lambda self: _extend(self, self.pop_to_mark()),
    b"\x91": lambda self: self.push(self.pop_to_mark()),
    b"}": lambda self: self.push({}),
    b"s": _set_item,
    b"u": lambda self: _set_items(self, self.pop_to_mark()),
    # The memo.
    b"q": lambda self: self.remember(self.number("<B")),
    b"r": lambda self: self.remember(self.number("<I")),
    b"\x94": lambda self: self.remember(len(self.memo)),
    b"h": lambda self: self.recall(self.number("<B")),
    b"j": lambda self: self.recall(self.number("<I")),
    # Globals and objects, as names and records.
    b"c": lambda self: self.named(*(self.line().decode("utf-8") for _ in range(2))),
    b"\x93": _stack_global,
    b"R": _reduce,
    b"\x81": _reduce,
    b"\x92": _newobj_ex,
    b"o": _obj,
    b"b": _build,
    b"Q": lambda self: self.push(self.persistent(self.stack.pop())),
}
