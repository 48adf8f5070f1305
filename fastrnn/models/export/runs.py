"""What a module answers: on its example, and at other sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.models.example import MOST_BYTES, Example
from fastrnn.models.export.calls import BATCH, TIME, Call, leaves
from fastrnn.models.export.exporters import Request, reason


@dataclass(frozen=True)
class Run:
    """What the module answered: arrays by name."""

    rows: int | None
    frames: int | None  # of the inputs with time, if they all have the same
    example: Example


class Runs:
    """The module's answers, on the example and at other sizes."""

    def __init__(
        self, module: Any, call: Call, states: Sequence[str], names: Sequence[str] | None
    ) -> None:
        self.module, self.call = module, call
        found = [name for name, _ in leaves(module(*call.args), "")]
        own = [name or "output" for name in found[: len(found) - len(states)]]
        if len(found) < len(states) or (names is not None and len(names) != len(own)):
            raise ValueError(
                f"export: forward returns {len(found)} tensors, expected {len(states)} states"
                + ("" if names is None else f" after {len(names)} output_names")
            )
        self.names = [*(names or own), *(f"{state}_out" for state in states)]
        if len({*self.names, *call.tensors}) != len(self.names) + len(call.tensors):
            raise ValueError(
                f"export: inputs are {', '.join(call.tensors)}, outputs {', '.join(self.names)}: "
                "expected names of which each is another (output_names=)"
            )
        self.first = self._run(call.rows, _same)
        again = self._run(call.rows, _same).example
        if any(
            not np.array_equal(value, again.outputs[name], equal_nan=value.dtype.kind == "f")
            for name, value in self.first.example.outputs.items()
        ):
            raise ValueError(
                f"export: {type(module).__name__} answers the same input in another way when called"
                " again: it draws random numbers (dropout outside of eval mode?) or keeps a state"
            )
        for state in states:
            before, after = (
                call.tensors[state].shape,
                self.first.example.outputs[f"{state}_out"].shape,
            )
            if tuple(before) != after:
                raise ValueError(
                    f"export: state {state!r} is {tuple(before)} and returned as {after}"
                )
        self.all = [self.first, *self._others()]

    def request(self, opset: int | None) -> Request:
        """Return what to export, at sizes that torch does not take for constants: 1 would be."""
        rows = self.call.rows and max(self.call.rows, 2)
        args = self.call.sized(rows, lambda n: n if n > 1 else 2 * n)
        axes, nested = self.call.axes(), self.call.nested_axes()
        return Request(self.module, args, nested, axes, self.names, opset)

    def shapes(self, name: str) -> list[int | str]:
        """Return the lengths of an output's axes: an int where it was the same in all runs."""
        made: list[int | str] = []
        runs = [(run, run.example.outputs[name].shape) for run in self.all]
        for axis, length in enumerate(runs[0][1]):
            if all(shape[axis] == length for _, shape in runs):
                made.append(length)
            elif all(shape[axis] == run.rows for run, shape in runs):
                made.append(BATCH)
            elif all(shape[axis] == run.frames for run, shape in runs):
                made.append(TIME)
            else:
                made.append(f"{name}_{axis}")
        return made

    def recorded(self) -> Example | None:
        """Return an example that is small enough to keep; None if the module takes none."""
        example, rows, part = self.first.example, self.call.rows and 1, 1
        while example.nbytes > MOST_BYTES:
            try:
                example = self._run(rows, lambda n, part=part: max(1, n // part)).example
            except Exception:  # whatever the module raises
                return None
            if part > 1 << 20 or not self.call.time:
                break
            part *= 2
        return example if example.nbytes <= MOST_BYTES else None

    def _run(self, rows: int | None, length: Any) -> Run:
        args = self.call.sized(rows, length)
        given = [value for _, value in leaves(args, "input")]
        answer = [value for _, value in leaves(self.module(*args), "")]
        inputs = {name: _array(x) for name, x in zip(self.call.tensors, given, strict=True)}
        outputs = {name: _array(y) for name, y in zip(self.names, answer, strict=True)}
        frames = [inputs[name].shape[axis] for name, axis in self.call.time.items()]
        return Run(rows, frames[0] if self.call.steady else None, Example(inputs, outputs))

    def _others(self) -> Iterator[Run]:
        """Run with other numbers of rows and frames."""
        rows, time = self.call.rows, self.call.time
        if rows is not None:
            yield self._required(rows + 2, _same, f"batch of {rows + 2}", "batch_axis")
        if time:
            yield self._required(rows, _twice, "length of twice the example's", "time_axis")
        # What else it takes: lengths that share no factor with the example's, and less.
        for more, length in ((1, lambda n: n + 1), (0, lambda n: max(1, n // 2)), (3, _twice)):
            if time and (self.call.steady or length is _twice):
                try:
                    yield self._run(rows and rows + more, length)
                except Exception:  # whatever the module raises: too short, not a multiple
                    continue

    def _required(self, rows: int | None, length: Any, what: str, option: str) -> Run:
        try:
            return self._run(rows, length)
        except Exception as error:  # whatever the module raises
            raise ValueError(
                f"export: {type(self.module).__name__} does not take a {what}: {reason(error)}; "
                f"say so with {option}=None, or give {option}={{name: axis}}"
            ) from error


def _same(frames: int) -> int:
    return frames


def _twice(frames: int) -> int:
    return 2 * frames


def _array(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy())  # a copy: modules may give their buffers
