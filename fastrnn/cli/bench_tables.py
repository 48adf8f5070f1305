"""The record of `fastrnn bench` as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastrnn.cli.output import plural, say, say_table
from fastrnn.plots.tables import OURS, Row, carried, figure, label, runners

BUSY = 1.1  # wall over CPU time: others had the core
OTHER_SIZES = "sizes"  # the group of cases with other hidden sizes


def say_record(title: str, record: Mapping[str, Any]) -> None:
    """Print what `bench_plan.measure` found."""
    machine = record["machine"]
    isa = machine["isa"]["chosen"]
    say(title)
    say(f"{machine['cpu']}, {plural(machine['cores'], 'core')}, fastrnn {record['fastrnn']}")
    say(f"one core, {isa}: {record['limits'][isa]['gflops']:.0f} GFLOP/s of multiply-adds at best")
    rows = record["cases"]
    own = [row for row in rows if row["group"] != OTHER_SIZES]
    for steps in dict.fromkeys(row["steps"] for row in own):
        per_call = "one step" if steps == 1 else f"{steps} steps"
        _say_table(
            f"microseconds per step, {per_call} per call, by batch size",
            [row for row in own if row["steps"] == steps],
            "batch",
            "B",
        )
    if carries := carried(own):
        say()
        say(carries)
    other = [row for row in rows if row["group"] == OTHER_SIZES]
    if other:
        _say_table(
            f"microseconds per step of other {other[0]['cell']}s: one layer, I = H, random weights",
            other,
            "hidden_size",
            "H",
        )
    _say_latency(record["latency"])
    _say_busy([row for row in rows if row["threads"] == 1])
    if record["versions"] and any(row["runner"] != OURS for row in rows):
        say()
        say(", ".join(f"{name} {version}" for name, version in record["versions"].items()))


def _say_table(title: str, rows: Sequence[Row], key: str, letter: str) -> None:
    """Print one line for each way to run, and a column for each value of `key`."""
    values = sorted({row[key] for row in rows})
    lines: dict[str, dict[int, Row]] = {}
    for runner in runners(rows):
        for row in rows:
            if row["runner"] == runner:
                lines.setdefault(_way(row), {})[row[key]] = row
    first = next(iter(lines.values()))
    table = [("", *(f"{letter}={value}" for value in values))]
    for way, of in lines.items():
        cells = (figure(of[value]["us_per_step"]) if value in of else "-" for value in values)
        table.append((way, *cells))
    table.append(("the limit", *(figure(first[value]["limit_us"]) for value in values)))
    share = (f"{first[value]['limit_fraction']:.0%}" for value in values)
    table.append((f"{next(iter(lines))}, of it", *share))
    say()
    say(f"{title}:")
    say_table(table)


def _way(row: Row) -> str:
    if row["runner"] != OURS:
        return label(row["runner"])
    how = str(row["how"]).removesuffix(" threads=1")
    return f"{how} (wall)" if row["threads"] > 1 else how


def _say_latency(latency: Sequence[Mapping[str, Any]]) -> None:
    if not latency:
        return
    names = list(latency[0]["us"])
    table = [("", *names)]
    for entry in latency:
        pace = f"{entry['rate_hz']:g} steps a second" if entry["rate_hz"] else "flat out"
        cells = (figure(entry["us"][name]) for name in names)
        table.append((f"{pace}, {entry['steps']:,} steps", *cells))
    say()
    say("microseconds of single steps of one stream, wall time:")
    say_table(table)


def _say_busy(rows: Sequence[Row]) -> None:
    ratios = sorted(row["us_per_step_wall"] / row["us_per_step"] for row in rows)
    middle = ratios[len(ratios) // 2]
    if middle > BUSY:
        say()
        say(f"this machine is busy: wall time was {middle:.1f} times CPU time, so that figures in")
        say("wall time (more than one thread, latency) say little; the others are less affected")
