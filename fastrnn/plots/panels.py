"""Series of figures in panels beside one another: a colour and a mark for each, one legend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

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
)
from fastrnn.plots.tables import OURS, Row, label, runners

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
OTHER = {"color": YELLOW, "marker": "h"}
# The ways to run ours, told apart by colour, mark and line.
WAYS: tuple[dict[str, Any], ...] = (
    LOOKS[OURS],
    {"color": VERMILION, "marker": "s", "linestyle": "--"},
    {"color": GREEN, "marker": "^", "linestyle": "-."},
    {"color": PURPLE, "marker": "D", "linestyle": ":"},
    {"color": ORANGE, "marker": "v", "linestyle": (0, (6, 2, 1, 2, 1, 2))},
    {"color": BLACK, "marker": "P", "linestyle": (0, (1, 3))},
)
LIMIT: dict[str, Any] = {"color": "#999999", "linestyle": (0, (4, 3)), "linewidth": 1.2}


Series = dict[str, tuple[list[float], list[float], dict[str, Any]]]  # label -> x, y, look


def by_runner(rows: Iterable[Row], key: str, value: Callable[[Row], float]) -> Series:
    """Return one line for each runner; of ours the first way, which others are compared with."""
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        points.setdefault(row["runner"], {}).setdefault(row[key], value(row))
    return {
        label(runner): _series(points[runner], LOOKS.get(runner, OTHER))
        for runner in runners({"runner": runner} for runner in points)
    }


def by_way(
    rows: Iterable[Row], key: str, value: Callable[[Row], float], name: Callable[[Row], str]
) -> Series:
    """Return one line for each way of ours, as `name` calls it."""
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        points.setdefault(name(row), {}).setdefault(row[key], value(row))
    return {
        way: _series(values, WAYS[number % len(WAYS)])
        for number, (way, values) in enumerate(points.items())
    }


def _series(
    values: dict[float, float], look: dict[str, Any]
) -> tuple[list[float], list[float], dict[str, Any]]:
    xs = sorted(values)
    return xs, [values[x] for x in xs], dict(look)


def draw_panels(
    panels: Sequence[tuple[str, Series]], x_name: str, y_name: str, *, log_y: bool = True
) -> Figure:
    """Draw series in panels, two beside one another, and one legend at their right."""
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    names = list(dict.fromkeys(name for _, series in panels for name in series))
    height = 0.5 + max(2.9 * lines, 0.2 * len(names))
    made = Figure(figsize=(CHART_WIDTH, height), layout="constrained")
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
    made.legend([handles[name] for name in names], names, loc="outside right upper")
    return made
