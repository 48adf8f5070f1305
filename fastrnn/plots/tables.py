"""What pages, pictures and README read out of a record: rows by case, in words. Needs no extra."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Record = Mapping[str, Any]

OURS = "fastrnn"
LABELS = {
    OURS: "fastrnn",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ncnn": "ncnn",
    "tract": "tract",
    "torch cell": "torch cell",
    "torch": "torch module",
    "torch int8": "torch int8",
}  # in the order in which they stand beside one another
ROUGH = ("torch int8",)  # with coarser weights: shown, and not what ours is compared with
TABLE_GROUPS = {
    "file": "This model",
    "sizes": "Other hidden sizes",
    "models": "Published models",
    "grid": "Grid",
    "deepbench": "DeepBench",
    "engines": "Engines and instruction sets",
}


def label(runner: str) -> str:
    """Return a runner's name as people write it."""
    return LABELS.get(runner, runner)


def runners(rows: Iterable[Row]) -> list[str]:
    """Return the runners of `rows`, in the order in which they stand beside one another."""
    found = dict.fromkeys(row["runner"] for row in rows)
    known = [runner for runner in LABELS if runner in found]
    return known + [runner for runner in found if runner not in LABELS]


def by_case(rows: Iterable[Row]) -> dict[str, dict[str, Row]]:
    """Return case id -> runner -> row; of several of one runner the first, which ratios are over.

    Cases that fastrnn did not run are left out.
    """
    cases: dict[str, dict[str, Row]] = {}
    for row in rows:
        cases.setdefault(row["id"], {}).setdefault(row["runner"], row)
    return {name: of for name, of in cases.items() if OURS in of}


def fastest_other(of: Mapping[str, Row]) -> Row | None:
    """Return the fastest of the other runners of one case, but for those with coarser weights."""
    others = [row for name, row in of.items() if name != OURS and name not in ROUGH]
    return min(others, key=lambda row: float(row["us_per_step"]), default=None)


def lead(of: Mapping[str, Row]) -> float | None:
    """How many times as long as fastrnn the fastest other runner takes; None without one."""
    other = fastest_other(of)
    return None if other is None else float(other["ratio"])


def is_limited(row: Row) -> bool:
    """Whether the limit, one core's for float32 weights, holds for `row`."""
    return row["threads"] == 1 and row["runner"] not in ROUGH and bool(row.get("limit_fraction"))


def in_words(row: Row) -> str:
    """Name a row's case: "LSTM H=128, B=1", or its human name and sizes."""
    sizes = [f"H={row['hidden_size']}"]
    if row["input_size"] != row["hidden_size"]:
        sizes.insert(0, f"I={row['input_size']}")
    sizes += [f"{row['num_layers']} layers"] if row.get("num_layers", 1) > 1 else []
    sizes += [f"P={row['proj_size']}"] if row.get("proj_size") else []
    text = f"{row['cell']} {' '.join(sizes)}"
    text += ", both directions" if row.get("bidirectional") else ""
    text += f", B={row['batch']}" + (f", T={row['steps']}" if row["steps"] != 1 else "")
    return f"{row['name']}: {text}" if row.get("name") else text


def figure(value: float | None) -> str:
    """Return a figure to two or three digits, as people read it: "0.47", "5.1", "67", "1,150"."""
    if value is None:
        return "-"
    if value < 9.95:
        return f"{value:#.2g}"
    if value < 1000:
        return f"{value:.0f}"
    return f"{value:,.0f}" if value < 1e5 else f"{value:.3g}"


