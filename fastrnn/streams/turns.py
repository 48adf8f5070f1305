"""`in_turn`: calls that would rather wait for a stream than be told that it is in use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastrnn.errors import BusyError

SHORTEST, LONGEST = 20e-6, 1e-3  # seconds between two tries: a step's time, and one nobody notices


def in_turn(wait: bool, call: Callable[..., Any], *arguments: Any) -> Any:
    """Return call(*arguments); to `wait` is to try until it raises no BusyError, in any order.

    A try that is refused changes nothing and takes no lock, so that those who never wait pay
    nothing for those who do.
    """
    pause = SHORTEST
    while True:
        try:
            return call(*arguments)
        except BusyError:
            if not wait:
                raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
