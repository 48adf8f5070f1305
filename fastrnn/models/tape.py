"""A plan for inputs of one set of shapes: a flat list of calls that write into buffers.

What only looks at other values (Reshape, Transpose, Slice and their like) is a view of their
buffers and costs nothing when the tape runs. The arithmetic is the plan's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastrnn.models.ops.table import Array
from fastrnn.models.plan import Plan, Step

MOST_BYTES = 1 << 26  # of a tape's buffers; what is larger runs as a plan

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Tape:
    """Calls over buffers; used by one thread at a time.

    inputs: arrays to be filled before `run`. outputs: arrays that hold its results afterwards,
    until the next run.
    """

    def __init__(self, inputs: list[Array], outputs: list[Array], calls: list[Call]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._calls = calls

    def run(self) -> None:
        """Compute the outputs from the inputs."""
        with np.errstate(all="ignore"):
            for function, arguments in self._calls:
                function(*arguments)

    def __len__(self) -> int:
        return len(self._calls)


def record(plan: Plan, inputs: Sequence[Array]) -> Tape | None:
    """The tape of a plan for inputs of these shapes; None where shapes depend on values, or where
    the buffers would be large.

    Parameters
    ----------
    inputs : arrays
        With values for which the plan runs: recording is a run.
    """
    recorder = _Recorder(plan, inputs)
    with np.errstate(all="ignore"):
        for step in plan.steps:
            if not recorder.take(step):
                return None
    return recorder.tape()


class _Recorder:
    def __init__(self, plan: Plan, inputs: Sequence[Array]) -> None:
        self.plan = plan
        self.calls: list[Call] = []
        self.values: list[Any] = plan.start(inputs)
        self.constant = plan.constant()
        self.inputs = list(inputs)
        self.bytes = 0

    def take(self, step: Step) -> bool:
        """Run a step and note how to run it again; False where that cannot be known."""
        operator = step.node.op
        if operator is None:
            return False
        varying = [i for i, place in enumerate(step.inputs) if not self.constant[place]]
        if any(i in operator.shaped_by for i in varying):
            return False
        given = [self.values[place] for place in step.inputs]
        made = self._lay(step, given)
        if made is None:
            made = self._keep(step, given, varying)
        for place, array in zip(step.outputs, made, strict=False):
            self.values[place] = array
            self.bytes += array.nbytes
        return self.bytes <= MOST_BYTES

    def _lay(self, step: Step, given: list[Any]) -> tuple[Array, ...] | None:
        """What the operator itself knows of buffers."""
        lay = getattr(step.function, "lay", None)
        if lay is not None:
            return lay(self.calls, *given)  # type: ignore[no-any-return]
        operator = step.node.op
        assert operator is not None
        if operator.lay is None or _plain(step.function) is not operator.function:
            return None  # or prepared
        return operator.lay(self.calls, *given, **step.node.attributes)

    def _keep(self, step: Step, given: list[Any], varying: list[int]) -> list[Array]:
        """The results of a step in buffers, with the call that computes them again."""
        made = step.function(*given)
        results = [np.asarray(v) for v in (made if isinstance(made, tuple) else (made,))]
        if len(varying) == 1 and all(_is_view(one, given[varying[0]]) for one in results):
            return results
        operator = step.node.op
        assert operator is not None
        buffers = [np.copy(one, order="K") for one in results]
        if operator.takes_out and _plain(step.function) is operator.function:
            self.calls.append((partial(step.function, out=buffers[0]), tuple(given)))
        else:
            self.calls.append((_again, (step.function, given, buffers)))
        return buffers

    def tape(self) -> Tape:
        outputs = [np.asarray(self.values[place]) for place in self.plan.results]
        return Tape(self.inputs, outputs, self.calls)


def _again(function: Callable[..., Any], given: list[Any], buffers: list[Array]) -> None:
    made = function(*given)
    for buffer, value in zip(buffers, made if type(made) is tuple else (made,), strict=True):
        np.copyto(buffer, value)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator's function without the attributes that are bound to it."""
    return function.func if isinstance(function, partial) else function


def _is_view(array: Array, of: Array) -> bool:
    return array.size > 0 and np.may_share_memory(array, of)
