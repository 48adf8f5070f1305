"""A trace as heat maps: each unit's gates and states over time.

Shapes: L layers, D directions, T steps, H units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fastrnn.layers.retention import RETAINING_GATE, unit_order
from fastrnn.plots.pixels import MOST, Sheet, extremes
from fastrnn.plots.style import BLUE, DIVERGING, SEQUENTIAL, VERMILION, styled

Array = npt.NDArray[Any]

# Pixels, as all below.
_LEFT, _WIDTH, _BAR, _RIGHT = 94, 792, 13, 91  # of the page; the width that maps are near
_NORM, _NAME, _GROUP, _TOP, _BOTTOM, _TIME = 105, 21, 24, 33, 8, 46
_LEAST, _TALL = 105, 900  # height of a map at least, and from one time axis to the next
_MOST_STEPS = 2400  # that have a column each
_TICK = 26  # from one unit's number to the next
_MOST_LABELS = 130  # characters that fit beside one another under a panel

_SIGNED = {"cell", "candidate", "h", "c"}
_NAMES = {
    "input": "input gate",
    "forget": "forget gate",
    "cell": "candidate",
    "output": "output gate",
    "reset": "reset gate",
    "update": "update gate",
    "candidate": "candidate",
    "c": "state c",
    "h": "state h",
}  # in the order in which they are drawn
_VISIBLE = {"\n": "\N{RETURN SYMBOL}", " ": "\N{OPEN BOX}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}


@styled
def draw_trace(
    traced: Mapping[str, Array],
    cell: str,
    *,
    title: str,
    sort: str = "retention",
    first_step: int = 0,
    layer_numbers: Sequence[int] | None = None,
    labels: Sequence[str] = (),
    show: Sequence[str] = (),
) -> Figure:
    """Draw every gate and state of every layer and direction over one time axis.

    A unit is whole pixels high and a step whole pixels wide. Where there are too many of either
    for one picture, of several the value farthest from 0 is shown, and the panel says so.

    Parameters
    ----------
    traced : dict of arrays (L, D, T, H)
        Of one row, as `layer.trace` names them.
    cell : str
        "LSTM", "GRU" or "RNN".
    sort : str
        The order of units, one of `retention.ORDERS`; "retention" is "peak" where the cell has no
        gate that retains, and for an h that a projection mixes.
    first_step : int
        The number of the first of the T steps.
    layer_numbers : sequence of int, optional
        What to call the L layers, if not 0, 1, 2...
    labels : sequence of str, optional
        A character for each step, shown if they fit.
    show : sequence of str, optional
        Which of the gates and states get a heat map; all if empty.
    """
    layers, directions, steps, _ = traced["h"].shape
    names = [name for name in _NAMES if name in traced]
    across = -(-steps // _MOST_STEPS)
    groups = [(layer, direction) for layer in range(layers) for direction in range(directions)]
    shown = [name for name in names if not show or name in show]
    units = {name: traced[name].shape[-1] for name in shown}
    room = (MOST - _TOP) // max(1, len(groups) * len(shown)) - 2 * _TIME - _NORM
    down = {name: -(-units[name] // max(1, room)) for name in shown}
    plan = _Plan(-(-steps // across), across, first_step, steps, labels)
    heights = {name: _map_height(-(-units[name] // down[name])) for name in shown}
    heights["norm"] = _NORM
    # Where time is written below a panel: at the end of each group, and between where it is tall.
    timed = _timed(heights)
    group_height = _GROUP + sum(heights.values()) + _NAME * len(heights) + _TIME * len(timed)
    sheet = Sheet(_LEFT + plan.width + _RIGHT, _TOP + len(groups) * group_height + _BOTTOM)
    sheet.text(11, 11, title, fontsize=11, weight="bold")
    at = _TOP
    layers_shown = range(layers) if layer_numbers is None else layer_numbers
    for layer, direction in groups:
        one = {name: traced[name][layer, direction] for name in names}
        name = f"layer {layers_shown[layer]}" + (", reverse" if direction else "")
        sheet.text(_LEFT, at + 4, f"{name}: {_order_in_words(one, cell, sort)}")
        at += _GROUP
        for gate, panel in heights.items():
            sheet.text(_LEFT, at + 4, _panel_name(gate, down.get(gate, 1), across), weight="bold")
            at += _NAME
            axes = sheet.axes(_LEFT, at, plan.width, panel)
            if gate == "norm":
                _draw_norms(axes, one, first_step)
            else:
                bar = sheet.axes(_LEFT + plan.width + 11, at, _BAR, panel)
                order = unit_order(*_sorted_by(one, cell, sort, gate))
                _draw_map(sheet, axes, bar, gate, one[gate], order, plan, down[gate])
            at += panel
            _label_time(axes, plan, written=gate in timed)
            at += _TIME if gate in timed else 0
    return sheet.figure


@dataclass(frozen=True)
class _Plan:
    """How time is drawn: alike in every panel."""

    columns: int
    across: int  # steps in a column
    first_step: int
    steps: int
    labels: Sequence[str]

    @property
    def begin(self) -> float:
        """The left edge, in steps."""
        return self.first_step - 0.5

    @property
    def end(self) -> float:
        """The right edge of the last column, which may not be full."""
        return self.begin + self.columns * self.across

    @property
    def width(self) -> int:
        return self.columns * max(1, _WIDTH // self.columns)


def _timed(heights: Mapping[str, int]) -> set[str]:
    """Return the panels below which time is written: the last, and others where it is far away."""
    found, since = {list(heights)[-1]}, 0
    for name, height in heights.items():
        since += height + _NAME
        if since >= _TALL:
            found.add(name)
            since = 0
    return found


def _panel_name(gate: str, down: int, across: int) -> str:
    if gate == "norm":
        return "norms of the states"
    parts = [f"{count} {of}" for count, of in ((down, "units"), (across, "steps")) if count > 1]
    if not parts:
        return _NAMES[gate]
    return f"{_NAMES[gate]}: of each {' by '.join(parts)} the value farthest from 0"


def _sorted_by(one: Mapping[str, Array], cell: str, sort: str, gate: str) -> tuple[Array, str]:
    """Return what the units of `gate` are sorted by, and how."""
    retaining = one.get(RETAINING_GATE.get(cell, ""))
    if sort == "index":
        return one[gate], sort
    if sort == "peak" or retaining is None or one[gate].shape != retaining.shape:
        own = gate == "h" and "c" in one and one["h"].shape != one["c"].shape
        return one["h" if own or "c" not in one else "c"], "peak"
    return retaining, sort


def _order_in_words(one: Mapping[str, Array], cell: str, sort: str) -> str:
    state = "c" if "c" in one else "h"
    how = {
        "retention": f"sorted by their {RETAINING_GATE.get(cell)} gate, longest memory at the top",
        "peak": "sorted by when their state peaks, earliest at the top",
        "index": "in their own order",
    }[_sorted_by(one, cell, sort, state)[1]]
    return f"{one[state].shape[1]} units, {how}"


def _map_height(rows: int) -> int:
    return rows * (-(-_LEAST // rows))


def _draw_map(
    sheet: Sheet,
    axes: Axes,
    bar: Axes,
    gate: str,
    values: Array,
    order: Array,
    plan: _Plan,
    down: int,
) -> None:
    """Draw values (T, H) with time to the right and units, in `order`, downwards."""
    units = values.shape[1]
    shown = extremes(values[:, order], plan.across, down)
    if gate in _SIGNED:
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max(initial=0)) if gate in ("h", "c") else 1.0
        low, high, colours = -(largest or 1.0), largest or 1.0, DIVERGING
    else:
        low, high, colours = 0.0, 1.0, SEQUENTIAL
    image = axes.imshow(
        np.ma.masked_invalid(shown.T.astype(np.float64)),  # float32 has no room for high - low
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",  # a unit is its own pixels and nobody else's
        extent=(plan.begin, plan.end, shown.shape[1] * down, 0),
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)  # as ticks, they would lie on the outermost pixels
    axes.tick_params(axis="y", length=0)
    pixels = axes.get_window_extent().height / (shown.shape[1] * down)
    every = max(1, round(units / max(1, units * pixels // _TICK)))
    places = np.arange(0, units, every)
    axes.set_yticks(places + 0.5, [str(number) for number in order[places]], fontsize=8)
    axes.set_ylabel("unit")
    axes.yaxis.set_label_coords(-64 / plan.width, 0.5)
    colourbar = sheet.figure.colorbar(image, cax=bar)
    colourbar.set_ticks([low, (low + high) / 2, high])
    colourbar.set_ticklabels([f"{tick:.3g}" for tick in (low, (low + high) / 2, high)])
    colourbar.set_label("value" if gate in _SIGNED else "how open", fontsize=8)
    colourbar.ax.tick_params(labelsize=8)
    colourbar.ax.grid(visible=False)


def _draw_norms(axes: Axes, one: Mapping[str, Array], first_step: int) -> None:
    """Draw the Euclidean norm of each state over time."""
    for name, colour in (("h", BLUE), ("c", VERMILION)):
        if name in one:
            with np.errstate(over="ignore", invalid="ignore"):
                norm = np.linalg.norm(one[name].astype(np.float64), axis=1)
            norm = np.ma.masked_invalid(norm)
            time = np.arange(first_step, first_step + len(norm))
            axes.plot(time, norm, color=colour, label=f"‖{name}‖", drawstyle="steps-mid")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel("Euclidean norm")
    axes.yaxis.set_label_coords(-64 / axes.get_window_extent().width, 0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)


def _label_time(axes: Axes, plan: _Plan, *, written: bool) -> None:
    axes.set_xlim(plan.begin, plan.end)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.tick_params(axis="x", labelbottom=written, length=0)
    if not plan.labels or plan.steps > _MOST_LABELS:
        if written:
            axes.set_xlabel("time step")
        return
    axes.grid(visible=False, axis="x")
    if written:
        axes.set_xticks(range(plan.first_step, plan.first_step + plan.steps))
        shown = [_VISIBLE.get(label, label) for label in plan.labels]
        axes.set_xticklabels(shown, fontsize=7.5, family="DejaVu Sans Mono")
        axes.set_xlabel(f"input at each step, from step {plan.first_step}")
