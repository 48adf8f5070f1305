"""LSTM, GRU and RNN models trained in PyTorch, run on CPUs without PyTorch.

    import fastrnn

    lstm = fastrnn.load("model.pt")              # one recurrent stack in the file
    y, (h_n, c_n) = lstm(x)                      # torch's shapes
    stream = lstm.stream(batch=8)
    y_t = stream.step(x_t)                       # (8, I) -> (8, H), state stays in the engine
    pool = lstm.pool(capacity=1000)              # streams that come and go: open, step, close

Shapes, state-dict keys and defaults are torch's wherever torch has one.
"""

from typing import TYPE_CHECKING

try:
    import fastrnn._kernels.core  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("fastrnn._kernels", "fastrnn._kernels.core"):
        raise
    raise ImportError(
        "fastrnn: this is the source tree, without its compiled core: leave its folder to import "
        "the installed package, or install it in place with: pip install -e ."
    ) from None

from fastrnn._kernels.pool import C_API as _C_API  # noqa: F401  what fr_import() looks for
from fastrnn.below import get_include
from fastrnn.errors import BusyError, FormatError, PoolFullError, StateError
from fastrnn.formats import read
from fastrnn.layers import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from fastrnn.loading import load, load_model
from fastrnn.machine import info
from fastrnn.models import Model
from fastrnn.streams import Stream, StreamPool
from fastrnn.version import __version__

if TYPE_CHECKING:
    from fastrnn.models.export import export
else:

    def __getattr__(name: str) -> object:
        if name == "export":  # nobody who runs models needs it
            from fastrnn.models.export import export

            return export
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), "export"})


__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BusyError",
    "FormatError",
    "GRUCell",
    "LSTMCell",
    "Model",
    "PoolFullError",
    "RNNCell",
    "StateError",
    "Stream",
    "StreamPool",
    "__version__",
    "export",
    "get_include",
    "info",
    "load",
    "load_model",
    "read",
]
