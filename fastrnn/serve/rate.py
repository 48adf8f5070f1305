"""`Rate`: how many frames a second one client may send."""

from __future__ import annotations


class Rate:
    """Allows a second's burst, then so many frames a second; 0: any."""

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._allowed = per_second
        self._counted = now

    def spend(self, frames: int, now: float) -> float:
        """Count frames that were sent, and return how many seconds too early that was."""
        if not self._per_second:
            return 0.0
        earned = (now - self._counted) * self._per_second
        self._allowed = min(self._per_second, self._allowed + earned) - frames
        self._counted = now
        return max(0.0, -self._allowed / self._per_second)
