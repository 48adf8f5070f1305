"""What `fastrnn bench` measures: the cases, the ways to run them, and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.output import USAGE, CommandError
from fastrnn.layers import LAYERS
from fastrnn.layers.compact import LARGEST
from fastrnn.layers.engines import available_isas, choose_isa
from fastrnn.layers.recurrent import RecurrentLayer
from fastrnn.loading import load
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.latency import measure_latency
from fastrnn.measure.limits import Limits, as_json, measure_limits
from fastrnn.measure.measure import measure_case
from fastrnn.measure.peers import PEERS
from fastrnn.measure.record import new_record

Weights = dict[str, npt.NDArray[np.float32]]

BATCHES, QUICK_BATCHES = (1, 4, 16, 64), (1, 16)
STEPS = (1, 100)
SIZES, QUICK_SIZES = (32, 64, 128, 256, 512), (64, 256)
SEQUENCE_BATCHES = 2  # of the batches, from the smallest on, for more than one step per call
RATE_HZ, RATE_STEPS, FLAT_OUT_SECONDS, FLAT_OUT_STEPS = 100.0, 300, 2.0, 100_000
PARTS = 1000  # of the progress of one case


@dataclass(frozen=True)
class BenchedStack:
    """A stack to time: its case of one step and row, its weights, and what to call it."""

    title: str
    case: Case
    weights: Weights
    file: str | None = None
    prefix: str | None = None

    @classmethod
    def of_file(cls, path: str, prefix: str) -> BenchedStack:
        """Read a stack, as float32; raises as `load`."""
        layer: RecurrentLayer[Any] = load(path, prefix, dtype=np.float32)
        case = Case(
            type(layer).__name__,
            layer.input_size,
            layer.hidden_size,
            num_layers=layer.num_layers,
            group="file",
            proj_size=layer.proj_size,
            bidirectional=layer.bidirectional,
        )
        weights = layer.state_dict()
        for name, shape in case.config.shapes().items():  # of a stack without biases
            weights.setdefault(name, np.zeros(shape, np.float32))
        where = f"{path} {prefix}".rstrip()
        return cls(f"{where}: {case.config}", case, weights, path, prefix)

    @classmethod
    def of_sizes(
        cls, cell: str, input_size: int, hidden_size: int, num_layers: int
    ) -> BenchedStack:
        """Make a stack of random weights."""
        case = Case(cell, input_size, hidden_size, num_layers=num_layers, group="file")
        return cls(f"{case.config}, random weights", case, random_weights(case))


@dataclass(frozen=True)
class Work:
    """One call of `measure_case`."""

    case: Case
    weights: Weights | None
    layer_options: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """All that is measured."""

    stack: BenchedStack
    work: Sequence[Work]
    peers: Sequence[str]
    quick: bool


def choose_peers(
    all_of_them: bool, names: Sequence[str] | None
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the peers to time, and those left out with the packages that they miss.

    Raises
    ------
    CommandError
        For a name that is none, or one asked for by name that is not installed.
    """
    wanted = list(dict.fromkeys(names)) if names else list(PEERS) if all_of_them else []
    for name in wanted:
        if name not in PEERS:
            raise CommandError(f"--peer {name}: expected one of {', '.join(PEERS)}", USAGE)
        if names and PEERS[name].missing:
            missing = ", ".join(PEERS[name].missing)
            raise CommandError(f"--peer {name}: not installed: {missing}", USAGE)
    missing_of = {name: PEERS[name].missing for name in wanted if PEERS[name].missing}
    return [name for name in wanted if name not in missing_of], missing_of


def make_plan(
    stack: BenchedStack,
    *,
    batches: Sequence[int] | None,
    steps: Sequence[int] | None,
    threads: Sequence[int] | None,
    weight_dtype: str | None,
    peers: Sequence[str],
    quick: bool,
) -> Plan:
    """Lay out what is measured; None: the default."""
    batches = batches or (QUICK_BATCHES if quick else BATCHES)
    steps = steps or STEPS
    if stack.case.bidirectional and steps == STEPS:
        steps = STEPS[1:]  # it cannot be streamed
    ways = _ways(threads, weight_dtype)
    work = []
    for count in steps:
        for batch in batches if count == 1 else batches[:SEQUENCE_BATCHES]:
            case = replace(stack.case, batch=batch, steps=count)
            work.append(Work(case, stack.weights, ways))
    if not stack.case.bidirectional:
        for size in QUICK_SIZES if quick else SIZES:
            work.append(Work(Case(stack.case.cell, size, size, group="sizes"), None, [{}]))
    return Plan(stack, work, peers, quick)


