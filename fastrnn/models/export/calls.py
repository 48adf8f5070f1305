"""How a torch module is called: its tensors by name, their axes, and the same at other sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

AxisOption = int | Mapping[str, int] | None
Length = Callable[[int], int]

BATCH, TIME = "batch", "time"


class Call:
    """A call of a module: its arguments, and which axes of their tensors are batch and time.

    tensors: by name: of forward's parameter, with the place in nested tuples, lists and dicts.
    batch, time: the axis of each tensor that has it.
    rows: the length of the batch, None without one.
    steady: whether all lengths of time are the same.
    """

    def __init__(
        self,
        module: Any,
        args: tuple[Any, ...],
        batch_axis: AxisOption,
        time_axis: AxisOption,
        states: Sequence[str],
        names: Sequence[str] | None,
    ) -> None:
        self.args = args
        found = [
            leaf
            for parameter, value in zip(_parameters(module, len(args)), args, strict=True)
            for leaf in leaves(value, parameter)
        ]
        if names is not None and len(names) != len(found):
            raise ValueError(f"export: {len(names)} input_names, expected {len(found)}")
        named = names or [name for name, _ in found]
        self.tensors = dict(zip(named, (tensor for _, tensor in found), strict=True))
        if not self.tensors or len(self.tensors) != len(found):
            raise ValueError(
                f"export: the inputs are {', '.join(named) or 'no tensors'}, expected names of "
                "which each is another (input_names=)"
            )
        for state in states:
            self._check(state, "states")
        self.batch = self._axes("batch_axis", batch_axis, ())
        self.time = self._axes("time_axis", time_axis, states)
        rows = {name: self.tensors[name].shape[axis] for name, axis in self.batch.items()}
        if len(set(rows.values())) > 1:
            raise ValueError(
                f"export: the batch is {_listed(rows)}, expected one size: give "
                "batch_axis={name: axis} for the inputs that have a batch"
            )
        self.rows = next(iter(rows.values()), None)
        self._frames = {name: self.tensors[name].shape[axis] for name, axis in self.time.items()}
        self.steady = len(set(self._frames.values())) == 1

    def axes(self) -> dict[str, dict[int, str]]:
        """Return what the axes of each tensor that may change are called in the file."""
        first = next(iter(self._frames.values()), None)
        made: dict[str, dict[int, str]] = {name: {} for name in self.tensors}
        for name, axis in self.batch.items():
            made[name][axis] = BATCH
        for name, axis in self.time.items():
            made[name][axis] = TIME if self._frames[name] == first else f"{TIME}_{name}"
        return made

    def nested_axes(self) -> tuple[Any, ...]:
        """Return `axes` in the shape of the arguments."""
        each = iter(self.axes().values())
        return tuple(_replaced(self.args, lambda _: next(each) or None, lambda _: None))

    def sized(self, rows: int | None, length: Length) -> tuple[Any, ...]:
        """Return the arguments with so many rows, and `length` of each number of frames.

        Their values are the example's own, over and over, each further row shifted by one more, so
        that what a value may be (an index, a magnitude) stays as it is.
        """
        resized = iter([self._sized(name, rows, length) for name in self.tensors])
        return tuple(_replaced(self.args, lambda _: next(resized), lambda value: value))

    def _sized(self, name: str, rows: int | None, length: Length) -> Any:
        import torch

        value, time, batch = self.tensors[name], self.time.get(name), self.batch.get(name)
        if time is not None:
            frames = value.shape[time]
            index = torch.arange(length(frames), device=value.device) % frames
            value = value.index_select(time, index)
        if rows is None or batch is None or rows == self.rows:
            return value
        shifted = time if time is not None else value.dim() - 1
        rolls = shifted != batch and (time is not None or value.is_floating_point())
        parts = []
        for row in range(rows):
            again, own = divmod(row, value.shape[batch])
            part = value.narrow(batch, own, 1)
            parts.append(part.roll(again, shifted) if rolls else part)
        return torch.cat(parts, batch)

    def _axes(self, what: str, option: AxisOption, skipped: Sequence[str]) -> dict[str, int]:
        if option is None:
            return {}
        if isinstance(option, Mapping):
            chosen = dict(option)
        else:
            chosen = {name: option for name in self.tensors if name not in skipped}
        for name, axis in chosen.items():
            self._check(name, what)
            shape = tuple(self.tensors[name].shape)
            if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
                raise ValueError(
                    f"export: {what} is {axis!r}, but input {name!r} is {shape}: give "
                    f"{what}={{name: axis}} for the inputs that have it, or None"
                )
            chosen[name] = axis % len(shape)
            if not shape[axis]:
                raise ValueError(f"export: input {name!r} is {shape}, expected an example")
        return chosen

    def _check(self, name: str, what: str) -> None:
        if name not in self.tensors:
            raise ValueError(
                f"export: {what} has {name!r}, expected names of inputs: {', '.join(self.tensors)}"
            )


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the tensors in nested tuples, lists and dicts, each with a name made of its place."""
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{name}_{key}" if name else str(key))
    elif isinstance(value, (tuple, list)):
        for key, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
            place = str(key) if isinstance(key, str) and not name else f"{name or 'output'}_{key}"
            yield from leaves(part, place)


def _replaced(value: Any, tensor: Callable[[Any], Any], other: Callable[[Any], Any]) -> Any:
    """Return nested tuples, lists and dicts with `tensor` of every tensor, `other` of the rest."""
    import torch

    if isinstance(value, torch.Tensor):
        return tensor(value)
    if isinstance(value, Mapping):
        return {key: _replaced(part, tensor, other) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_replaced(part, tensor, other) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return other(value)


def _parameters(module: Any, count: int) -> list[str]:
    """Return the names of forward's first parameters."""
    names: list[str] = []
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{i}" for i in range(count - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    if len(names) < count:
        raise ValueError(f"export: {count} arguments, but forward takes {len(names)}")
    return names[:count]


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size} in {name!r}" for name, size in sizes.items())
