"""A benchmark record as figures. Each function returns None where the record has nothing for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from fastrnn.plots.panels import LIMIT, LOOKS, OTHER, by_runner, by_way, draw_panels
from fastrnn.plots.style import BLUE, CHART_WIDTH, log_axis, styled
from fastrnn.plots.tables import OURS, Record, Row, by_case, in_words, is_limited, label, runners

T = TypeVar("T")

PANELS_PER_CELL = 2
BATCH = "batch size B (rows stepped together)"

_DASHES = ("-", "--", "-.", ":", (0, (1, 3)), (0, (6, 2, 1, 2, 1, 2)))


@styled
def time_by_batch(rows: Sequence[Row]) -> Figure | None:
    """Microseconds per step against batch, of cases that differ in nothing else: CPU time."""
    return _time_by(rows, "batch", BATCH)


@styled
def time_by_size(rows: Sequence[Row]) -> Figure | None:
    """Microseconds per step against hidden size, of cases that differ in nothing else: CPU time."""
    return _time_by(rows, "hidden_size", "hidden size H")


@styled
def ways_by_batch(rows: Sequence[Row]) -> Figure | None:
    """Do as `time_by_batch`, by engine and instruction set; None for one way."""
    ours = [row for row in rows if row["runner"] == OURS and row["threads"] == 1]
    return _of_ours(ours, "us_per_step", "µs per step, CPU time", _way)


@styled
def threads_by_batch(rows: Sequence[Row]) -> Figure | None:
    """Do as `time_by_batch`, by number of threads: wall time, which alone compares them."""
    ours = [row for row in rows if row["runner"] == OURS]
    threaded = {_way(row) for row in ours if row["threads"] > 1}
    of = [row for row in ours if _way(row) in threaded]
    return _of_ours(of, "us_per_step_wall", "µs per step, wall time", _threads)


def _of_ours(
    rows: Sequence[Row], value: str, said: str, name: Callable[[Row], str]
) -> Figure | None:
    panels = [
        (title, by_way(of, "batch", lambda row: float(row[value]), name))
        for title, of in _families(rows, "batch")
    ]
    if len({way for _, series in panels for way in series}) < 2:
        return None
    return draw_panels(panels, BATCH, said)


def _way(row: Row) -> str:
    return str(row["how"]).rpartition(" threads=")[0] or str(row["how"])


def _threads(row: Row) -> str:
    return "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"


def _time_by(rows: Sequence[Row], key: str, name: str) -> Figure | None:
    panels = []
    for title, of in _families([row for row in rows if row["threads"] == 1], key):
        series = by_runner(of, key, lambda row: float(row["us_per_step"]))
        limits = {row[key]: row["limit_us"] for row in reversed(of) if row.get("limit_us")}
        if limits:
            xs = sorted(limits)
            series["this machine's limit"] = (xs, [limits[x] for x in xs], LIMIT)
        panels.append((title, series))
    return draw_panels(panels, name, "µs per step, CPU time") if panels else None


@styled
def fraction_of_limit(rows: Sequence[Row]) -> Figure | None:
    """How near each runner comes to the machine's limit, against batch."""
    of_limit = [row for row in rows if is_limited(row)]
    panels = [
        (title, by_runner(of, "batch", lambda row: 100 * float(row["limit_fraction"])))
        for title, of in _families(of_limit, "batch")
    ]
    if not panels:
        return None
    made = draw_panels(panels, BATCH, "% of the limit", log_y=False)
    for axes in made.axes:
        axes.set_ylim(0, max(105, axes.get_ylim()[1]))
        axes.axhline(100, **LIMIT)
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
        look = LOOKS.get(runner, OTHER)
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
    made.legend(loc="outside right upper")
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
