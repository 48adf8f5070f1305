"""Time fastrnn beside torch, ONNX Runtime and OpenVINO: one process, one thread, turn by turn.

Every round times every runtime once, so that whatever else the machine does meets all alike; a
ratio is the median over the rounds of the peer's time over fastrnn's in the same round. Times are
the process's CPU time, and beside it in the JSON the wall's. See README.md beside this file.
"""

from __future__ import annotations

import os

# Read when the libraries are loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import cycle, islice, product
from pathlib import Path
from time import perf_counter, process_time
from timeit import Timer
from typing import Any

import numpy as np
from peers import PEERS, Case, Fastrnn, Runner, inference_mode, random_weights, versions

import fastrnn

SIZES = [32, 64, 128, 256, 512, 1024]
BATCHES = [1, 4, 16, 64]
SEQUENCE = 100  # steps
SEQUENCE_BATCHES = [1, 4, 32]
SEQUENCE_LEAST_SIZE = 128
QUICK = {"sizes": [32, 128, 512], "batches": [1, 16], "sequence_batches": [1, 4]}

SAMPLE = 5e-4  # seconds: short enough to fall between two interruptions, mostly
LONG = 1e-2  # seconds: a call of this length has its weights in the cache soon enough
ROUNDS = (5, 151)
INPUTS = 3  # different x, in turn
NEAR = 1.25  # ways to use a runtime that are this near to its fastest are all measured
RTOL, ATOL = 1e-4, 1e-5  # of a peer's outputs against ours

Seconds = Callable[[int], np.ndarray]  # CPU, wall: of that many calls


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clocks() -> np.ndarray:
    return np.array([process_time(), perf_counter()])


def seconds_of(runner: Runner, inputs: list[Any]) -> Seconds:
    def seconds(calls: int) -> np.ndarray:
        runner.enter()
        call = runner.call
        order = list(islice(cycle(inputs), calls))
        start = clocks()
        for x in order:
            call(x)
        return clocks() - start

    return seconds


@dataclass
class Contestant:
    """What is timed, and how many calls make a sample."""

    seconds: Seconds
    calls: int = 1

    def __post_init__(self) -> None:
        self.seconds(1)
        took, _ = self.seconds(1)
        while took < SAMPLE / 2:
            self.calls *= 2
            took, _ = self.seconds(self.calls)
        self.calls = max(1, round(self.calls * SAMPLE / took))
        self.first_look = 1e6 * took
        if took < LONG:
            self.first_look = min(self.sample()[0] for _ in range(3))

    def sample(self) -> np.ndarray:
        """Microseconds per call: CPU, wall."""
        return 1e6 * self.seconds(self.calls) / self.calls


