"""A whole model beside ONNX Runtime on the same file: calls, and steps that carry states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.measure.sessions import Bound, Run, Session
from fastrnn.measure.timing import interleave, paired
from fastrnn.models import Model
from fastrnn.models.example import TOLERANCE, largest

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

OURS = "fastrnn"
CHECKED = 3  # calls whose outputs are compared before anything is timed


@dataclass(frozen=True)
class Row:
    """How long one runner takes for a call.

    us, us_wall: microseconds, medians of CPU and wall time.
    ratio: to fastrnn's, the median over rounds.
    difference: of outputs to fastrnn's, as a part of the output's largest value.
    """

    runner: str
    us: float
    us_wall: float
    ratio: float
    difference: float


class Compact:
    """Ours with weights of integers, whose outputs are only nearly those of floats."""

    tolerance = 0.25

    def __init__(self, model: Model, call: Callable[[Arrays], dict[str, Array]]) -> None:
        (self.name,) = {f"{OURS} {layer.weight_dtype}" for layer in model.layers.values()}
        self._call = call

    def __call__(self, given: Arrays) -> dict[str, Array]:
        """Outputs by name."""
        return self._call(given)


def measure_calls(
    model: Model,
    session: Session | None,
    inputs: Arrays,
    seconds: float,
    compact: Model | None = None,
) -> list[Row]:
    """Time whole calls of the model, and of the same with weights of integers.

    Raises AssertionError where outputs differ.
    """

    def calls(model: Model) -> Callable[[Arrays], dict[str, Array]]:
        return lambda given: _named(model, model(**given))

    peers: list[Any] = [] if compact is None else [Compact(compact, calls(compact))]
    peers += [] if session is None else [Run(session, inputs, {}), Bound(session, inputs, {})]
    return _measure(calls(model), peers, inputs, seconds)


def measure_steps(
    model: Model,
    session: Session | None,
    inputs: Arrays,
    rows: int,
    seconds: float,
    compact: Model | None = None,
) -> list[Row]:
    """Time steps of `rows` streams of a model whose file has states: a step is a call.

    ONNX Runtime carries the states from output to input.

    Parameters
    ----------
    inputs : arrays by name
        Of every input; those that are states are what ONNX Runtime begins with.

    Raises
    ------
    AssertionError
        Outputs differ.
    """
    states = model.states
    names = [name for name in model.outputs if name not in states.values()]
    given = {n: a for n, a in inputs.items() if n not in states}

    def steps(model: Model) -> Callable[[Arrays], dict[str, Array]]:
        stream: Any = model.stream(rows)

        def step(given: Arrays) -> dict[str, Array]:
            made = stream.step(*given.values())
            return made if isinstance(made, dict) else dict(zip(names, [made], strict=True))

        return step

    peers: list[Any] = [] if compact is None else [Compact(compact, steps(compact))]
    peers += [] if session is None else [kind(session, inputs, states) for kind in (Run, Bound)]
    return _measure(steps(model), peers, given, seconds)


def measure_frames(
    model: Model, frame: Arrays, rows: int, seconds: float, compact: Model | None = None
) -> list[Row]:
    """Time `rows` streams along time to which one frame comes at a time. Nothing else does that.

    Parameters
    ----------
    frame : arrays by name
        Of every input, with an axis of time of length 1.

    Raises
    ------
    ValueError
        The model does not stream.
    """

    def runs(model: Model) -> Callable[[Arrays], dict[str, Array]]:
        stream: Any = model.stream(rows)
        return lambda given: _named(model, stream.run(*given.values()))

    peers = [] if compact is None else [Compact(compact, runs(compact))]
    return _measure(runs(model), peers, frame, seconds)


def _measure(
    ours: Callable[[Arrays], dict[str, Array]],
    peers: list[Any],
    given: Arrays,
    seconds: float,
) -> list[Row]:
    differences = [0.0, *(0.0 for _ in peers)]
    for _ in range(CHECKED):
        expected = {name: np.array(array) for name, array in ours(given).items()}
        for i, peer in enumerate(peers, 1):
            off, name = largest(peer(given), expected)
            if not off <= getattr(peer, "tolerance", TOLERANCE):
                raise AssertionError(f"{peer.name}: output {name!r} is {off:.1e} off fastrnn's")
            differences[i] = max(differences[i], off)
    runners = {OURS: ours, **{peer.name: peer for peer in peers}}
    calls = {name: _calling(runner, given) for name, runner in runners.items()}
    times = interleave(calls, seconds)
    base = times[OURS]
    made = []
    for (name, own), difference in zip(times.items(), differences, strict=True):
        us, us_wall = np.median(own, axis=0).tolist()
        made.append(Row(name, us, us_wall, paired(own, base), difference))
    return made


def _calling(runner: Callable[[Arrays], Any], given: Arrays) -> Callable[[], Any]:
    return lambda: runner(given)


def _named(model: Model, answer: Any) -> dict[str, Array]:
    if isinstance(answer, dict):
        return answer
    return dict(zip(model.outputs, [answer], strict=True))
