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


def measure_calls(
    model: Model, session: Session | None, inputs: Arrays, seconds: float
) -> list[Row]:
    """Time whole calls of the model; raises AssertionError where outputs differ."""

    def ours(given: Arrays) -> dict[str, Array]:
        return _named(model, model(**given))

    peers = [] if session is None else [Run(session, inputs, {}), Bound(session, inputs, {})]
    return _measure(ours, peers, inputs, seconds)


def measure_steps(
    model: Model, session: Session | None, inputs: Arrays, rows: int, seconds: float
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
    stream: Any = model.stream(rows)
    states = model.states
    names = [name for name in model.outputs if name not in states.values()]

    def ours(given: Arrays) -> dict[str, Array]:
        made = stream.step(**given)
        return made if isinstance(made, dict) else dict(zip(names, [made], strict=True))

    peers = [] if session is None else [kind(session, inputs, states) for kind in (Run, Bound)]
    return _measure(ours, peers, {n: a for n, a in inputs.items() if n not in states}, seconds)


def measure_frames(model: Model, frame: Arrays, rows: int, seconds: float) -> list[Row]:
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
    stream: Any = model.stream(rows)
    return _measure(lambda given: _named(model, stream.run(**given)), [], frame, seconds)


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
            if not off <= TOLERANCE:
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
