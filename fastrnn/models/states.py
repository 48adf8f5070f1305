"""Which outputs of a file are inputs of the next call: found by name and shape, or said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice, product
from typing import Any

from fastrnn.formats import onnx
from fastrnn.formats.source import shown

_BEFORE = {"in", "input", "prev", "previous", "old", "init", "initial", "0"}
_AFTER = {"out", "output", "next", "new", "cur", "last", "final", "n", "1"}
_LONG = 1000  # characters of a name that tells nothing: stems take the square of them
_LIKE = 64  # outputs whose names are like one input's
_SHOWN = 8  # candidates in a message
_LOOKED_AT = 10_000  # pairs, for them

Values = Mapping[str, onnx.Value]


def find_states(inputs: Values, outputs: Values, said: Mapping[str, str] | None) -> dict[str, str]:
    """Each state's input -> its output; empty where the file has none.

    Parameters
    ----------
    said : mapping of str to str, optional
        The pairs. None: those with the same name but for a word that tells before from after
        (`state` and `stateN`, `h_in` and `h_out`), of the same type and of shapes that agree, where
        that leaves no choice and an input that is no state.

    Raises
    ------
    ValueError
        For pairs that are not an input and an output each, or whose shapes or types differ.
    """
    if said is not None:
        _check(inputs, outputs, said)
        return dict(said)
    after = _by_stem(outputs)
    fitting = {}
    for name, value in inputs.items():
        near = {other for stem in _stems(name, _BEFORE) for other in after.get(stem, ())} - {name}
        if len(near) > _LIKE:
            return {}  # which is which cannot be told from names
        fitting[name] = [other for other in near if _agree(value, outputs[other])]
    pairs = {name: others[0] for name, others in fitting.items() if len(others) == 1}
    alone = len(set(pairs.values())) == len(pairs)
    if (
        any(len(others) > 1 for others in fitting.values())
        or not alone
        or len(pairs) == len(inputs)
    ):
        return {}
    return pairs


def candidates(inputs: Values, outputs: Values) -> str:
    """What could be said in `states`, the first few: pairs of one type and of shapes that agree."""
    pairs = islice(product(inputs.items(), outputs.items()), _LOOKED_AT)
    agree = (f"{n!r}: {other!r}" for (n, v), (other, made) in pairs if _agree(v, made))
    found = list(islice(agree, _SHOWN + 1))
    return ", ".join([*found[:_SHOWN], "..."] if len(found) > _SHOWN else found)


def _check(inputs: Values, outputs: Values, said: Mapping[str, str]) -> None:
    if not isinstance(said, Mapping):
        raise TypeError(f"load_model: states is {type(said).__name__}, expected a dict of names")
    for name, other in said.items():
        for what, one, known in (("an input", name, inputs), ("an output", other, outputs)):
            if one not in known:
                raise ValueError(
                    f"load_model: states has {shown(str(one))}, expected {what}: "
                    f"{', '.join(known) or 'there is none'}"
                )
        if not _agree(inputs[name], outputs[other]):
            may = candidates(inputs, outputs) or "none"
            raise ValueError(
                f"load_model: states {name!r}: {other!r} differ in shape or type "
                f"({inputs[name].shape} and {outputs[other].shape}); pairs that agree: {may}"
            )
    if len(set(said.values())) < len(said):
        raise ValueError("load_model: states has an output twice")
    if len(said) == len(inputs) and said:
        raise ValueError("load_model: states has every input, expected one that is no state")


def _agree(before: onnx.Value, after: onnx.Value) -> bool:
    """Whether two values can be of one type and shape, as far as the file says."""
    if before.element != after.element:
        return False
    if before.shape is None or after.shape is None:
        return True
    return len(before.shape) == len(after.shape) and all(
        a == b or not isinstance(a, int) or not isinstance(b, int)
        for a, b in zip(before.shape, after.shape, strict=True)
    )


def _by_stem(outputs: Values) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for name in outputs:
        for stem in _stems(name, _AFTER):
            found.setdefault(stem, []).append(name)
    return found


def _stems(name: str, roles: set[str]) -> set[tuple[str, ...]]:
    """A name's words, and these without one that tells before or after; never none at all."""
    if len(name) > _LONG:
        return {(name,)}
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    words = [word.lower() for word in words]
    stems = {tuple(words)}
    for i, word in enumerate(words):
        if word in roles:
            stems.add((*words[:i], *words[i + 1 :]))
        elif len(word) == 2 and word[1] in roles:  # hn, cn
            stems.add((*words[:i], word[0], *words[i + 1 :]))
    stems.discard(())
    return stems


def described(pairs: Mapping[str, str]) -> Any:
    """The pairs as a line of text."""
    return ", ".join(f"{before} -> {after}" for before, after in pairs.items())
