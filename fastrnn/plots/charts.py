"""A benchmark record as figures. Each function returns None where the record has nothing for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from fastrnn.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    styled,
)
from fastrnn.plots.tables import (
    OURS,
    ROUGH,
    Record,
    Row,
    binary_size,
    by_case,
    figure,
    in_words,
    label,
    runners,
)

T = TypeVar("T")

WIDTH = 8.6  # inches
PANELS_PER_CELL = 2

# A runner looks the same in every picture.
LOOKS: dict[str, dict[str, Any]] = {
    OURS: {"color": BLUE, "marker": "o", "linewidth": 2.4, "zorder": 3},
    "onnxruntime": {"color": VERMILION, "marker": "s"},
    "openvino": {"color": GREEN, "marker": "^"},
    "ncnn": {"color": BLACK, "marker": "P"},
    "tract": {"color": GREY, "marker": "X"},
    "torch cell": {"color": ORANGE, "marker": "D"},
    "torch": {"color": PURPLE, "marker": "v"},
    "torch int8": {"color": SKY, "marker": "*", "linestyle": ":"},
}
_OTHER = {"color": YELLOW, "marker": "h"}
_OTHER_WAYS = (  # of ours
    {"marker": "s", "linestyle": "--"},
    {"marker": "^", "linestyle": "-."},
    {"marker": "D", "linestyle": ":"},
    {"marker": "v", "linestyle": (0, (6, 2, 1, 2, 1, 2))},
    {"marker": "P", "linestyle": (0, (1, 3))},
)
_DASHES = ("-", "--", "-.", ":", (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)))
_LIMIT: dict[str, Any] = {"color": "#999999", "linestyle": (0, (4, 3)), "linewidth": 1.2}

Series = dict[str, tuple[list[float], list[float], dict[str, Any]]]  # label -> x, y, look


@styled
def time_by_batch(rows: Sequence[Row]) -> Figure | None:
    """Microseconds per step against batch, of cases that differ in nothing else."""
    return _time_by(rows, "batch", "batch size B (rows stepped together)")


@styled
def time_by_size(rows: Sequence[Row]) -> Figure | None:
    """Microseconds per step against hidden size, of cases that differ in nothing else."""
    return _time_by(rows, "hidden_size", "hidden size H")


def _time_by(rows: Sequence[Row], key: str, name: str) -> Figure | None:
    families = _families(rows, key)
    if not families:
        return None
    panels = []
    for title, of in families:
        series = _lines(of, key, lambda row: float(row["us_per_step"]))
        limits = {row[key]: row["limit_us"] for row in of if row.get("limit_us")}
        if limits:
            xs = sorted(limits)
            series["this machine's limit"] = (xs, [limits[x] for x in xs], _LIMIT)
        panels.append((title, series))
    return _panels(panels, name, "µs per step")


@styled
def fraction_of_limit(rows: Sequence[Row]) -> Figure | None:
    """How near each way to run comes to the machine's limit, against batch."""
    of_limit = [  # the limit is one core's, for float32
        row
        for row in rows
        if row.get("limit_fraction") and row["runner"] not in ROUGH and row["threads"] == 1
    ]
    panels = [
        (title, _lines(of, "batch", lambda row: 100 * float(row["limit_fraction"])))
        for title, of in _families(of_limit, "batch")
    ]
    if not panels:
        return None
    made = _panels(panels, "batch size B (rows stepped together)", "% of the limit", log_y=False)
    for axes in made.axes:
        axes.set_ylim(0, max(105, axes.get_ylim()[1]))
        axes.axhline(100, **_LIMIT)
    return made


