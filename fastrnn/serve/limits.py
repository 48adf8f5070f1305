"""`Limits`: what one server bears, and what one client may do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one server bears, and what one client may do."""

    max_streams: int = 1000
    max_batch: int = 256
    max_wait_ms: float = 0.0
    max_message: int = 256 * 1024  # bytes, of an answer too
    # Frames a second of one connection, beyond a second's burst; 0: any. What has no frames, a
    # command or a ping, counts as one.
    max_rate: float = 0.0
    idle_seconds: float = 300.0  # without a message, or with an answer that is not taken
    drain_seconds: float = 10.0
