"""What every figure shares: type, colours, and how it is written."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from fastrnn.formats.replacing import replacing

# Okabe and Ito's palette, told apart with every kind of colour vision. https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, YELLOW = "#CC79A7", "#56B4E9", "#000000", "#F0E442"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#666666"

SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"

DPI = 110
CHART_WIDTH = 10.2  # inches

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # matplotlib brings it
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # names come from files
    "svg.hashsalt": "fastrnn",  # the same file from the same figures
    "svg.fonttype": "path",
}

styled = mpl.rc_context(_STYLE)


def write_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` as a PNG file, with the same bytes for the same figure."""
    with replacing(path) as file:
        file.write(png(figure))


def png(figure: Figure) -> bytes:
    """Return `figure` as a PNG file's bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Return `figure` as an <svg> element, without the XML declaration before it."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def log_axis(axes: Axes, which: str, ticks: Sequence[float] | None = None) -> None:
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
