"""The recurrent stacks in a state dict: which there are, and of which tensors each is made.

Torch's recurrent modules hold their parameters and nothing else. So every name under a stack's
prefix is one of its parameters, or a part of one in a form that is known (folding), or the stack is
another model than torch's, and is refused.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from fastrnn.formats import Said, Weights
from fastrnn.layers.folding import Folded, Part, fold, layer_names, parse, saved_plain
from fastrnn.layers.weights import StackConfig, check_shapes, infer_config

# Modules that wrap another, whose name is then one level down, and change what it computes or may.
_WRAPPERS = ("base_layer", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class StackWeights:
    """One whole stack of a state dict.

    parameters: by torch's names, in torch's order; an array is made of a value when needed.
    folded: what was done to a parameter to get it, by its name: "weight_norm".
    tensors: the names of the tensors that they are made of.
    said: what their file says of the stack beside them.
    """

    prefix: str
    config: StackConfig
    parameters: dict[str, Any]
    folded: dict[str, str] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    said: Said | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """What `said` says in a constructor's words."""
        return self.said.options if self.said else {}


def told(folded: Mapping[str, str]) -> str:
    """In one line, what was folded: "weight_norm (weight_hh_l0, weight_hh_l1)"."""
    kinds: dict[str, list[str]] = {}
    for parameter, kind in folded.items():
        kinds.setdefault(kind, []).append(parameter)
    return "; ".join(
        f"{kind} ({', '.join(names) if len(names) <= 4 else f'{len(names)} parameters'})"
        for kind, names in kinds.items()
    )


def find_stack(weights: Mapping[str, Any], prefix: str = "") -> StackWeights:
    """The stack that `prefix` means in `weights`: StateDict's `resolve`, then `stack`."""
    state = StateDict(weights)
    return state.stack(state.resolve(prefix))