def interleave(contestants: Mapping[str, Contestant], budget: float) -> dict[str, np.ndarray]:
    """Samples (rounds, 2) of every contestant.

    Before its sample each makes some calls unmeasured, to have its weights back in the cache.
    """
    times: dict[str, list[np.ndarray]] = {name: [] for name in contestants}
    start = perf_counter()
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and perf_counter() - start > budget:
            break
        for name, contestant in contestants.items():
            if contestant.first_look < 1e6 * LONG:
                contestant.seconds(max(1, contestant.calls // 4))
            times[name].append(contestant.sample())
    return {name: np.array(values) for name, values in times.items()}


def spread(times: np.ndarray, **more: Any) -> dict[str, Any]:
    (quarter, _), (us, us_wall), (three, _) = np.percentile(times, (25, 50, 75), axis=0)
    return {
        "us": us,
        "us_25": quarter,
        "us_75": three,
        "us_wall": us_wall,
        "rounds": len(times),
        **more,
    }


def paired(times: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Median ratio in the same round: CPU, wall."""
    return np.median(times / base, axis=0)


def check(runner: Runner, inputs: list[np.ndarray], expected: list[np.ndarray]) -> list[Any]:
    """Return the inputs in the runner's form, after its outputs for them were as expected."""
    runner.enter()
    own = [runner.convert(x) for x in inputs]
    for x, y in zip(own, expected, strict=True):
        np.testing.assert_allclose(
            runner.to_numpy(runner.call(x)), y, RTOL, ATOL, err_msg=runner.name
        )
    return own


def nearest(ways: Mapping[str, Contestant]) -> dict[str, Contestant]:
    """Those of one runtime's ways that are near to its fastest, by a first look."""
    best = min((way.first_look for way in ways.values()), default=0)
    return {name: way for name, way in ways.items() if way.first_look <= NEAR * best}


def measure(case: Case, budget: float, rng: np.random.Generator) -> dict[str, Any]:
    """One case: fastrnn, every peer, the fastest of them and its ratio."""
    weights = random_weights(case, rng)
    inputs = [rng.standard_normal(case.x_shape).astype(np.float32) for _ in range(INPUTS)]
    ours = Fastrnn(case, weights)
    expected = [np.array(ours.call(x)) for x in inputs]
    contestants = {"fastrnn": Contestant(seconds_of(ours, inputs))}
    peer_of: dict[str, str] = {}
    for peer in PEERS:
        runners = [] if PEERS[peer].missing else PEERS[peer].make(case, weights)
        ways = nearest(
            {r.name: Contestant(seconds_of(r, check(r, inputs, expected))) for r in runners}
        )
        contestants |= ways
        peer_of |= dict.fromkeys(ways, peer)
    times = interleave(contestants, budget)
    peers: dict[str, dict[str, Any]] = {}
    for name, peer in peer_of.items():
        ratio, wall = paired(times[name], times["fastrnn"])
        row = spread(times[name], how=name, ratio=ratio, ratio_wall=wall)
        if peer not in peers or row["us"] < peers[peer]["us"]:
            peers[peer] = row
    fastest = min(peers, key=lambda peer: peers[peer]["us"], default=None)
    return {
        "cell": case.cell,
        "size": case.size,
        "batch": case.batch,
        "steps": case.steps,
        "fastrnn": spread(times["fastrnn"]),
        "peers": peers,
        "fastest": fastest,
        "ratio": peers[fastest]["ratio"] if fastest else None,
        "ratio_wall": peers[fastest]["ratio_wall"] if fastest else None,
    }


def overhead(budget: float, rng: np.random.Generator) -> dict[str, Any]:
    """What a Python call of `stream.step(x, out=y)` costs, beside that of `np.add(a, b, out=c)`."""
    a, b, c = (rng.standard_normal(8).astype(np.float32) for _ in range(3))
    timers = {"np.add of 8": Timer("add(a, b, out=c)", globals={"add": np.add, **locals()})}
    for cell, size in product(("LSTM", "GRU"), (1, 32)):
        runner = Fastrnn(Case(cell, size, 1), random_weights(Case(cell, size, 1), rng))
        names = {"step": runner.stream.step, "x": np.zeros_like(runner.out), "y": runner.out}
        timers[f"{cell} step H={size}"] = Timer("step(x, out=y)", globals=names)
    times = interleave({n: Contestant(seconds_of_timer(t)) for n, t in timers.items()}, budget)
    return {
        name: spread(values, ratio_to_add=paired(values, times["np.add of 8"])[0])
        for name, values in times.items()
    }


def seconds_of_timer(timer: Timer) -> Seconds:
    def seconds(calls: int) -> np.ndarray:
        start = clocks()
        timer.timeit(calls)
        return clocks() - start

    return seconds


def denormals(budget: float, rng: np.random.Generator) -> dict[str, float]:
    """Time with inputs and first states of 1e-40 over time with normal ones; without biases."""
    ratios = {}
    for cell, steps in product(("LSTM", "GRU"), (1, SEQUENCE)):
        case = Case(cell, 128, 1, steps)
        weights = {k: v for k, v in random_weights(case, rng).items() if "bias" not in k}
        contestants = {}
        for kind, scale in (("normal", 1.0), ("denormal", 1e-40)):
            runner = Fastrnn(case, weights)
            state = np.full(case.state_shape, scale, np.float32)
            runner.stream.state = (state, state) if cell == "LSTM" else state
            x = np.full(case.x_shape, scale, np.float32)
            contestants[kind] = Contestant(seconds_of(runner, [x]))
        times = interleave(contestants, budget)
        ratios[str(case)] = paired(times["denormal"], times["normal"])[0]
    return ratios


def geometric_mean(ratios: list[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def summarise(cases: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for what, of in (
        ("step", [c for c in cases if c["steps"] == 1]),
        ("sequence", [c for c in cases if c["steps"] > 1]),
    ):
        with_peer = [c for c in of if c["ratio"] is not None]
        if with_peer:
            worst = min(with_peer, key=lambda c: c["ratio"])
            summary[what] = {
                "geometric_mean": geometric_mean([c["ratio"] for c in with_peer]),
                "geometric_mean_wall": geometric_mean([c["ratio_wall"] for c in with_peer]),
                "geometric_mean_by_peer": {
                    peer: geometric_mean([c["peers"][peer]["ratio"] for c in with_peer])
                    for peer in PEERS
                    if all(peer in c["peers"] for c in with_peer)
                },
                "worst": worst["ratio"],
                "worst_case": title(worst),
                "slower": [f"{title(c)}: {c['ratio']:.2f}" for c in with_peer if c["ratio"] < 1],
            }
    return summary


def title(case: Mapping[str, Any]) -> str:
    return str(Case(case["cell"], case["size"], case["batch"], case["steps"]))


def print_report(report: Mapping[str, Any]) -> None:
    peers = [peer for peer in PEERS if any(peer in case["peers"] for case in report["cases"])]
    print(f"{report['cpu']}, {report['isa']}, one thread; microseconds of CPU time, medians")
    print(f"{'':24}" + "".join(f"{n:>13}" for n in ("fastrnn", *peers)) + "   fastest peer/fastrnn")
    for case in report["cases"]:
        cells = [case["fastrnn"]["us"], *(case["peers"].get(p, {}).get("us") for p in peers)]
        row = "".join(f"{'-':>13}" if us is None else f"{us:13.1f}" for us in cells)
        end = f"{case['ratio']:8.2f}  {case['fastest']}" if case["fastest"] else ""
        print(f"{title(case):24}{row}   {end}")
    for what, s in report["summary"].items():
        mean = f"geometric mean {s['geometric_mean']:.2f} (wall {s['geometric_mean_wall']:.2f})"
        worst = f"worst {s['worst']:.2f} ({s['worst_case']})"
        print(f"\n{what}: {mean}, {worst}, slower in {len(s['slower'])} cases")
        for peer, ratio in s["geometric_mean_by_peer"].items():
            print(f"    {peer:16}{ratio:6.2f}")
        for line in s["slower"]:
            print(f"    {line}")
    print("\nPython call")
    for name, row in report["overhead"].items():
        print(f"    {name:20}{row['us']:8.3f} us {row['ratio_to_add']:8.2f} x np.add")
    print("\ndenormal over normal")
    for name, ratio in report["denormals"].items():
        print(f"    {name:24}{ratio:6.2f}")


def shortened(report: Any) -> Any:
    """Four significant digits of every figure."""
    return json.loads(json.dumps(report), parse_float=lambda digits: float(f"{float(digits):.4g}"))


def commit() -> str | None:
    """Of the repository this file is in."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a part of the grid, under a minute")
    parser.add_argument("--cells", nargs="+", default=["LSTM", "GRU"], choices=["LSTM", "GRU"])
    parser.add_argument("--sizes", nargs="+", type=int, help="H, which is I too")
    parser.add_argument("--batches", nargs="+", type=int, help="B of single steps")
    parser.add_argument("--sequence-batches", nargs="*", type=int, help=f"B of T={SEQUENCE}")
    parser.add_argument("--seconds", type=float, help="for the rounds of one case")
    parser.add_argument("--out", type=Path, help="JSON; default results/compare-<cpu>.json")
    options = parser.parse_args()
    full = {"sizes": SIZES, "batches": BATCHES, "sequence_batches": SEQUENCE_BATCHES}
    for name, values in (QUICK if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, values)
    if options.seconds is None:
        options.seconds = 0.4 if options.quick else 1.2
    return options


def main() -> None:
    options = arguments()
    info = fastrnn.info()
    for name, peer in PEERS.items():
        if peer.missing:
            say(f"{name}: left out, not installed: {', '.join(peer.missing)}")
    grid = [
        Case(cell, size, batch, steps)
        for cell, steps in product(options.cells, (1, SEQUENCE))
        for batch in (options.batches if steps == 1 else options.sequence_batches)
        for size in options.sizes
        if steps == 1 or size >= SEQUENCE_LEAST_SIZE
    ]
    rng = np.random.default_rng(0)
    load = [os.getloadavg()[0]]
    cases = []
    gc.disable()
    with inference_mode():
        call, decay = overhead(options.seconds, rng), denormals(options.seconds, rng)
        for done, case in enumerate(grid, 1):
            cases.append(measure(case, options.seconds, rng))
            gc.collect()
            say(f"{done}/{len(grid)} {case}: {cases[-1]['ratio'] or 0:.2f}")
    load.append(os.getloadavg()[0])
    report = {
        "cpu": info["cpu"],
        "cores": info["cores"],
        "isa": info["isa"]["chosen"],
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {k: info[k] for k in ("python", "numpy", "scipy", "platform")}
        | {"fastrnn": info["version"], **versions()},
        "settings": {"threads": 1, "seconds": options.seconds, "sample": SAMPLE, "load": load},
        "summary": summarise(cases),
        "overhead": call,
        "denormals": decay,
        "cases": cases,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", info["cpu"].lower()).strip("-")
    out = options.out or Path(__file__).parent / "results" / f"compare-{slug}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(shortened(report), indent=1) + "\n")
    print_report(report)
    say(f"written to {out}")


if __name__ == "__main__":
    main()
