"""A record as one self-contained HTML page: what is in it loads nothing and runs nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from fastrnn.machine import in_words as machine_in_words
from fastrnn.measure.timing import geometric_mean
from fastrnn.plots import charts
from fastrnn.plots.latency import latency_histograms
from fastrnn.plots.roofline import roofline
from fastrnn.plots.style import svg
from fastrnn.plots.tables import (
    OURS,
    TABLE_GROUPS,
    Record,
    Row,
    by_case,
    carried,
    figure,
    in_words,
    is_limited,
    label,
    lead,
    limits_table,
    runners,
    wide_table,
)

WHY_SLOWER = (
    "A step at 100 frames a second takes longer than one of many without a pause: between frames "
    "the core rests, which lowers its clock and wakes it late, and whoever else runs takes the "
    "caches, so that the weights are read from farther away. It is what a service with one stream "
    "sees; with more streams the core stays warm."
)
REQUIRED = (
    "Installed with required: the package's files and those of every package that it cannot be "
    "installed without, NumPy among them."
)
HOW_TO_READ = (
    "Microseconds per time step of all B rows: a call makes T steps (1 if T is not given), and its "
    "time is divided by T. Medians of interleaved rounds in one process, CPU time, float32; wall "
    "time where there is more than one thread. Every runtime's output was checked against "
    "fastrnn's before it was timed.",
    "The limit is what one core of this machine could do at best, measured: the weights read once "
    "at the bandwidth of their size, or all multiply-adds at peak rate, whichever takes longer. "
    "It holds for float32 weights: torch's int8 has a quarter of the bytes and coarser answers; it "
    "is shown, but counts neither as the fastest other runtime nor against the limit.",
)


@dataclass
class Table:
    """Rows of cells under a header; hidden behind `folded`, if that says something."""

    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    folded: str = ""
    kind: str = ""


@dataclass
class Picture:
    """A figure as an image in the page itself."""

    alt: str
    source: str  # a data: URL


@dataclass
class Section:
    """A part of the page, left out if there is nothing in it."""

    title: str
    paragraphs: Sequence[str] = ()
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def make_page(record: Record, earlier: Sequence[Record] = (), *, title: str = "") -> str:
    """Return the page of `record`, with its history over `earlier` records of the same CPU."""
    machine = record["machine"]
    sections = [
        *_speed(record.get("cases", [])),
        _history(record, earlier),
        _limits(record),
        _latency(record.get("latency", [])),
        _threads(record.get("threads", [])),
        _costs(record.get("costs", {})),
        _instructions(record.get("instructions", [])),
        _machine(record),
    ]
    commit = f" ({record['commit']})" if record.get("commit") else ""
    subtitle = (
        f"{machine['cpu']}, {machine['isa']['chosen']}, {record['date']}, "
        f"fastrnn {record['fastrnn']}{commit}"
    )
    page: str = _template().render(
        title=title or f"fastrnn {record['fastrnn']} on {machine['cpu']}",
        subtitle=subtitle,
        sections=[section for section in sections if section.pictures or section.tables],
    )
    return page


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def _pictures(*drawn: tuple[str, Figure | None]) -> list[Picture]:
    return [Picture(alt, _data_url(made)) for alt, made in drawn if made is not None]


def _data_url(made: Figure) -> str:
    encoded = base64.b64encode(svg(made).encode("utf-8")).decode("ascii")
    return f"data:image/svg+xml;base64,{encoded}"


def _speed(rows: Sequence[Row]) -> Iterable[Section]:
    """One section for each group of cases."""
    groups = dict.fromkeys([*TABLE_GROUPS, *(row["group"] for row in rows)])
    paragraphs: Sequence[str] = HOW_TO_READ
    for group in groups:
        of = [row for row in rows if row["group"] == group]
        if not of:
            continue
        single = [row for row in of if row["steps"] == 1] or of
        pictures = _pictures(
            ("time per step against batch size", charts.time_by_batch(single)),
            ("time per step by engine and instruction set", charts.ways_by_batch(single)),
            ("time per step by number of threads", charts.threads_by_batch(single)),
            ("time per step against hidden size", charts.time_by_size(single)),
            (
                "fraction of the machine's limit against batch size",
                charts.fraction_of_limit(single),
            ),
            ("other runtimes' time over fastrnn's, by case", charts.peers_side_by_side(of)),
        )
        tables = [Table(*wide_table(of)), Table(*_every_row(of), "Every row", "plain")]
        carries = [carried(of)] if group == "file" else []
        said = [*filter(None, carries), *_comparison(of), *paragraphs]
        yield Section(TABLE_GROUPS.get(group, group), said, pictures, tables)
        paragraphs = ()


def _comparison(rows: Sequence[Row]) -> list[str]:
    lines = []
    for words, of in (
        ("One step per call", [row for row in rows if row["steps"] == 1]),
        ("Several steps per call", [row for row in rows if row["steps"] > 1]),
    ):
        leads = {
            in_words(each[OURS]): ratio for each in by_case(of).values() if (ratio := lead(each))
        }
        if len(leads) > 1:
            least = min(leads, key=leads.__getitem__)
            lines.append(
                f"{words}: the fastest other runtime takes {geometric_mean(leads.values()):.2f} "
                f"times as long as fastrnn (geometric mean of {len(leads)} cases; least "
                f"{leads[least]:.2f}, {least})."
            )
    return lines


def _every_row(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["case", "runner", "how", "µs per step", "quartiles", "wall", "rounds", "GFLOP/s",
              "GB/s", "of the limit", "over fastrnn's"]  # fmt: skip
    return header, [
        [
            in_words(row),
            label(row["runner"]),
            str(row["how"]),
            figure(row["us_per_step"]),
            f"{figure(row['us_per_step_25'])} to {figure(row['us_per_step_75'])}",
            figure(row["us_per_step_wall"]),
            str(row["rounds"]),
            figure(row["gflops"]),
            figure(row["gb_per_s"]),
            f"{row['limit_fraction']:.0%}" if is_limited(row) else "-",
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]


def _history(record: Record, earlier: Sequence[Record]) -> Section:
    drawn = charts.history([*earlier, record])
    return Section("Over versions", (), _pictures(("time per step, by record", drawn)))


def _limits(record: Record) -> Section:
    limits = record.get("limits", {})
    if not limits:
        return Section("The machine's limits")
    return Section(
        "The machine's limits",
        ["Of one core: the rate of multiply-adds in registers, and of reads by working-set size."],
        _pictures(("roofline", roofline(record))),
        [Table(*limits_table(limits), kind="plain")],
    )


def _latency(latency: Sequence[Any]) -> Section:
    names = list(dict.fromkeys(name for entry in latency for name in entry["us"]))
    lines = [
        [
            f"{entry['cell']} H={entry['hidden_size']}",
            f"{entry['rate_hz']:g} a second" if entry["rate_hz"] else "flat out",
            f"{entry['steps']:,}",
            *(figure(entry["us"].get(name)) for name in names),
        ]
        for entry in latency
    ]
    header = ["one stream", "pace", "steps", *(f"{name}, µs" for name in names)]
    tables = [Table(header, lines, kind="plain")] if lines else []
    drawn = latency_histograms(latency)
    words = ["Wall time of every single step of one stream, as its caller sees it."]
    paces = {bool(entry["rate_hz"]) for entry in latency}
    words += [WHY_SLOWER] if len(paces) > 1 else []
    return Section("Latency", words, _pictures(("histogram of step times", drawn)), tables)


def _threads(threads: Sequence[Any]) -> Section:
    lines = [[row["id"], str(row["threads"]), f"{row['ratio']:.2f}x"] for row in threads]
    tables = [Table(["case", "threads", "times as fast"], lines, kind="plain")] if lines else []
    return Section("Threads", (), [], tables)


def _costs(costs: Any) -> Section:
    names = list(dict.fromkeys(name for of in costs.values() for name in of))
    if not names:
        return Section("Around the step")
    order = runners([{"runner": name} for name in costs])
    lines = [
        [label(runner), *(_cost(costs[runner].get(name)) for name in names)] for runner in order
    ]
    header = ["", *(name.replace("_", " ") for name in names)]
    words = [REQUIRED] if "installed_with_required_mb" in names else []
    return Section("Around the step", words, [], [Table(header, lines, kind="plain")])


def _cost(value: Any) -> str:
    return figure(value) if value is None or isinstance(value, (int, float)) else str(value)


def _instructions(instructions: Sequence[Any]) -> Section:
    lines = [[row["id"], row["isa"], f"{row['per_step']:,.0f}"] for row in instructions]
    tables = [Table(["case", "ISA", "instructions per step"], lines, kind="plain")] if lines else []
    return Section("Instructions", (), [], tables)


def _machine(record: Record) -> Section:
    found = {"date": record["date"], **record["machine"], **record.get("versions", {})}
    lines = [[str(name), machine_in_words(value)] for name, value in found.items()]
    return Section("Machine and versions", (), [], [Table([], lines, kind="facts")])