class StateDict:
    """A state dict of a model or a part of one, indexed by the prefixes of its stacks.

    Raises
    ------
    TypeError
        If `weights` is not a mapping.
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(
                f"weights is {type(weights).__name__}, expected a mapping of names to arrays; "
                "fastrnn.load(path) reads a file, module.state_dict() is a module's"
            )
        self._weights = weights
        self._unread = weights.unread if isinstance(weights, Weights) else {}
        names = [*filter(_is_str, weights), *self._unread]
        self._names = sorted(names)
        self._parts: dict[str, dict[str, Part]] = {}
        for name in names:
            part = parse(name)
            if part is not None:
                self._parts.setdefault(part.prefix, {})[name] = part
        # Parts that are no stack by themselves and stand above stacks: a wrapper's.
        every = sorted(self._parts)
        self._strays = {
            prefix
            for prefix, parts in self._parts.items()
            if _below(every, prefix)
            and not {"weight_ih", "weight_hh"} <= {part.parameter[:9] for part in parts.values()}
        }
        self.prefixes = [prefix for prefix in self._parts if prefix not in self._strays]
        self._ordered = sorted(self.prefixes)

    def resolve(self, prefix: str) -> str:
        """The full prefix of the stack that `prefix` means.

        That is `prefix` itself, or the only stack whose full name ends in it, or else the only one
        below such a name: "lstm" means "encoder.lstm", "encoder" means it too, and "" the only
        stack there is.

        Raises
        ------
        TypeError
            If `prefix` is not a str.
        ValueError
            If it means none, or more than one.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"prefix is {type(prefix).__name__}, expected a str")
        prefix = prefix.rstrip(".")
        if prefix in self.prefixes:
            return prefix
        if not self.prefixes:
            raise ValueError(self.in_words)
        chosen = self.prefixes
        if prefix:
            chosen = [full for full in self.prefixes if full.endswith(f".{prefix}")]
            chosen = chosen or [full for full in self.prefixes if f".{prefix}." in f".{full}"]
        if len(chosen) == 1:
            return chosen[0]
        if not chosen and self.prefixes == [""]:
            raise ValueError(
                f"no recurrent stack under prefix {prefix!r}: there is one, and it has no prefix"
            )
        if not chosen:
            raise ValueError(
                f"no recurrent stack under prefix {prefix!r}, expected one of "
                + _listed(map(repr, self.prefixes))
            )
        raise ValueError(
            f"{len(chosen)} recurrent stacks, say which by its prefix: "
            + _listed(map(repr, chosen))
        )

    def stack(self, prefix: str, config: StackConfig | None = None) -> StackWeights:
        """The stack under a prefix of `prefixes`, every tensor under it accounted for.

        `config` is what it has to be; None: what its tensors say.

        Raises
        ------
        ValueError
            It names a tensor that is missing, left over, could not be read or does not fit.
        """
        where = f"{prefix}." if prefix else ""
        found = self._accounted(prefix)
        kept: dict[str, dict[str, str]] = {}
        for name, part in found.items():
            other = kept.setdefault(part.parameter, {}).setdefault(part.part, name)
            if other != name:
                raise ValueError(f"{name} and {other} are the same part of one parameter")
        values = {
            parameter: fold(f"{where}{parameter}", names, self._weights)
            for parameter, names in kept.items()
        }
        names = layer_names(values, where, config.bidirectional if config else None)
        values = {names[parameter]: value for parameter, value in values.items()}
        if config is None:
            config = infer_config(values, where)
        else:
            shapes = {name: tuple(np.shape(value)) for name, value in values.items()}
            check_shapes(config, shapes, where)
        if isinstance(self._weights, Weights):
            # A copy that is kept, and a packed one, of float32.
            self._weights.budget.check(
                f"{prefix}: {config}" if prefix else str(config), 8 * config.parameters
            )
        folded = {
            names[parameter]: self._told(parts.values(), values[names[parameter]])
            for parameter, parts in kept.items()
        }
        said = self._weights.said.get(prefix) if isinstance(self._weights, Weights) else None
        return StackWeights(
            prefix,
            config,
            {name: values[name] for name in config.shapes()},
            {name: folded[name] for name in config.shapes() if folded[name]},
            tuple(found),
            said.of_cell(config.cell) if said else None,
        )

    def parts(self, prefix: str) -> Iterable[str]:
        """The names under a prefix of `prefixes` that are parameters, or parts of them."""
        return self._parts[prefix]

    def scope(self, prefix: str) -> Iterator[str]:
        """The names that can change what the stack under `prefix` is.

        All under it; all beside it, if it is in a module whose purpose is to change it; and
        elsewhere above it, low-rank updates (LoRA) and parts of its parameters.
        """
        yield from self._parts[prefix]
        outer, _, last = prefix.rpartition(".")
        yield from self._between(*_under(outer if last in _WRAPPERS else prefix))
        yield from self._between(*_under(outer, "lora"))
        if self._strays or self._unread:
            above = tuple(_above(prefix))
            for branch in above:
                if branch in self._strays:
                    yield from self._parts[branch]
            yield from (branch for branch in (*above, prefix) if branch in self._unread)

    def _told(self, names: Iterable[str], value: Any) -> str:
        """What was done to a parameter; "" if nothing was."""
        notes = self._weights.notes if isinstance(self._weights, Weights) else {}
        done = [value.kind] if isinstance(value, Folded) else []
        return ", ".join((*done, *dict.fromkeys(notes[name] for name in names if name in notes)))

    def _accounted(self, prefix: str) -> dict[str, Part]:
        """The parts of the stack's parameters; ValueError where there is more in its scope."""
        parts = dict(self._parts[prefix])
        for name in self.scope(prefix):
            if name in self._unread or name not in parts:
                part = self._dropped(name)
                if part is None:
                    raise ValueError(f"{name or 'the file'} {self._why(name, prefix)}")
                parts[name] = part
        return parts

    def _dropped(self, name: str) -> Part | None:
        """The part, if weight drop keeps it in the module around this one stack."""
        part = parse(name)
        if part is None or part.part != "_raw" or name in self._unread:
            return None
        if part.prefix in self._strays and len(_below(self._ordered, part.prefix)) == 1:
            return part
        return None

    def _why(self, name: str, prefix: str) -> str:
        """Why the stack under `prefix` cannot be what torch's would be, with `name` there."""
        under = f"under prefix {prefix!r}" if prefix else "without prefix"
        return self._unread.get(name) or (
            f"is no parameter of torch's LSTM, GRU or RNN, and what it does to the stack {under} "
            "is not known; if that is nothing, give from_state_dict the stack's own tensors alone"
            + saved_plain(name)
        )

    def _between(self, first: str, last: str) -> Iterator[str]:
        """The names from `first` on, up to `last`."""
        for index in range(bisect_left(self._names, first), len(self._names)):
            if self._names[index] >= last:
                return
            yield self._names[index]

    @property
    def in_words(self) -> str:
        """In words, which stacks there are."""
        if self.prefixes:
            return "recurrent weights are under " + _listed(map(repr, self.prefixes))
        some = [f"{name} {np.shape(value)}" for name, value in islice(self._weights.items(), 9)]
        words = (
            f"no recurrent stack (weight_ih_l0, weight_hh_l0...) among {len(self._weights)} "
            f"tensors: {_listed(some)}"
        )
        words += "".join(f"; {name} {why}" for name, why in islice(self._unread.items(), 1))
        if any(name.startswith("CONSTANTS.c") for name in self._names):
            words += (
                "; a frozen TorchScript module has its weights as constants, without their names: "
                "save the model before it is frozen"
            )
        return words


def _is_str(name: object) -> bool:
    return isinstance(name, str)


def _above(prefix: str) -> Iterator[str]:
    """The prefixes above `prefix`: "a.b" and "a" and "" of "a.b.c"."""
    while prefix:
        prefix = prefix.rpartition(".")[0]
        yield prefix


def _under(prefix: str, start: str = "") -> tuple[str, str]:
    """The first and last (excluded) of the names under `prefix` that go on with `start`."""
    first = f"{prefix}.{start}" if prefix else start
    return first, first + chr(sys.maxunicode)


def _below(ordered: list[str], prefix: str) -> range:
    """Where the prefixes below `prefix` are in a sorted list of them."""
    first, last = _under(prefix)
    start = bisect_left(ordered, first)
    start += not prefix and ordered[:1] == [""]
    return range(start, bisect_left(ordered, last))


def _listed(words: Iterable[str], most: int = 8) -> str:
    listed = list(islice(words, most + 1))
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
