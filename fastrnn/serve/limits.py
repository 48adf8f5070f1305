"""`Limits`: what one server bears, and what one client may do."""

from __future__ import annotations

from dataclasses import dataclass

# For /health, /metrics, handshakes and refusals, beside those that hold streams.
SPARE_SOCKETS = 512

# From one listener in one turn of the event loop. A socket is closed some five turns after it was
# taken, if there is no room for it: descriptors for those of four listeners are in SPARE_FILES.
TAKEN_AT_ONCE = 10

# Descriptors of a server beside those of streams. Without one left asyncio says so for each socket
# that it could not take, in as many lines, and takes none for a second.
SPARE_FILES = SPARE_SOCKETS + 5 * 4 * TAKEN_AT_ONCE + 56


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

    def check_message(self, frame: int, answer: int, command: int) -> None:
        """Raise ValueError unless max_message holds a frame, its answer, and a saved state."""
        least = max(frame, answer, command)
        if self.max_message < least:
            raise ValueError(
                f"server: max_message={self.max_message}, expected at least {least} bytes: "
                f"a frame has {frame}, its answer {answer}, a message with a saved state {command}"
            )
