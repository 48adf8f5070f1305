"""State that the engine owns: one batch of streams, pools of many, and states as bytes."""

from fastrnn.streams.pool import StreamPool
from fastrnn.streams.stream import Stream

__all__ = ["Stream", "StreamPool"]
