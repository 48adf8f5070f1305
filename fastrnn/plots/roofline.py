"""The roofline: what was achieved, under the roofs that were measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastrnn.plots.style import (
    BLACK,
    BLUE,
    CHART_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    log_axis,
    styled,
)
from fastrnn.plots.tables import OURS, Record, Row, binary_size, by_case, in_words

Array = npt.NDArray[np.float64]

INTEGERS = {"int8": "D", "int16": "v"}  # weights' types, and their markers

_NAME_ROOM = 0.042  # of the height of the picture


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
    made = Figure(figsize=(CHART_WIDTH, 5), layout="constrained")
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
    compact = [
        row
        for row in record.get("compact", [])
        if row["steps"] == 1 and row.get("isa") == isa and row.get("weight_dtype") in INTEGERS
    ]
    if compact and limits.get("int8_gops"):
        span = _integers(axes, compact, limits["int8_gops"], span)
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
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.set_xlim(span[0], span[-1])
    axes.set_xlabel("flops per byte of weights read (grows with the batch)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        "a point is one step of one case, in the colour of the roof of its weights' size; a line "
        "joins its batch sizes",
        fontsize=8,
        weight="normal",
    )
    _name_points(axes, ours, x)
    axes.legend(loc="lower right", ncols=2)
    return made


def _name_points(axes: Axes, ours: Sequence[Row], x: Array) -> None:
    """Join the batch sizes of each stack, and name it, and the batch where that is all there is."""
    stacks: dict[str, list[tuple[float, float, int]]] = {}
    for row, at in zip(ours, x, strict=True):
        name = in_words({**row, "batch": 1}).removesuffix(", B=1")
        stacks.setdefault(name, []).append((float(at), float(row["gflops"]), row["batch"]))
    ends = []
    for name, points in stacks.items():
        points.sort()
        axes.plot(*zip(*((a, b) for a, b, _ in points), strict=True), color=GREY, lw=0.6, zorder=1)
        batches = ", ".join(str(batch) for _, _, batch in points)
        ends.append((points[-1][1], points[-1][0], f"{name}, B={batches}"))
    low, high = np.log(axes.get_ylim())
    place = np.inf
    for height, at, name in sorted(ends, reverse=True):
        share = (np.log(height) - low) / (high - low)
        place = min(share, place - _NAME_ROOM)  # none over another
        axes.annotate(
            name, (at, height), (1.02, place), textcoords="axes fraction", fontsize=8,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "lw": 0.5, "relpos": (0, 0.5)},
        )  # fmt: skip


def _integers(axes: Axes, rows: Sequence[Row], peak: float, span: Array) -> Array:
    """The roof of integer weights, and their points, hollow; how far the axis of x then goes."""
    at = np.array([row["gflops"] / row["gb_per_s"] for row in rows])
    wide = np.geomspace(span[0], max(span[-1], at.max() * 1.3), 200)
    axes.axhline(peak, color=BLACK, linewidth=1.2, linestyle="--")
    axes.annotate(
        f"{peak:.0f}: the same of int8 and int16 weights",
        (wide[-1], peak), (0, 3), textcoords="offset points", ha="right", fontsize=8,
    )  # fmt: skip
    for name, marker in INTEGERS.items():
        chosen = [row["weight_dtype"] == name for row in rows]
        heights = [row["gflops"] for row, wanted in zip(rows, chosen, strict=True) if wanted]
        axes.plot(
            at[chosen], heights, marker, markersize=5, color=GREY, markerfacecolor="none",
            linestyle="none", label=f"{name} weights",
        )  # fmt: skip
    return wide


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
