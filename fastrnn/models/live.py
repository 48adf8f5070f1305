"""`Live`: what has a state that calls advance, for one thread at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from fastrnn.errors import BusyError

NAME = "model stream"


class Live:
    """A stream: a call that meets another in progress raises BusyError; there are no copies."""

    def __init__(self) -> None:
        self._lock = Lock()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(False):
            raise BusyError(f"{NAME}: in use by another thread")
        try:
            yield
        finally:
            self._lock.release()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies and pickles, which would share or lose the live state."""
        raise TypeError(
            f"{NAME}: cannot be copied or pickled; copy its state into another stream of the same "
            "model: model.stream(batch).state = stream.state"
        )
