"""A case, by fastrnn and by other runtimes: the rows of a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.measure.cases import Case, Weights, random_weights, weight_share
from fastrnn.measure.limits import Limits
from fastrnn.measure.peers import PEERS, Fastrnn, Runner, inference_mode
from fastrnn.measure.peers.runner import Array
from fastrnn.measure.timing import ROUNDS, Contestant, Times, calling_with, interleave, paired

RTOL, ATOL = 1e-4, 1e-5  # of float32 outputs against ours
INPUTS = 3  # different x, in turn
NEAR = 1.25  # ways to use a runtime that are this near to its fastest are all measured
LONG_CASE = 2e5  # microseconds per call of ours: then fewer rounds, and one x is checked
LONG_ROUNDS = (3, 5)

Row = dict[str, Any]
OTHERS: Row = {"engine": None, "isa": None, "threads": 1, "weight_dtype": None}


@dataclass
class Samples:
    """What one runner of a case took: in a row, and round by round."""

    row: Row
    us_per_step: Times  # (rounds, 2): CPU, wall


def measure_case(
    case: Case,
    weights: Weights | None = None,
    *,
    layer_options: Sequence[Mapping[str, Any]] = ({},),
    peers: Sequence[str] = (),
    seconds: float = 0.5,
    limits: Limits | Mapping[str, Limits],
    rounds: tuple[int, int] = ROUNDS,
    progress: Callable[[float], object] | None = None,
) -> list[Row]:
    """Time `case` by layers of each of `layer_options` and by `peers`, turn by turn.

    The outputs of all are checked against the first layer's before anything is timed.

    Parameters
    ----------
    case : Case
    weights : dict of name to array, optional
        Named as torch names them; random ones if None.
    layer_options : sequence of dict
        Options of `from_state_dict`: engine, isa, threads, weight_dtype. The first is what ratios
        refer to.
    peers : sequence of str
        Names in `PEERS`; those that are not installed, or cannot run the case, give no row.
    seconds : float
        For all rounds; see `timing.interleave`.
    limits : Limits, or dict of ISA to Limits
        What the fractions refer to; of a dict, the row's own ISA, else the last one.
    rounds, progress
        See `timing.interleave`.

    Returns
    -------
    list of dict
        A row for each layer, in order, and for the fastest way to use each peer. Times are CPU
        time of the process, but wall time in rows of several threads and in ratios with them; the
        limit is one core's.

    Raises
    ------
    AssertionError
        If outputs do not agree.
    """
    samples = sample_case(
        case,
        weights,
        layer_options=layer_options,
        peers=peers,
        seconds=seconds,
        limits=limits,
        rounds=rounds,
        progress=progress,
    )
    return [sample.row for sample in samples]


def sample_case(
    case: Case,
    weights: Weights | None = None,
    *,
    layer_options: Sequence[Mapping[str, Any]] = ({},),
    peers: Sequence[str] = (),
    seconds: float = 0.5,
    limits: Limits | Mapping[str, Limits],
    rounds: tuple[int, int] = ROUNDS,
    progress: Callable[[float], object] | None = None,
) -> list[Samples]:
    """Do as `measure_case`, and return the samples beside the rows."""
    weights = random_weights(case) if weights is None else weights
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(case.x_shape).astype(np.float32) for _ in range(INPUTS)]
    with inference_mode():
        ours = [Fastrnn(case, weights, **options) for options in layer_options]
        expected = [ours[0].to_numpy(ours[0].call(x)) for x in inputs]
        entries = [_Entry("fastrnn", ours[0], inputs)]
        long = entries[0].contestant.first_look > LONG_CASE
        expected = expected[: 1 if long else INPUTS]
        entries += [
            _Entry("fastrnn", layer, *check(layer, inputs, expected, layer.rms))
            for layer in ours[1:]
        ]
        for name in peers:
            if PEERS[name].missing:
                continue
            ways = [
                _Entry(name, runner, *check(runner, inputs, expected, PEERS[name].rms))
                for runner in PEERS[name].make(case, weights)
            ]
            best = min((way.contestant.first_look for way in ways), default=0.0)
            entries += [way for way in ways if way.contestant.first_look <= NEAR * best]
        contestants = {str(i): entry.contestant for i, entry in enumerate(entries)}
        times = interleave(contestants, seconds, LONG_ROUNDS if long else rounds, progress)
    per_step = [times[i] / case.steps for i in contestants]
    return _fastest_ways(
        [
            Samples(_row(case, entry, values, per_step[0], limits), values)
            for entry, values in zip(entries, per_step, strict=True)
        ]
    )


class _Entry:
    """A runner, what it is called, its part in the contest, and its outputs' difference to ours."""

    def __init__(
        self, name: str, runner: Runner, inputs: Sequence[Any], difference: float = 0.0
    ) -> None:
        self.name, self.runner, self.difference = name, runner, difference
        self.contestant = Contestant(calling_with(runner.call, inputs), runner.enter)


