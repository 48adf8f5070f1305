"""The roofline: what was achieved, under the roofs that were measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
from fastrnn.plots.tables import OURS, Record, binary_size, by_case


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
    made = Figure(figsize=(CHART_WIDTH, 4.6), layout="constrained")
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
    log_axis(axes, "x")
    log_axis(axes, "y")
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
