"""A figure laid out in whole pixels, from the top: what a heat map needs to be true.

A map whose rows are not whole pixels high is resampled, and a unit is then drawn at part of its
value, or not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastrnn.plots.style import DPI

Array = npt.NDArray[Any]

MOST = 30_000  # pixels of a figure's height: Agg draws fewer than 2^16


class Sheet:
    """A figure whose parts are placed by pixels, each below the one before."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        # A hair more, since the canvas truncates what binary fractions make of whole pixels.
        self.figure = Figure(figsize=((width + 1e-6) / DPI, (height + 1e-6) / DPI), dpi=DPI)

    def axes(self, left: int, top: int, width: int, height: int, **options: Any) -> Axes:
        """Add axes, `top` pixels below the figure's upper edge."""
        across, up = self.width + 1e-6, self.height + 1e-6
        place = (left / across, (self.height - top - height) / up, width / across, height / up)
        return self.figure.add_axes(place, **options)

    def text(self, left: int, top: int, words: str, **options: Any) -> None:
        """Write words whose upper edge is `top` pixels below the figure's."""
        x, y = left / self.width, (self.height - top) / self.height
        self.figure.text(x, y, words, va="top", **options)


def extremes(values: Array, across: int, down: int) -> Array:
    """Return of each block of (across, down) values the one farthest from 0; NaN if it has one.

    Parameters
    ----------
    values : float array (T, H)

    Returns
    -------
    array (ceil(T / across), ceil(H / down))
    """
    if across == down == 1:
        return values
    columns, rows = -(-values.shape[0] // across), -(-values.shape[1] // down)
    missing = columns * across - values.shape[0], rows * down - values.shape[1]
    padded = np.pad(values, ((0, missing[0]), (0, missing[1])))
    blocks = padded.reshape(columns, across, rows, down).swapaxes(1, 2)
    flat = blocks.reshape(columns, rows, across * down)
    return np.take_along_axis(flat, np.abs(flat).argmax(axis=-1)[..., None], axis=-1)[..., 0]
