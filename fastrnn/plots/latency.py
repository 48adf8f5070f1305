"""How long single steps take, as histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from fastrnn.plots.style import CHART_WIDTH, SKY, VERMILION, log_axis, styled
from fastrnn.plots.tables import figure


@styled
def latency_histograms(latency: Sequence[Mapping[str, Any]]) -> Figure | None:
    """How long single steps take, as counts on two log axes, with the percentiles marked."""
    shown = [entry for entry in latency if sum(entry["histogram"]["counts"])]
    if not shown:
        return None
    made = Figure(figsize=(CHART_WIDTH, 0.4 + 2.3 * len(shown)), layout="constrained")
    grid = made.subplots(len(shown), 1, squeeze=False, sharex=True)
    for axes, entry in zip(grid[:, 0], shown, strict=True):
        edges, counts = entry["histogram"]["edges_us"], np.array(entry["histogram"]["counts"])
        axes.stairs(counts, edges, fill=True, color=SKY, baseline=0.7)
        log_axis(axes, "y")
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
    log_axis(grid[-1, 0], "x")
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
