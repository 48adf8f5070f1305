"""tract: an ONNX model, optimized and run by one state; one thread."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.onnx_model import Feed, onnx_model
from fastrnn.measure.peers.onnx_model import can as onnx_can
from fastrnn.measure.peers.runner import Array, Runner


def can(case: Case) -> bool:
    """Whether `case` is unidirectional: of others it gave other outputs than everyone (0.23.9)."""
    return onnx_can(case) and not case.bidirectional


def runners(case: Case, weights: Weights) -> list[Runner]:
    """One way."""
    return [Tract(case, weights)]


class Tract(Feed):
    """Outputs are tensors of its own, which are the next call's states."""

    name = "tract"

    def __init__(self, case: Case, weights: Weights) -> None:
        import tract

        super().__init__(case)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(onnx_model(case, weights))
            model = tract.onnx().load(path)
        self.state = model.into_model().into_runnable().spawn_state()

    def run(self, feed: dict[str, Array]) -> Any:
        """Run the state."""
        return self.state.run([feed["x"], *(feed[name] for name in self.carried)])

    def to_numpy(self, y: Any) -> Array:
        """Return a copy."""
        return super().to_numpy(y.to_numpy())
