"""Names for the tensors in a tree of records: its paths, as a state_dict would name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastrnn.errors import FormatError
from fastrnn.formats.inert import Foreign, NumpyArray, Tensor, Unreadable
from fastrnn.formats.source import shown

Leaf = Tensor | NumpyArray | Unreadable

MAX_DEPTH = 128
MAX_NAME = 1000
# Objects looked at, once for every path that leads to them: this many, and one for every byte of
# the file.
VISITS = 100_000


def check_name(name: str) -> None:
    """FormatError unless `name` can be the name of a tensor: printable, and not endless."""
    if len(name) > MAX_NAME or not name.isprintable():
        raise FormatError(
            f"a tensor is named {shown(name)}, "
            f"expected printable text of at most {MAX_NAME} characters"
        )


def tensors(root: object, file_size: int) -> Iterator[tuple[str, Leaf]]:
    """Every tensor below `root` with its name, in the order of the file.

    Names are dict keys, list indices and attributes, joined by dots. Of an nn.Module that was
    pickled whole, the parameters and buffers are named as its state_dict() names them, buffers
    that are not persistent included, and its other attributes are left aside. A tensor that is
    `root` itself is named "tensor". An object that contains itself is entered once.

    Raises
    ------
    FormatError
        The tree is deeper than MAX_DEPTH, has more paths than the file's size
        justifies, or gives a tensor an impossible name.
    """
    left = VISITS + file_size
    inside: set[int] = set()
    # (name of the parent, key, object, depth); an object that is None marks the end of its parent.
    pending: list[tuple[str, object, object, int]] = [("", "", root, 0)]
    while pending:
        parent, key, value, depth = pending.pop()
        if value is None:
            inside.discard(key)
            continue
        name = _joined(parent, key)
        if isinstance(value, (Tensor, NumpyArray, Unreadable)):
            name = name or "tensor"
            check_name(name)
            yield name, value
            continue
        if id(value) in inside:
            continue
        left -= _size(value)
        if left < 0:
            raise FormatError("its objects contain each other in more ways than can be followed")
        children = _children(value)
        if children and depth == MAX_DEPTH:
            raise FormatError(f"its objects are nested more than {MAX_DEPTH} deep")
        if not children:
            continue
        inside.add(id(value))
        pending.append(("", id(value), None, 0))
        pending.extend((name, key, child, depth + 1) for key, child in reversed(children))


# Attributes that hold the same tensors once more: TorchScript keeps this one of nn.LSTM.
_CACHES = {"_flat_weights"}
_HOLDERS = (dict, list, tuple, Foreign, Tensor, NumpyArray, Unreadable)


def _joined(parent: str, key: object) -> str:
    text = key[: MAX_NAME + 1].decode("latin-1") if isinstance(key, bytes) else str(key)
    return f"{parent}.{text}"[: MAX_NAME + 1] if parent else text[: MAX_NAME + 1]


def _children(value: object) -> list[tuple[object, object]]:
    """The (key, object) pairs in `value` that a tensor can be in."""
    if isinstance(value, dict):
        return _holders(value.items())
    if isinstance(value, (list, tuple)):
        return _holders(enumerate(value))
    if isinstance(value, Foreign):
        return _members(value)
    return []


def _holders(pairs: Iterable[tuple[object, object]]) -> list[tuple[object, object]]:
    return [
        (f"<key {index}>" if isinstance(key, Foreign) else key, child)
        for index, (key, child) in enumerate(pairs)
        if isinstance(child, _HOLDERS)
    ]


def _members(value: Foreign) -> list[tuple[object, object]]:
    """What an object of a foreign class holds: its attributes, items, and what it was made from."""
    pairs: list[tuple[object, object]] = []
    for state in _states(value):
        if "_parameters" in state and "_modules" in state:
            parts = (state.get(part) for part in ("_parameters", "_buffers", "_modules"))
            return [
                pair for part in parts if isinstance(part, dict) for pair in _holders(part.items())
            ]
        pairs.extend(pair for pair in _holders(state.items()) if pair[0] not in _CACHES)
    pairs.extend(_holders(enumerate(value.items)))
    pairs.extend(_holders(value.entries.items()))
    pairs.extend(_holders([("args", value.args)]))
    return pairs


def _states(value: Foreign) -> list[dict[object, object]]:
    """The attributes of an object: of one with __slots__ they are a pair of dicts."""
    states = value.state if isinstance(value.state, tuple) else (value.state,)
    if any(isinstance(state, dict) for state in states[:2]):
        return [state for state in states[:2] if isinstance(state, dict)]
    return [{"state": value.state}]


def _size(value: object) -> int:
    """How many objects `_children` looks at."""
    if isinstance(value, Foreign):
        held = (*_states(value), value.items, value.entries)
        return 1 + sum(map(len, held))
    return len(value) if isinstance(value, (dict, list, tuple)) else 0