def check(
    runner: Runner,
    inputs: Sequence[Array],
    expected: Sequence[Array],
    rms: float | None = None,
) -> tuple[list[Any], float]:
    """Return the inputs in the runner's form, after its outputs for them were as expected.

    To float32's tolerance, or to a root-mean-square difference of `rms`. Also returns the largest
    difference.

    Raises
    ------
    AssertionError
        If they are not.
    """
    runner.enter()
    own = [runner.convert(x) for x in inputs]
    largest = 0.0
    for x, y in zip(own, expected, strict=False):
        got = runner.to_numpy(runner.call(x))
        largest = max(largest, float(np.abs(got - y).max()))
        if rms is None:
            np.testing.assert_allclose(got, y, RTOL, ATOL, err_msg=f"{runner.case}: {runner.name}")
        elif not (off := float(np.sqrt(np.mean((got - y) ** 2)))) <= rms:
            raise AssertionError(f"{runner.case}: {runner.name}: off by {off:.3g} (RMS) > {rms}")
    return own, largest


def _fastest_ways(samples: list[Samples]) -> list[Samples]:
    """All of fastrnn's, and of each peer the fastest."""
    fastest: dict[tuple[str, int], Samples] = {}
    for i, sample in enumerate(samples):
        name = sample.row["runner"]
        key = (name, i if name == "fastrnn" else 0)
        if key not in fastest or sample.row["us_per_step"] < fastest[key].row["us_per_step"]:
            fastest[key] = sample
    return list(fastest.values())


def _row(
    case: Case,
    entry: _Entry,
    times: Times,
    base: Times,
    limits: Limits | Mapping[str, Limits],
) -> Row:
    runner = entry.runner
    how = runner.how if isinstance(runner, Fastrnn) else dict(OTHERS)
    column = 1 if how["threads"] > 1 else 0
    quarter, us, three = np.percentile(times[:, column], (25, 50, 75))
    if isinstance(limits, Limits):
        limit = limits.us_per_step(case, how["weight_dtype"])
    else:
        of_isa = limits.get(how["isa"]) or list(limits.values())[-1]
        limit = of_isa.us_per_step(case, how["weight_dtype"])
    return {
        "id": case.id,
        "group": case.group,
        "name": case.name,
        "cell": case.cell,
        "input_size": case.input_size,
        "hidden_size": case.hidden_size,
        "num_layers": case.num_layers,
        "proj_size": case.proj_size,
        "bidirectional": case.bidirectional,
        "batch": case.batch,
        "steps": case.steps,
        "runner": entry.name,
        "how": runner.name,
        **how,
        "us_per_step": float(us),
        "us_per_step_25": float(quarter),
        "us_per_step_75": float(three),
        "us_per_step_wall": float(np.median(times[:, 1])),
        "us_per_stream_step": float(us) / case.batch,
        "rounds": len(times),
        "gflops": case.flops_per_step / us / 1e3,
        "gb_per_s": case.bytes_per_step * weight_share(how["weight_dtype"]) / us / 1e3,
        "limit_us": limit,
        "limit_fraction": limit / us,
        "ratio": paired(times, base, column),
        "max_difference": entry.difference,
    }
