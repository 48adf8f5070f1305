"""A benchmark record as figures. Each function returns None where the record has nothing for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from fastrnn.plots.style import (
    BLACK,
    BLUE,
    CHART_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    log_axis,
    styled,
)
from fastrnn.plots.tables import (
    OURS,
    Record,
    Row,
    by_case,
    in_words,
    is_limited,
    label,
    runners,
)

T = TypeVar("T")

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
        limits = {row[key]: row["limit_us"] for row in reversed(of) if row.get("limit_us")}
        if limits:
            xs = sorted(limits)
            series["this machine's limit"] = (xs, [limits[x] for x in xs], _LIMIT)
        panels.append((title, series))
    return _panels(panels, name, "µs per step")


@styled
def fraction_of_limit(rows: Sequence[Row]) -> Figure | None:
    """How near each way to run comes to the machine's limit, against batch."""
    of_limit = [row for row in rows if is_limited(row)]
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
    made = Figure(
        figsize=(CHART_WIDTH if columns > 1 else 0.72 * CHART_WIDTH, height), layout="constrained"
    )
    grid = made.subplots(lines, columns, squeeze=False, sharey=log_y)
    handles: dict[str, Any] = {}
    for number, (title, series) in enumerate(panels):
        axes = grid[number // columns][number % columns]
        for name, (xs, ys, look) in series.items():
            (handles[name],) = axes.plot(xs, ys, label=name, **look)
        axes.set_title(title)
        log_axis(axes, "x", sorted({x for xs, _, _ in series.values() for x in xs}))
        if log_y:
            log_axis(axes, "y")
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


@styled
def peers_side_by_side(rows: Sequence[Row], most: int = 12) -> Figure | None:
    """How many times as long as fastrnn each other runner takes, case by case."""
    cases = _spread([of for of in by_case(rows).values() if len(of) > 1], most)
    if not cases:
        return None
    others = [
        runner for runner in runners(r for of in cases for r in of.values()) if runner != OURS
    ]
    made = Figure(figsize=(CHART_WIDTH, 1.2 + 0.34 * len(cases)), layout="constrained")
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
    log_axis(axes, "x")
    low, high = axes.get_xlim()
    ticks = [t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= t <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xlabel("time per step over fastrnn's (right of 1: slower than fastrnn)")
    made.legend(loc="outside upper center", ncols=4)
    return made


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
    made = Figure(figsize=(CHART_WIDTH, 4.2), layout="constrained")
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
    log_axis(axes, "y")
    axes.set_ylabel("µs per step")
    axes.set_xlabel("version and date of the record")
    made.legend(loc="outside right upper")
    return made


def _spread(values: Sequence[T], most: int) -> list[T]:
    """Return at most so many of `values`, from the first to the last at even distances."""
    if len(values) <= most:
        return list(values)
    return [values[i * (len(values) - 1) // (most - 1)] for i in range(most)]
