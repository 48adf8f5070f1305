"""Names for the tensors in a tree of records: its paths, as a state_dict would name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fastrnn.formats.names import EXPECTED, MAX_NAME, is_name
from fastrnn.formats.pickles.inert import Foreign, NumpyArray, Quantized, Tensor, Unreadable
from fastrnn.formats.said import NotSaid, Said
from fastrnn.formats.source import shown

Leaf = Tensor | NumpyArray | Quantized | Unreadable

MAX_DEPTH = 128
# Paths that lead to an object that has a name already: this many are followed, and one for every
# 16 bytes of the file.
REPEATS = 20_000

_TOO_DEEP = Unreadable(f"was left out: it is nested more than {MAX_DEPTH} deep")


class Object:
    """What stands among tensors and holds none: an object, or a list of numbers."""

    def __init__(self, what: str) -> None:
        self.what = what


def tensors(
    root: object, file_size: int, said_of: Callable[[object], Said | NotSaid | None]
) -> Iterator[tuple[str, Leaf | Object | Said]]:
    """Every tensor below `root` with its name, in the order of the file.

    Names are dict keys, list indices and attributes, joined by dots. Of an nn.Module that was
    pickled whole, the parameters and buffers are named as its state_dict() names them, buffers
    that are not persistent included, and its other attributes are left aside. A tensor that is
    `root` itself is named "tensor". An object that contains itself is entered once.

    Nothing in the tree stops this. Only what holds a tensor is entered, however much there is
    beside; what stands right beside tensors and holds none comes as an Object. Branches that are
    too deep, have a name that cannot be one, or are parts of the tree once more beyond REPEATS,
    come as one Unreadable each, named as far as it goes.

    What `said_of` makes of a container comes before its tensors: under its name, or as an Object
    where it is not known.
    """
    entered = _Tree(root)
    repeats = REPEATS + file_size // 16
    first: dict[int, str] = {}
    inside: set[int] = set()
    # (name, object, depth); a depth below 0 marks the end of the object.
    pending: list[tuple[str, object, int]] = [("", root, 0)]
    while pending:
        name, value, depth = pending.pop()
        if depth < 0:
            inside.discard(id(value))
        elif isinstance(value, _LEAVES):
            yield _leaf(name or "tensor", value)
        elif isinstance(value, Object):
            if is_name(name):
                yield name, value
        elif id(value) not in inside and entered.holds(value):
            children = entered.children(value)
            if id(value) in first:
                repeats -= len(children)
            if repeats < 0 and id(value) in first:
                again = f"was left out: it is {first[id(value)] or 'the whole'} once more"
                yield _leaf(name, Unreadable(again))
            elif depth == MAX_DEPTH:
                yield _leaf(name, _TOO_DEEP)
            elif len(name) > MAX_NAME:
                yield _leaf(name, Unreadable(f"is no name of a tensor, {EXPECTED}"))
            else:
                said = said_of(value)
                if isinstance(said, Said):
                    yield name, said
                elif said is not None:
                    yield _joined(name, said.attribute), Object(said.why)
                first.setdefault(id(value), name)
                inside.add(id(value))
                pending.append(("", value, -1))
                pending.extend(
                    (_joined(name, key), child, depth + 1) for key, child in reversed(children)
                )


def _leaf(name: str, leaf: Leaf) -> tuple[str, Leaf]:
    """The leaf; where its name cannot be one, an Unreadable under what can be shown of it."""
    if is_name(name):
        return name, leaf
    plain = name[:MAX_NAME].encode("unicode_escape").decode("ascii")[:MAX_NAME]
    return plain, Unreadable(f"is named {shown(name)}, {EXPECTED}")


# Attributes that hold the same tensors once more: TorchScript keeps this one of nn.LSTM.
_CACHES = {"_flat_weights"}
# Attributes of a module that its state_dict has too: the weights of torch's quantized modules.
_PACKED = {"param", "_packed_weight_ih", "_packed_weight_hh"}
_LEAVES = (Tensor, NumpyArray, Quantized, Unreadable)
_CONTAINERS = (dict, list, tuple, Foreign)


class _Tree:
    """The containers below a root: which of them hold a tensor, and what is in those."""

    def __init__(self, root: object) -> None:
        self._holding: set[int] = set()
        self._children: dict[int, list[tuple[object, object]]] = {}
        holders: list[int] = []
        parents: dict[int, list[int]] = {id(root): []}
        pending = [root]
        while pending:
            value = pending.pop()
            for _, child in _members(value):
                if isinstance(child, _LEAVES):
                    holders.append(id(value))
                elif id(child) in parents:
                    parents[id(child)].append(id(value))
                else:
                    parents[id(child)] = [id(value)]
                    pending.append(child)
        while holders:
            holder = holders.pop()
            if holder not in self._holding:
                self._holding.add(holder)
                holders.extend(parents[holder])

    def holds(self, value: object) -> bool:
        """Whether there is a tensor anywhere below the container."""
        return id(value) in self._holding

    def children(self, value: object) -> list[tuple[object, object]]:
        """The key and value of what is in a container that holds a tensor."""
        if id(value) not in self._children:
            self._children[id(value)] = [
                (key, child)
                for key, child in map(self._seen, _members(value))
                if isinstance(child, (*_LEAVES, Object)) or self.holds(child)
            ]
        return self._children[id(value)]

    def _seen(self, member: tuple[object, object]) -> tuple[object, object]:
        key, child = member
        if isinstance(child, _LEAVES) or self.holds(child):
            return member
        if isinstance(child, Foreign):
            return key, Object(f"is an object of {child.name[:200]}")
        return key, Object("is a list of numbers, not a tensor") if _is_numbers(child) else child


def _is_numbers(value: object) -> bool:
    """Whether a list starts with a float, or with lists that do, up to 4 deep."""
    for _ in range(4):
        if isinstance(value, (list, tuple)) and value:
            value = value[0]
    return isinstance(value, float)


def _joined(parent: str, key: object) -> str:
    text = key[: MAX_NAME + 1].decode("latin-1") if isinstance(key, bytes) else str(key)
    return f"{parent}.{text}"[: MAX_NAME + 1] if parent else text[: MAX_NAME + 1]


def _members(value: object) -> list[tuple[object, object]]:
    """The (key, object) pairs in `value` that are tensors or that a tensor can be in."""
    if isinstance(value, dict):
        return _kept(value.items())
    if isinstance(value, (list, tuple)):
        return _kept(enumerate(value))
    if isinstance(value, Foreign):
        return _attributes(value)
    return []


def _kept(pairs: Iterable[tuple[object, object]]) -> list[tuple[object, object]]:
    return [
        (f"<key {index}>" if isinstance(key, Foreign) else key, child)
        for index, (key, child) in enumerate(pairs)
        if isinstance(child, (*_LEAVES, *_CONTAINERS))
    ]


def _attributes(value: Foreign) -> list[tuple[object, object]]:
    """What an object of a foreign class holds: its attributes, items, and what it was made from."""
    pairs: list[tuple[object, object]] = []
    for state in value.states or [{"state": value.state}]:
        if "_parameters" in state and "_modules" in state:
            packed = {key: state[key] for key in _PACKED & state.keys()}
            parts = (*(state.get(part) for part in ("_parameters", "_buffers", "_modules")), packed)
            return [
                pair for part in parts if isinstance(part, dict) for pair in _kept(part.items())
            ]
        pairs.extend(pair for pair in _kept(state.items()) if pair[0] not in _CACHES)
    pairs.extend(_kept(enumerate(value.items)))
    pairs.extend(_kept(value.entries.items()))
    pairs.extend(_kept([("args", value.args)]))
    return pairs
