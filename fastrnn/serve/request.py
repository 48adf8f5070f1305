"""`Request`: one call of a session, on its way from the event loop to the worker and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NOTHING: Array = np.empty((0, 0))


class Request:
    """Frames to step through, or an action on the stream between frames.

    What the answer needs is allocated with it, so that a step that was made cannot lack it.
    """

    __slots__ = ("action", "done", "frames", "future", "output", "since")

    def __init__(
        self,
        future: asyncio.Future[Any],
        frames: Array,
        output: Array,
        action: Callable[[], Any] | None,
    ) -> None:
        self.future = future
        self.frames = frames  # (k, *input_shape); NOTHING for an action
        self.output = output  # (k, *output_shape), filled up to `done`
        self.action = action
        self.done = 0  # frames stepped
        self.since = perf_counter()
