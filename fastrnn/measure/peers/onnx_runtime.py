"""ONNX Runtime: `session.run`, and I/O binding to buffers that stay."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.onnx_model import Buffers, Feed, onnx_model
from fastrnn.measure.peers.onnx_model import can as can
from fastrnn.measure.peers.runner import Array, Runner


def runners(case: Case, weights: Weights) -> list[Runner]:
    """Both ways, on one session."""
    session = _session(case, weights)
    return [Run(case, session), Binding(case, session)]


def _session(case: Case, weights: Weights) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = onnx_model(case, weights)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Run(Feed):
    """Plain `session.run`, which allocates its outputs."""

    name = "ONNX Runtime run"

    def __init__(self, case: Case, session: Any) -> None:
        super().__init__(case)
        self.session = session

    def run(self, feed: dict[str, Array]) -> Any:
        """Run the session."""
        return self.session.run(self.outputs, feed)


class Binding(Buffers):
    """I/O binding."""

    name = "ONNX Runtime binding"

    def __init__(self, case: Case, session: Any) -> None:
        super().__init__(case)
        calls = []
        for inputs, outputs in self.turns:
            binding = session.io_binding()
            for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                for name, a in arrays.items():
                    bind(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
            calls.append(partial(session.run_with_iobinding, binding))
        self.ready(calls)