def _ways(threads: Sequence[int] | None, weight_dtype: str | None) -> list[dict[str, Any]]:
    """Options of layers: the default, the other ISAs, BLAS, integers, and more threads."""
    from fastrnn.machine import info

    default = choose_isa(None)
    ways: list[dict[str, Any]] = [{}]
    ways += [{"isa": isa} for isa in reversed(available_isas()) if isa != default]
    ways += [{"engine": "blas"}]
    if weight_dtype in LARGEST:
        ways += [{"weight_dtype": weight_dtype, **({} if isa == default else {"isa": isa})}
                 for isa in reversed(available_isas())]  # fmt: skip
    if threads is None:
        threads = (2,) if info()["cores"] > 1 else ()
    return ways + [{"threads": count} for count in threads if count > 1]


def measure(plan: Plan, seconds: float, progress: Callable[[int, int], object]) -> dict[str, Any]:
    """Carry `plan` out, and return the record."""
    stack = plan.stack
    # The last is what limits the rows that have no ISA of their own.
    isas = sorted(available_isas(), key=lambda isa: isa == choose_isa(None))
    total = PARTS * (len(isas) + len(plan.work) + 2)
    done = 0

    def part(fraction: float) -> None:
        progress(done + int(PARTS * min(1.0, fraction)), total)

    limits: dict[str, Limits] = {}
    for isa in isas:
        part(0)
        limits[isa] = measure_limits(isa, quick=True)
        done += PARTS
    rows: list[dict[str, Any]] = []
    differing: list[dict[str, Any]] = []
    for work in plan.work:
        part(0)
        found, problems = _measure_those_that_agree(
            work, plan.peers, seconds=seconds, limits=limits, progress=part
        )
        rows += found
        differing += problems
        done += PARTS
    latency = []
    if not stack.case.bidirectional:
        layer = LAYERS[stack.case.cell].from_state_dict(stack.weights)
        first = next((row["us_per_step_wall"] for row in rows if row["steps"] == 1), 1e3)
        steps = int(1e6 * FLAT_OUT_SECONDS / first / (4 if plan.quick else 1))
        for rate, count in ((RATE_HZ, RATE_STEPS), (None, min(max(steps, 100), FLAT_OUT_STEPS))):
            if rate is None or not plan.quick:
                latency.append(measure_latency(layer, rate, count, part))
            done += PARTS
    return {
        **new_record(),
        "file": stack.file,
        "prefix": stack.prefix,
        "limits": {isa: as_json(found) for isa, found in limits.items()},
        "cases": rows,
        "latency": latency,
        "differing": differing,
    }


def _measure_those_that_agree(
    work: Work, peers: Sequence[str], **options: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of `work`, and who was left out since its outputs are not as ours."""
    try:
        rows = measure_case(
            work.case, work.weights, layer_options=work.layer_options, peers=peers, **options
        )
        return rows, []
    except AssertionError:
        pass  # somebody's: below, one by one
    first, *others = work.layer_options
    layers: list[Mapping[str, Any]] = [first]
    agreeing: list[str] = []
    differing: list[dict[str, Any]] = []
    ways: list[tuple[str, Sequence[Mapping[str, Any]], Sequence[str]]] = [
        *((f"fastrnn {_in_words(layer)}", [first, layer], ()) for layer in others),
        *((peer, [first], [peer]) for peer in peers),
    ]
    for name, two, one in ways:
        try:
            measure_case(
                work.case,
                work.weights,
                layer_options=two,
                peers=one,
                seconds=0,
                limits=options["limits"],
                rounds=(1, 1),
            )
        except AssertionError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = "; ".join(lines[:3])
            differing.append({"id": work.case.id, "runner": name, "reason": reason})
        else:
            layers += two[1:]
            agreeing += one
    rows = measure_case(work.case, work.weights, layer_options=layers, peers=agreeing, **options)
    return rows, differing


def _in_words(layer: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in layer.items())
