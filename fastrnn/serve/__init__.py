"""Many stateful streams behind asyncio: `Batcher`, and the server that `fastrnn serve` runs.

The batcher needs nothing but NumPy; `fastrnn.serve.server` needs the extra `serve`.
"""

from fastrnn.serve.batcher import Batcher
from fastrnn.serve.session import ClosedError, Session
from fastrnn.serve.stats import Stats

__all__ = ["Batcher", "ClosedError", "Session", "Stats"]
