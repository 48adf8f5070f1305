"""Pickles that attack their reader, by name, each in the bytes of its opcodes."""

from __future__ import annotations

import pickle
import struct

DEPTH = 1_000_000
MANY = 100_000

# What an executed pickle would leave behind: a file named so in the working directory, or a module.
CANARY = "canary"


class Runs:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def calls(module: str, name: str, *args: str) -> bytes:
    return named(module, name) + b"(" + b"".join(map(text, args)) + b"tR"


def doubled(times: int) -> bytes:
    """A list of two references to a list of two references to ...: 2**times paths, one tensor."""
    tensor = calls("torch._utils", "_rebuild_qtensor")
    step = b"".join(b"]r" + struct.pack("<I", i) + b"0" for i in range(times))
    links = b"".join(
        b"j%b(j%bj%be0" % tuple(struct.pack("<I", n) for n in (i, i + 1, i + 1))
        for i in range(times - 1)
    )
    last = b"j" + struct.pack("<I", times - 1) + tensor + b"a0"
    return step + links + last + b"j" + struct.pack("<I", 0)


TOUCH = f"touch {CANARY}"
OPENS = f"open({CANARY!r}, 'w').close()"

# Calls: whatever reads one must not execute it.
CALLS: dict[str, bytes] = {
    "os.system": calls("os", "system", TOUCH),
    "posix.system": calls("posix", "system", TOUCH),
    "builtins.eval": calls("builtins", "eval", OPENS),
    "builtins.exec": calls("builtins", "exec", OPENS),
    "__builtin__.eval": calls("__builtin__", "eval", OPENS),
    "builtins.open": calls("builtins", "open", CANARY, "w"),
    "pathlib": calls("pathlib", "Path.touch", CANARY),
    "numpy.save": calls("numpy", "save", CANARY),
    "import": named(CANARY, "Net") + b")R",
    "import of a package's part": named(f"{CANARY}.models", "Net") + b")\x81}b",
    "STACK_GLOBAL": text("os") + text("system") + b"\x93" + text(TOUCH) + b"\x85R",
    "NEWOBJ": named("os", "system") + text(TOUCH) + b"\x85\x81",
    "NEWOBJ_EX": named("os", "system") + text(TOUCH) + b"\x85}\x92",
    "OBJ": b"(" + named("os", "system") + text(TOUCH) + b"o",
    "BUILD with __setstate__": named("builtins", "eval")
    + b")\x81}"
    + text("__setstate__")
    + calls("builtins", "getattr", "os", "system")
    + b"sb"
    + text(TOUCH)
    + b"b",
    "getattr chain": named("builtins", "getattr")
    + named("os", "path")
    + text("os")
    + b"\x86R"
    + text("system")
    + b"\x85R",
    "reduce chain": named("functools", "reduce")
    + named("os", "system")
    + b"]"
    + text(TOUCH)
    + b"a\x86R",
    "hooks of a tensor": named("torch._utils", "_rebuild_parameter")
    + b"}\x88"
    + calls("os", "system", TOUCH)
    + b"\x87R",
    "rebuild by a function of choice": named("torch._tensor", "_rebuild_from_type_v2")
    + b"("
    + named("os", "system")
    + named("torch", "Tensor")
    + text(TOUCH)
    + b"\x85}tR",
    "defaultdict's factory": named("collections", "defaultdict") + named("os", "system") + b"\x85R",
    "__reduce__ of a class": pickle.dumps(Runs(eval, OPENS), 2)[2:-1],
    "codecs": calls("_codecs", "encode", "x", "rot13"),
    "bytes loaded again": calls("torch.storage", "_load_from_bytes", "x"),
}

_NESTED_TUPLE = b")" + b"\x85" * DEPTH
_U4 = struct.Struct("<I").pack
_U8 = struct.Struct("<Q").pack

