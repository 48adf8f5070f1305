"""What a `Batcher` serves: anything that has pools of streams. Layers do; a model may as well."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Pool(Protocol):
    """Streams that come and go, as `fastrnn.StreamPool` has them. One thread steps them, while
    another opens, closes, saves, loads and resets others.

    One that has `work`, multiply-adds of one step of one stream, is stepped in the event loop's
    thread where a call is short.
    """

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one frame of one stream; a layer's is (input_size,)."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of what a frame gives."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of both."""

    def open(self) -> int:
        """Open a stream, and return its id."""

    def close(self, id: int) -> None:
        """Close a stream."""

    def step(self, ids: Any, x: Array, out: Array) -> Any:
        """Advance the streams `ids` (n,) by a frame each: x (n, *input_shape) to out."""

    def run(self, ids: Any, x: Array) -> Array:
        """Advance the streams `ids` by T frames each: x (T, n, ...) to y (T, n, ...).

        (n, T, ...) if what is served is batch_first.
        """

    def reset(self, ids: Any) -> None:
        """Put the streams `ids` where they began."""

    def save(self, id: int) -> bytes:
        """Return a stream's state."""

    def load(self, data: bytes) -> int:
        """Open a stream in a state that `save` returned; StateError for what is none."""


class Served(Protocol):
    """What has such pools: `fastrnn.LSTM` and its like. Its class is its name in messages."""

    @property
    def batch_first(self) -> bool:
        """The layout of `run`."""

    @property
    def fingerprint(self) -> str:
        """Of the model, in hexadecimal: the same wherever its saved states may go on."""

    def pool(self, capacity: int) -> Pool:
        """Return a pool with room for `capacity` streams, or raise ValueError if it has none."""
