"""What callers give and get along time: whole frames, or one without the axis of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn.formats import onnx
from fastrnn.models.along_time.unrolled import Unrolled
from fastrnn.models.batch import Batch
from fastrnn.models.intake import Intake, Outlet
from fastrnn.models.ops.table import Array

_FRAMES = "frames"


class TimeLayout:
    """The checks of inputs and the layouts of outputs; messages begin with `what`."""

    def __init__(self, unrolled: Unrolled, what: str) -> None:
        self._what, self._unrolled = what, unrolled
        inputs, axes = unrolled.graph.inputs, unrolled.axes
        batches = {name: fact.batch for name, fact in unrolled.inputs.items()}
        whole: list[onnx.Value] = []
        single: list[onnx.Value] = []
        rest: list[onnx.Value] = []
        single_axes: dict[str, int | None] = dict(batches)
        self._time: dict[str, int] = {}  # of each input that has it, its rows in front
        for value in inputs:
            if value.name not in axes.time:
                for values in (whole, single, rest):
                    values.append(value)
                continue
            time, batch = axes.time[value.name], batches[value.name]
            shape: list[Any] = list(value.shape or ())
            shape[time] = _FRAMES
            whole.append(replace(value, shape=tuple(shape)))
            single.append(replace(value, shape=tuple(shape[:time] + shape[time + 1 :])))
            single_axes[value.name] = None if batch is None else batch - (batch > time)
            self._time[value.name] = in_front(time, batch)
        rows_axes: dict[str, int | None] = {value.name: 0 for value in inputs}
        first = [self._frames_first(value, batches[value.name]) for value in inputs]
        self._first = Intake(first, Batch(rows_axes, axes.single), what)
        self._inputs = [value.name for value in inputs]
        self._rest_names = [value.name for value in rest]
        self._whole = Intake(whole, Batch(batches, axes.single), what)
        self._single = Intake(single, Batch(single_axes, axes.single), what)
        self._rest = Intake(rest, Batch(batches, axes.single), what)
        rows: dict[str, int | None] = {}
        one: dict[str, int | None] = {}
        self._out_time = {}
        for name, fact in unrolled.outputs.items():
            assert fact.time is not None
            rows[name] = fact.batch
            one[name] = None if fact.batch is None else fact.batch - (fact.batch > fact.time)
            self._out_time[name] = in_front(fact.time, fact.batch)
        self._names = list(rows)
        self._all, self._one = (
            Outlet(self._names, Batch(rows, False)),
            Outlet(self._names, Batch(one, False)),
        )

    def _frames_first(self, value: onnx.Value, batch: int | None) -> onnx.Value:
        """An input whose rows come first, and then its frames."""
        time = self._unrolled.axes.time.get(value.name)
        shape = list(value.shape or ())
        rest = [n for i, n in enumerate(shape) if i not in (time, batch)]
        return replace(value, shape=(None, *(() if time is None else (_FRAMES,)), *rest))

    def rows(
        self, args: Sequence[Any], named: Mapping[str, Any], rows: int
    ) -> tuple[dict[str, Array], int]:
        """Inputs (n, T, ...), or without T, with rows in front and time where it is in the file."""
        arrays = self._first.rows(args, named, rows)
        given = dict(zip(self._inputs, arrays, strict=True))
        frames = 0
        for name, time in self._time.items():
            frames = given[name].shape[1]
            given[name] = np.moveaxis(given[name], 1, time)
        return given, frames

    def row(self, made: Mapping[str, Array], row: int) -> Any:
        """One stream's outputs, (T, ...)."""
        return self.by_name(
            {
                name: np.moveaxis(made[name][row], self._out_time[name] - 1, 0)
                for name in self._names
            }
        )

    def by_name(self, values: Mapping[str, Any]) -> Any:
        """A value for the only output, or a dict by name."""
        return dict(values) if len(values) > 1 else next(iter(values.values()))

    def only_frame(self) -> tuple[onnx.Value, onnx.Value]:
        """The only input and output of one frame of one row; ValueError if it has more, or lags."""
        unrolled = self._unrolled
        if len(unrolled.inputs) != 1 or len(unrolled.outputs) != 1 or not unrolled.prompt:
            raise ValueError(
                f"{self._what}: takes {', '.join(unrolled.inputs)} and gives "
                f"{', '.join(unrolled.outputs)} (delay {self.by_name(unrolled.delay)}), expected "
                "one input and output, and one frame for each at once"
            )
        made = []
        for name, fact in (*unrolled.inputs.items(), *unrolled.outputs.items()):
            axes = [axis for axis in fact.axes if axis.kind == "still"]
            made.append(onnx.Value(name, fact.dtype.name, tuple(axis.length for axis in axes)))
        return made[0], made[1]

    def frames(
        self, args: Sequence[Any], named: Mapping[str, Any], rows: int | None
    ) -> tuple[dict[str, Array], int]:
        """Inputs with any number of frames, rows in front."""
        given = dict(zip(self._inputs, self._whole.rows(args, named, rows), strict=True))
        name, time = next(iter(self._time.items()))
        return given, given[name].shape[time]

    def frame(
        self, args: Sequence[Any], named: Mapping[str, Any], rows: int | None
    ) -> dict[str, Array]:
        """Inputs of one frame, rows in front, with the axis of time put in."""
        if not self._unrolled.prompt:
            lags = self.by_name(self._unrolled.delay)
            raise ValueError(
                f"{self._what}: one frame in is not one frame out at once (delay {lags}): use run "
                "and finish"
            )
        given = dict(zip(self._inputs, self._single.rows(args, named, rows), strict=True))
        for name, time in self._time.items():
            given[name] = np.expand_dims(given[name], time)
        return given

    def rest(self, named: Mapping[str, Any], rows: int | None) -> dict[str, Array]:
        """Inputs that have no axis of time, rows in front."""
        return dict(zip(self._rest_names, self._rest.rows((), named, rows), strict=True))

    def out(self, out: Any) -> Array:
        """A caller's array for one frame of the only output, with its rows in front."""
        return self._one.rows(out, True)

    def fill(self, out: Array, groups: Sequence[tuple[Array, Mapping[str, Array]]], n: int) -> None:
        """Write one frame of n rows into an array that `out` gave; ValueError or TypeError."""
        name = self._names[0]
        fact = self._unrolled.outputs[name]
        frame = fact.shape(1, 1)
        rows = [i for i in range(len(frame)) if i not in (fact.time, fact.batch)]
        wanted = (n, *(frame[i] for i in rows))
        if out.dtype != fact.dtype or not out.flags.writeable:
            raise TypeError(f"{self._what}: out is not a writeable array of {fact.dtype}")
        if out.shape != wanted:
            raise ValueError(f"{self._what}: out is {out.shape}, expected {wanted}, rows in front")
        for where, made in groups:
            out[where] = made[name].squeeze(self._out_time[name])

    def given(self, given: Mapping[str, Array], single: bool, batched: bool) -> list[Array]:
        """The reverse of `frame`, or of `frames`."""
        arrays = [
            given[name].squeeze(self._time[name]) if single and name in self._time else given[name]
            for name in self._inputs
        ]
        return (self._single if single else self._whole).shown(arrays, batched)

    def made(self, made: Mapping[str, Array], single: bool, batched: bool) -> list[Array]:
        """Outputs in the file's layout; those of one frame without the axis of time."""
        if not single:
            return self._all.views([made[name] for name in self._names], batched)
        frames = [made[name].squeeze(self._out_time[name]) for name in self._names]
        return self._one.views(frames, batched)

    def named(self, shown: Sequence[Array]) -> Any:
        """What `made` returned, as a caller gets it."""
        return self._all.named(shown)


def in_front(time: int, batch: int | None) -> int:
    """Where time is once the rows are in front."""
    return time + (batch is None or batch > time)
