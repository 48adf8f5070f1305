"""A trace as heat maps: each unit's gates and states over time.

Shapes: L layers, D directions, T steps, H units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fastrnn.layers.retention import RETAINING_GATE, unit_order
from fastrnn.plots.style import BLUE, DIVERGING, DPI, SEQUENTIAL, VERMILION, styled

Array = npt.NDArray[Any]

WIDTH = 9.0  # inches, as all below
_LEFT, _MAP, _BAR = 0.85, 7.2, 0.12
_NORM, _GAP, _GROUP, _TOP, _BOTTOM = 0.95, 0.14, 0.36, 0.3, 0.55
_LEAST, _MOST = 0.95, 2.0  # height of a map: a pixel for each unit between them
_MOST_LABELS = 130  # characters that fit beside one another under the last panel

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
    groups = [(layer, direction) for layer in range(layers) for direction in range(directions)]
    shown = [name for name in names if not show or name in show]
    panels = {name: _map_height(traced[name].shape[-1]) for name in shown} | {"norm": _NORM}
    group_height = _GROUP + sum(panels.values()) + _GAP * len(panels)
    height = _TOP + _BOTTOM + len(groups) * group_height - _GAP
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.1 / WIDTH, 1 - 0.12 / height, title, va="top", fontsize=11, weight="bold")
    at = height - _TOP
    layers_shown = range(layers) if layer_numbers is None else layer_numbers
    shared: Axes | None = None
    for layer, direction in groups:
        at -= _GROUP
        one = {name: traced[name][layer, direction] for name in names}
        name = f"layer {layers_shown[layer]}" + (", reverse" if direction else "")
        figure.text(
            _LEFT / WIDTH, (at + 0.06) / height, f"{name}: {_order_in_words(one, cell, sort)}"
        )
        for gate, panel in panels.items():
            at -= panel
            place = (_LEFT / WIDTH, at / height, _MAP / WIDTH, panel / height)
            axes = figure.add_axes(place, sharex=shared)
            shared = shared or axes
            if gate == "norm":
                _draw_norms(axes, one, first_step)
            else:
                order = unit_order(*_sorted_by(one, cell, sort, gate))
                _draw_map(figure, axes, gate, one[gate][:, order], first_step)
            axes.set_ylabel(_NAMES.get(gate, "norm"))
            axes.yaxis.set_label_coords(-0.055, 0.5)
            axes.tick_params(axis="x", labelbottom=False, length=0)
            at -= _GAP
    _label_time(axes, steps, first_step, labels)
    return figure


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


def _map_height(units: int) -> float:
    return min(_MOST, max(_LEAST, units / DPI))


def _draw_map(figure: Figure, axes: Axes, gate: str, values: Array, first_step: int) -> None:
    """Draw values (T, H) with time to the right and units downwards."""
    steps, units = values.shape
    if gate in _SIGNED:
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max(initial=0)) if gate in ("h", "c") else 1.0
        low, high, colours = -(largest or 1.0), largest or 1.0, DIVERGING
    else:
        low, high, colours = 0.0, 1.0, SEQUENTIAL
    image = axes.imshow(
        np.ma.masked_invalid(values.T.astype(np.float64)),  # float32 has no room for high - low
        cmap=colours,
        vmin=low,
        vmax=high,
        aspect="auto",
        extent=(first_step - 0.5, first_step + steps - 0.5, units, 0),
    )
    axes.grid(visible=False)
    axes.set_yticks([0, units])
    axes.set_yticklabels(["0", str(units)])
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.1 / WIDTH, box.y0, _BAR / WIDTH, box.height))
    colourbar = figure.colorbar(image, cax=bar)
    colourbar.set_ticks([low, (low + high) / 2, high])
    colourbar.set_ticklabels([f"{tick:.3g}" for tick in (low, (low + high) / 2, high)])
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
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2)


def _label_time(axes: Axes, steps: int, first_step: int, labels: Sequence[str]) -> None:
    axes.set_xlim(first_step - 0.5, first_step + steps - 0.5)
    axes.tick_params(axis="x", labelbottom=True, length=3)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    if labels and steps <= _MOST_LABELS:
        axes.set_xticks(range(first_step, first_step + steps))
        shown = [_VISIBLE.get(label, label) for label in labels]
        axes.set_xticklabels(shown, fontsize=7.5, family="DejaVu Sans Mono")
        axes.tick_params(axis="x", length=0)
        for panel in axes.figure.axes:
            panel.grid(visible=False, axis="x")
        axes.set_xlabel(f"input at each step, from step {first_step}")
    else:
        axes.set_xlabel("time step")
