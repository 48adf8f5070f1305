"""OpenVINO: two infer requests on shared tensors."""

from __future__ import annotations

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.onnx_model import Buffers, onnx_model
from fastrnn.measure.peers.onnx_model import can as can
from fastrnn.measure.peers.runner import Runner


def runners(case: Case, weights: Weights) -> list[Runner]:
    """One way."""
    return [OpenVino(case, weights)]


class OpenVino(Buffers):
    """Latency hint, float32, one thread."""

    name = "OpenVINO"

    def __init__(self, case: Case, weights: Weights) -> None:
        import openvino as ov

        super().__init__(case)
        core = ov.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(core.read_model(onnx_model(case, weights)), "CPU", settings)
        calls = []
        for inputs, outputs in self.turns:
            request = compiled.create_infer_request()
            for name, array in {**inputs, **outputs}.items():
                request.set_tensor(name, ov.Tensor(array, shared_memory=True))
            calls.append(request.infer)
        self.ready(calls)