def _families(rows: Sequence[Row], key: str) -> list[tuple[str, list[Row]]]:
    """Return sets of cases that differ in `key` only (I follows H), titled: some of the largest."""
    sizes = ("cell", "hidden_size", "num_layers", "proj_size", "bidirectional", "batch", "steps")
    families: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        square = row["input_size"] == row["hidden_size"]
        width = "H" if square else row["input_size"]
        same = tuple(row.get(size) for size in sizes if size != key)
        families.setdefault((row.get("name"), width, *same), []).append(row)
    most = max((len({row[key] for row in of}) for of in families.values()), default=0)
    if most < 2:
        return []
    by_cell: dict[str, list[list[Row]]] = {}
    for of in families.values():
        if len({row[key] for row in of}) == most:
            by_cell.setdefault(of[0]["cell"], []).append(of)
    chosen = []
    for found in by_cell.values():  # the first, and one from the middle
        places = sorted({i * len(found) // PANELS_PER_CELL for i in range(PANELS_PER_CELL)})
        chosen += [found[i] for i in places]
    return [(_family_title(of, key), of) for of in chosen]


def _family_title(of: list[Row], key: str) -> str:
    row = of[0]
    name = f"{row['name']}: " if row.get("name") else ""
    square = row["input_size"] == row["hidden_size"]
    parts = [] if square and key != "hidden_size" else [f"I={'H' if square else row['input_size']}"]
    parts += [f"H={row['hidden_size']}"] if key != "hidden_size" else []
    parts += [f"L={row['num_layers']}"] if row.get("num_layers", 1) > 1 else []
    parts += [f"B={row['batch']}"] if key != "batch" else []
    parts += [f"T={row['steps']}"]
    return f"{name}{row['cell']} {', '.join(parts)}"


def _lines(rows: Iterable[Row], key: str, value: Callable[[Row], float]) -> Series:
    """Return one line for each runner, and for each way of ours."""
    points: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        way = row["how"].removesuffix(" threads=1") if row["runner"] == OURS else ""
        points.setdefault((row["runner"], way), {}).setdefault(row[key], value(row))
    ways = [way for runner, way in points if runner == OURS]
    series: Series = {}
    for runner in runners([{"runner": runner} for runner, _ in points]):
        for (of, way), values in points.items():
            if of != runner:
                continue
            look = dict(LOOKS.get(runner, _OTHER))
            name = label(runner)
            if runner == OURS and len(ways) > 1:
                number = ways.index(way)
                name = f"{name} {way}"
                if number:
                    look |= {"linewidth": 1.3, "markerfacecolor": "white"}
                    look |= _OTHER_WAYS[(number - 1) % len(_OTHER_WAYS)]
            xs = sorted(values)
            series[name] = (xs, [values[x] for x in xs], look)
    return series


def _panels(
    panels: Sequence[tuple[str, Series]], x_name: str, y_name: str, *, log_y: bool = True
) -> Figure:
    """Draw series in panels, two beside one another, with one legend above them all."""
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for _, series in panels for name in series))
    legend_lines = -(-len(names) // 4)
    height = 0.35 + 0.19 * legend_lines + 2.9 * lines
    made = Figure(figsize=(WIDTH if columns > 1 else 0.72 * WIDTH, height), layout="constrained")
    grid = made.subplots(lines, columns, squeeze=False, sharey=log_y)
    handles: dict[str, Any] = {}
    for number, (title, series) in enumerate(panels):
        axes = grid[number // columns][number % columns]
        for name, (xs, ys, look) in series.items():
            (handles[name],) = axes.plot(xs, ys, label=name, **look)
        axes.set_title(title)
        _log_axis(axes, "x", sorted({x for xs, _, _ in series.values() for x in xs}))
        if log_y:
            _log_axis(axes, "y")
        if number % columns == 0:
            axes.set_ylabel(y_name)
        if number // columns == lines - 1 or number + columns >= len(panels):
            axes.set_xlabel(x_name)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    wide = max(len(name) for name in names) > 24
    made.legend(
        [handles[name] for name in names], names, loc="outside upper center", ncols=3 if wide else 4
    )
    return made


def _log_axis(axes: Axes, which: str, ticks: Sequence[float] | None = None) -> None:
    """Make an axis logarithmic, labelled with plain numbers: every one of `ticks` that has room."""
    getattr(axes, f"set_{which}scale")("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    if ticks is not None:
        axis.set_major_locator(FixedLocator(list(ticks)))
    else:
        low, high = axis.get_view_interval()
        axis.set_major_locator(
            LogLocator(10, (1, 2, 5) if high < 1000 * low else (1,), numticks=20)
        )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())
    if ticks is not None:
        axis.set_minor_locator(FixedLocator([]))


@styled
def peers_side_by_side(rows: Sequence[Row], most: int = 12) -> Figure | None:
    """How many times as long as fastrnn each other runner takes, case by case."""
    cases = _spread([of for of in by_case(rows).values() if len(of) > 1], most)
    if not cases:
        return None
    others = [
        runner for runner in runners(r for of in cases for r in of.values()) if runner != OURS
    ]
    made = Figure(figsize=(WIDTH, 1.2 + 0.34 * len(cases)), layout="constrained")
    axes = made.subplots()
    for runner in others:
        look = LOOKS.get(runner, _OTHER)
        places = [i for i, of in enumerate(cases) if runner in of]
        axes.plot(
            [cases[i][runner]["ratio"] for i in places], places, linestyle="none",
            marker=look["marker"], color=look["color"], markersize=6.5, label=label(runner),
        )  # fmt: skip
    axes.axvline(1, color=BLUE, linewidth=2.4, label="fastrnn", zorder=1)
    axes.set_yticks(range(len(cases)), [in_words(of[OURS]) for of in cases])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    _log_axis(axes, "x")
    low, high = axes.get_xlim()
    ticks = [t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= t <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xlabel("time per step over fastrnn's (right of 1: slower than fastrnn)")
    made.legend(loc="outside upper center", ncols=4)
    return made


@styled
def latency_histograms(latency: Sequence[Mapping[str, Any]]) -> Figure | None:
    """How long single steps take, as counts on two log axes, with the percentiles marked."""
    shown = [entry for entry in latency if sum(entry["histogram"]["counts"])]
    if not shown:
        return None
    made = Figure(figsize=(WIDTH, 0.4 + 2.3 * len(shown)), layout="constrained")
    grid = made.subplots(len(shown), 1, squeeze=False, sharex=True)
    for axes, entry in zip(grid[:, 0], shown, strict=True):
        edges, counts = entry["histogram"]["edges_us"], np.array(entry["histogram"]["counts"])
        axes.stairs(counts, edges, fill=True, color=SKY, baseline=0.7)
        _log_axis(axes, "y")
        axes.set_ylim(0.7, counts.max() * (counts.max() / 0.7) ** 0.5)  # room for words above
        axes.yaxis.set_major_locator(FixedLocator([1, *_powers_of_ten(counts.max())]))
        for names, value in _close_together(entry["us"], 1.05):
            axes.axvline(value, color=VERMILION, linewidth=1)
            axes.annotate(
                f"{names} {figure(value)}", (value, 1), (2, -2), xycoords=("data", "axes fraction"),
                textcoords="offset points", rotation=90, va="top", fontsize=7.5, color="#333333",
            )  # fmt: skip
        rate = entry["rate_hz"]
        pace = f"{rate:g} steps a second" if rate else "one step after the other"
        sizes = f"{entry['cell']} H={entry['hidden_size']}"
        axes.set_title(f"{sizes}, one stream, {pace}, {entry['steps']:,} steps")
        axes.set_ylabel("steps")
    _log_axis(grid[-1, 0], "x")
    grid[-1, 0].set_xlabel("time of one step, µs (wall)")
    return made


def _powers_of_ten(most: float) -> list[int]:
    return [10**k for k in range(1, int(np.log10(most)) + 1)]


def _close_together(values: Mapping[str, float], factor: float) -> list[tuple[str, float]]:
    """Return rising `values` with their names, and those within `factor` of one another as one."""
    groups: list[tuple[list[str], float]] = []
    for name, value in values.items():
        if groups and value <= factor * groups[-1][1]:
            groups[-1][0].append(name)
        else:
            groups.append(([name], value))
    return [(" to ".join(dict.fromkeys((of[0], of[-1]))), value) for of, value in groups]


@styled
def roofline(record: Record) -> Figure | None:
    """Achieved GFLOP/s against flops per byte of weights, under the roofs that were measured."""
    isa = record["machine"]["isa"]["chosen"]
    limits = record.get("limits", {}).get(isa)
    ours = [of[OURS] for of in by_case(record.get("cases", [])).values()]
    ours = [row for row in ours if row["steps"] == 1 and row.get("isa") == isa]
    if not limits or not ours:
        return None
    levels = _levels(limits["bandwidth"])
    made = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = made.subplots()
    x = np.array([row["gflops"] / row["gb_per_s"] for row in ours])
    span = np.geomspace(min(x.min(), 0.5) / 1.3, max(x.max(), 8) * 1.3, 200)
    colours = (GREEN, BLUE, ORANGE, VERMILION)
    for (size, speed), colour in zip(levels, colours, strict=False):
        name = f"reads of {binary_size(size)}: {speed:.0f} GB/s"
        below = span[speed * span <= limits["gflops"]]
        axes.plot(below, speed * below, color=colour, label=name)
    axes.axhline(limits["gflops"], color=BLACK, linewidth=1.2)
    axes.annotate(
        f"{limits['gflops']:.0f} GFLOP/s: multiply-adds, {isa}, one core",
        (span[-1], limits["gflops"]), (0, 3), textcoords="offset points", ha="right", fontsize=8,
    )  # fmt: skip
    for cell, marker in (("LSTM", "o"), ("GRU", "^"), ("RNN", "s")):
        for row, at in zip(ours, x, strict=True):
            if row["cell"] == cell:
                nearest = _nearest_level(1e9 * row["gb_per_s"] * row["us_per_step"] / 1e6, levels)
                axes.plot(
                    at, row["gflops"], marker, color=colours[nearest], markersize=6,
                    markeredgecolor="white", markeredgewidth=0.6,
                )  # fmt: skip
        if any(row["cell"] == cell for row in ours):
            axes.plot([], [], marker, color=GREY, linestyle="none", label=cell)
    _log_axis(axes, "x")
    _log_axis(axes, "y")
    axes.set_xlim(span[0], span[-1])
    axes.set_xlabel("flops per byte of weights read (grows with the batch)")
    axes.set_ylabel("GFLOP/s")
    axes.legend(
        loc="lower right",
        title="a point is one step of one case, in the colour of the roof of its weights' size",
        title_fontsize=8,
        ncols=2,
    )
    return made


def _levels(bandwidth: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Pick at most four working sets, from the first cache to memory, of those measured."""
    measured = [(float(size), float(speed)) for size, speed in bandwidth]
    picked = []
    for target in (16 << 10, 256 << 10, 4 << 20, 256 << 20):
        nearest = min(measured, key=lambda entry: abs(np.log(entry[0] / target)))
        if nearest not in picked:
            picked.append(nearest)
    return picked


def _nearest_level(size: float, levels: Sequence[tuple[float, float]]) -> int:
    return int(np.argmin([abs(np.log(size / level)) for level, _ in levels]))


@styled
def history(records: Sequence[Record], most: int = 8) -> Figure | None:
    """Microseconds per step of fastrnn, case by case, over records of one CPU; None for one."""
    if len(records) < 2:
        return None
    ordered = sorted(records, key=lambda record: str(record["date"]))
    times = [
        {name: float(of[OURS]["us_per_step"]) for name, of in by_case(r.get("cases", [])).items()}
        for r in ordered
    ]
    newest = by_case(ordered[-1].get("cases", []))
    names = _spread([name for name in newest if sum(name in of for of in times) > 1], most)
    if not names:
        return None
    made = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = made.subplots()
    looks = [look for runner, look in LOOKS.items() if runner != "torch int8"]
    for number, name in enumerate(names):
        places = [i for i, of in enumerate(times) if name in of]
        look = looks[number % len(looks)]
        axes.plot(
            places, [times[i][name] for i in places], color=look["color"], marker=look["marker"],
            linestyle=_DASHES[number // len(looks)], label=in_words(newest[name][OURS]),
        )  # fmt: skip
    axes.set_xticks(range(len(ordered)), [f"{r['fastrnn']}\n{r['date'][:10]}" for r in ordered])
    axes.set_xlim(-0.4, len(ordered) - 0.6)
    _log_axis(axes, "y")
    axes.set_ylabel("µs per step")
    axes.set_xlabel("version and date of the record")
    made.legend(loc="outside right upper")
    return made


def _spread(values: Sequence[T], most: int) -> list[T]:
    """Return at most so many of `values`, from the first to the last at even distances."""
    if len(values) <= most:
        return list(values)
    return [values[i * (len(values) - 1) // (most - 1)] for i in range(most)]
