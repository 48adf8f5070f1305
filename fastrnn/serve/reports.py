"""`Reports`: warnings of which strangers can cause any number, in few lines."""

from __future__ import annotations

import logging
from collections.abc import Callable

REPORT_SECONDS = 10.0


class Reports:
    """The first of a kind is logged at once, those of the next REPORT_SECONDS are counted."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._told: dict[str, float] = {}  # when, by kind
        self._more: dict[str, int] = {}

    def tell(self, kind: str, example: str = "") -> None:
        """Say or count that this happened once more; `example` may be a stranger's words."""
        if kind in self._told:
            self._more[kind] = self._more.get(kind, 0) + 1
        else:
            self._told[kind] = self._clock()
            self._logger.warning("%s", kind + (f", such as {example[:100]!a}" if example else ""))

    def flush(self, *, whole: bool = False) -> None:
        """Say what was counted in the last REPORT_SECONDS, once they are over; `whole`: now."""
        now = self._clock()
        for kind, since in [*self._told.items()]:
            if whole or now - since >= REPORT_SECONDS:
                more = self._more.pop(kind, 0)
                if more:
                    self._told[kind] = now
                    self._logger.warning("%s: %d more times", kind, more)
                else:
                    del self._told[kind]