# Shapes: whatever reads one must neither crash, nor hang, nor allocate beyond its size.
SHAPES: dict[str, bytes] = {
    "nothing": b"",
    "empty stack": b"0" * 3,
    "POP_MARK without a mark": b"1",
    "TUPLE2 of one": b"K\1\x86",
    "APPEND to an int": b"K\1K\2a",
    "SETITEM on a list": b"]K\1K\2s",
    "SETITEMS of three": b"}(K\1K\2K\3u",
    "BUILD on an int": b"K\1}b",
    "BUILD on a tuple": b")}b",
    "REDUCE of an int": b"K\1)R",
    "REDUCE with no tuple": named("collections", "Counter") + b"K\1R",
    "tensor of nothing": named("torch._utils", "_rebuild_tensor_v2") + b")R",
    "tensor of text": calls("torch._utils", "_rebuild_tensor_v2", *"abcdef"),
    "STACK_GLOBAL of ints": b"K\1K\2\x93",
    "global with escapes": named("a\x1b[2J", "b"),
    "global without end": b"c" + b"a" * 100_000,
    "persistent id of nothing": b"NQ",
    "persistent id of a huge int": b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + b"Q",
    "EXT1": b"\x82\1",
    "EXT4": b"\x84" + struct.pack("<i", 1),
    "out-of-band buffer": b"\x97\x98",
    "opcodes of protocol 0": b"(lp0\nI1\na",
    "INT of 10,000 digits": b"I" + b"9" * 10_000 + b"\n",
    "LONG4 of 2 GiB": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "LONG4 below zero": b"\x8b" + struct.pack("<i", -1),
    "LONG1 cut short": b"\x8a\xff",
    "BINBYTES of 4 GiB": b"B" + _U4(2**32 - 1),
    "BINBYTES8 of 2**63": b"\x8e" + _U8(2**63),
    "BYTEARRAY8 of 2**40": b"\x96" + _U8(2**40),
    "BINUNICODE8 of 2**40": b"\x8d" + _U8(2**40),
    "FRAME of 2**40": b"\x95" + _U8(2**40),
    "memo slot 2**32 - 1": b"Nr" + _U4(2**32 - 1),
    "memo slot never set": b"j" + _U4(7),
    "protocol 99": b"\x80\x63",
    "bad UTF-8": b"X" + _U4(2) + b"\xff\xff",
    "list in itself": b"]q\0h\0a",
    "dict in itself": b"}q\0K\1h\0s",
    "object in its own state": named("a", "B") + b")\x81q\0}K\1h\0sb",
    "two lists in each other": b"]q\0]q\1h\0ah\0h\1a",
    "tuples, deep": _NESTED_TUPLE,
    "lists, deep": b"]" * DEPTH + b"a" * (DEPTH - 1),
    "dicts, deep": b"}K\0" * MANY + b"}" + b"s" * MANY,
    "objects, deep": named("a", "B") + b"q\0" + b"h\0)\x81" * MANY + b"b" * (MANY - 1),
    "reduces, deep": (named("a", "B") + b"q\0" + b"h\0" * MANY + b")" + b"R" * MANY),
    "a key that hashes deep": b"}" + b")" + b"\x85" * MANY + b"K\0s",
    "a key with 2**60 leaves": b"}" + b")" + b"2\x86" * 60 + b"K\0s",
    "keys of one hash": b"}(%bu"
    % b"".join(
        b"\x8a\x0e" + ((2**61 - 1) * i).to_bytes(14, "little") + b"K\0" for i in range(50_000)
    ),
    "billion laughs": doubled(60),
    "lists, memo slots and marks": b"]\x94(" * 700_000,
    "one text as bytes, often": named("_codecs", "encode")
    + b"q\0"
    + text("x" * 1_000_000)
    + text("latin1")
    + b"\x86q\1"
    + b"h\0h\1R" * 100_000,
    "one dict copied often": named("collections", "OrderedDict")
    + b"q\0](%be\x85q\1" % b"".join(b"M%bK\1\x86" % struct.pack("<H", i) for i in range(20_000))
    + b"h\0h\1R" * 100_000,
    "one pair, often, copied often": named("collections", "OrderedDict")
    + b"q\0](K\0K\0\x86q\2%be\x85q\1" % (b"h\2" * 100_000)
    + b"h\0h\1R" * 100_000,
    "one old string as an array, often": named("numpy._core.numeric", "_frombuffer")
    + b"q\0(T" + _U4(1_000_000) + b"x" * 1_000_000 + named("numpy", "dtype") + text("u1") + b"\x85R"
    + b"K\1\x85" + text("C") + b"tq\1" + b"h\0h\1R" * 100_000 + b"N",
    "one long text as an array, often": named("numpy._core.numeric", "_frombuffer")
    + b"q\0(" + text("x" * 1_000_000) + named("numpy", "dtype") + text("u1") + b"\x85R"
    + b"K\1\x85" + text("C") + b"tq\1" + b"h\0h\1R" * 100_000 + b"N",
    "a shape of many dimensions, often": named("torch._utils", "_rebuild_tensor_v2")
    + b"q\0("
    + b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\1tQ"
    + b"K\0(" + b"K\1" * 200_000 + b"t2NNtq\1"
    + b"h\0h\1R" * 100_000,
    "a long key above many tensors": b"}%b}(%bus"
    % (
        text("k" * 900),
        b"".join(
            text(str(i)) + calls("torch.storage", "_load_from_bytes") + b"q\0"
            if i == 0
            else text(str(i)) + b"h\0"
            for i in range(100_000)
        ),
    ),
    "a long key above many": b"}%b}(%bus"
    % (text("k" * 900), b"".join(text(str(i)) + b"]" for i in range(30_000))),
}  # fmt: skip