def carried(rows: Sequence[Row], rate_hz: float = 100.0) -> str:
    """Say how many streams of one stack a core carries, by single steps of ours; "" without any.

    By CPU time of the step alone, of the batch size that carries most.
    """
    steps = [of[OURS] for of in by_case(rows).values() if of[OURS]["steps"] == 1]
    steps = [row for row in steps if row["threads"] == 1]
    if not steps:
        return ""
    best = min(steps, key=lambda row: float(row["us_per_step"]) / row["batch"])
    us = float(best["us_per_step"]) / best["batch"]
    count = int(1e6 / rate_hz / us)
    if count < 1:
        return (
            f"One core does not carry a stream at {rate_hz:g} frames a second: a frame takes "
            f"{figure(us / 1e3)} ms."
        )
    shown = int(float(f"{count:.2g}"))
    together = "one by one" if best["batch"] == 1 else f"{best['batch']} at a time"
    streams = "1 stream" if shown == 1 else f"{shown:,} streams"
    return (
        f"One core carries {streams} at {rate_hz:g} frames a second, stepped {together}: a stream "
        f"takes {figure(us)} µs a frame."
    )


def wide_table(
    rows: Sequence[Row], peers: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return a header and a line for each case: microseconds per step of each runner.

    The last two columns: how many times as long the fastest other runner takes, and how near
    fastrnn is to the machine's limit.
    """
    shown = [r for r in runners(rows) if r != OURS] if peers is None else list(peers)
    header = ["case", OURS, *map(label, shown), "fastest other", "of the limit"]
    if not shown:
        del header[-2]
    lines = []
    for of in by_case(rows).values():
        ours = of[OURS]
        line = [in_words(ours), figure(ours["us_per_step"])]
        line += [figure(of[peer]["us_per_step"]) if peer in of else "-" for peer in shown]
        if shown:
            ratio = lead(of)
            line.append("-" if ratio is None else f"{ratio:.2f}x")
        fraction = ours.get("limit_fraction")
        line.append("-" if fraction is None else f"{fraction:.0%}")
        lines.append(line)
    return header, lines


def deepbench_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return a header and a line for each case of DeepBench: GFLOP/s of ours and the fastest other.

    As DeepBench counts, the products of the state alone, and of state and input.
    """
    header = ["case", f"{OURS}, state", f"{OURS}, all", "fastest other, state", "all", "which"]
    lines = []
    for of in by_case(rows).values():
        ours, other = of[OURS], fastest_other(of)
        share = ours["hidden_size"] / (ours["hidden_size"] + ours["input_size"])
        line = [in_words(ours)]
        for row in (ours, other):
            both = [None, None] if row is None else [share * row["gflops"], row["gflops"]]
            line += map(figure, both)
        lines.append([*line, "-" if other is None else label(other["runner"])])
    return header, lines


def pool_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return a header and a line for each case of `rows`, a record's "pool": microseconds.

    Per stream and step, of each way to step many streams whose states are apart.
    """
    ways = list(dict.fromkeys(row["way"] for row in rows))
    cases: dict[str, dict[str, Row]] = {}
    for row in rows:
        cell_and_sizes = " ".join(row["id"].split()[:3])
        name = f"{row['name']}: {cell_and_sizes}" if row["name"] else cell_and_sizes
        cases.setdefault(name, {})[row["way"]] = row
    lines = [
        [name, *(figure(of[way]["us_per_stream_step"]) if way in of else "-" for way in ways)]
        for name, of in cases.items()
    ]
    return ["streams of", *ways], lines


def limits_table(limits: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return a header and lines: multiply-adds, then reads by working-set size, for each ISA."""
    lines = [["multiply-adds", *(f"{of['gflops']:.0f} GFLOP/s" for of in limits.values())]]
    integers = [of.get("int8_gops") for of in limits.values()]
    if any(integers):
        speeds_in_words = (f"{speed:.0f} GOP/s" if speed else "-" for speed in integers)
        lines.append(["multiply-adds of int8 weights", *speeds_in_words])
    speeds = [dict(map(tuple, of["bandwidth"])) for of in limits.values()]
    for size in sorted({size for of in speeds for size in of}):
        lines.append(
            [f"reads of {binary_size(size)}"]
            + [f"{of[size]:.0f} GB/s" if size in of else "-" for of in speeds]
        )
    return ["", *limits], lines


def binary_size(nbytes: float) -> str:
    """Return a working set as caches are sized: "32 KiB", "4 MiB"."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes / 2**10:.3g} KiB"
