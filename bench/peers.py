"""The other runtimes that run a PyTorch LSTM or GRU on a CPU, behind one interface.

A `Peer` makes runners: ways to use that runtime, of which the caller takes the fastest. A runner
carries its own state from call to call, gets x in its own form of array (`convert`, which is not
timed), and leaves y in its own form (`to_numpy`).

Everyone has one thread, float32, shapes fixed beforehand where that is possible, and buffers that
are reused where the runtime can do that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt

import fastrnn

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]
LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU}


@dataclass(frozen=True)
class Case:
    """What is computed in one call: T steps of B rows; one step if T is 1."""

    cell: str
    size: int  # I = H
    batch: int
    steps: int = 1

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(B, I) of one step, (T, B, I) of several."""
        return self.sequence_shape if self.steps > 1 else (self.batch, self.size)

    @property
    def sequence_shape(self) -> tuple[int, ...]:
        return (self.steps, self.batch, self.size)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (1, self.batch, self.size)

    @property
    def states(self) -> list[str]:
        return ["h", "c"] if self.cell == "LSTM" else ["h"]

    def __str__(self) -> str:
        return f"{self.cell} H={self.size} B={self.batch} T={self.steps}"


def random_weights(case: Case, rng: np.random.Generator) -> dict[str, Array]:
    """Uniform in +-1/sqrt(H), as torch initialises."""
    size, gates = case.size, {"LSTM": 4, "GRU": 3}[case.cell]
    shapes = {
        "weight_ih_l0": (gates * size, size),
        "weight_hh_l0": (gates * size, size),
        "bias_ih_l0": (gates * size,),
        "bias_hh_l0": (gates * size,),
    }
    bound = size**-0.5
    return {
        name: rng.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()
    }


class Runner:
    """One way to use one runtime. `call(x)` advances the state by the case's steps.

    x as NumPy has the case's x_shape, and y too: I = H.
    """

    name = ""

    def __init__(self, case: Case) -> None:
        self.case = case

    def convert(self, x: Array) -> Any:
        return x.reshape(self.case.sequence_shape)

    def enter(self) -> None:
        """Before some calls: sets what is global in the runtime."""

    def call(self, x: Any) -> Any:
        raise NotImplementedError

    def to_numpy(self, y: Any) -> Array:
        """Return a copy."""
        return np.array(y).reshape(self.case.x_shape)


class Fastrnn(Runner):
    name = "fastrnn"

    def __init__(self, case: Case, weights: Weights) -> None:
        super().__init__(case)
        self.stream = LAYERS[case.cell].from_state_dict(weights).stream(case.batch)
        self.out = np.empty((case.batch, case.size), np.float32)
        self.call = self.step if case.steps == 1 else self.stream.run

    def convert(self, x: Array) -> Array:
        return x

    def step(self, x: Array) -> Array:
        return self.stream.step(x, out=self.out)


class Torch(Runner):
    """nn.LSTM, nn.GRU; nn.LSTMCell, nn.GRUCell. With or without oneDNN: either may be faster."""

    def __init__(self, case: Case, weights: Weights, kind: str, onednn: bool) -> None:
        import torch

        super().__init__(case)
        self.torch, self.onednn = torch, onednn
        self.name = f"torch nn.{kind}" + ("" if onednn else ", oneDNN off")
        is_cell = kind.endswith("Cell")
        self.module = getattr(torch.nn, kind)(case.size, case.size).eval()
        self.module.load_state_dict(
            {
                name.removesuffix("_l0") if is_cell else name: torch.from_numpy(value)
                for name, value in weights.items()
            }
        )
        zeros = torch.zeros(case.batch, case.size) if is_cell else torch.zeros(case.state_shape)
        self.state = (zeros, zeros) if case.cell == "LSTM" else zeros
        self.x_shape = case.x_shape if is_cell else case.sequence_shape
        self.call = self.sequence if not is_cell else getattr(self, kind.lower())

    def convert(self, x: Array) -> Any:
        return self.torch.from_numpy(x.reshape(self.x_shape))

    def enter(self) -> None:
        self.torch.backends.mkldnn.set_flags(self.onednn)

    def sequence(self, x: Any) -> Any:
        y, self.state = self.module(x, self.state)
        return y

    def lstmcell(self, x: Any) -> Any:
        self.state = self.module(x, self.state)
        return self.state[0]

    def grucell(self, x: Any) -> Any:
        self.state = self.module(x, self.state)
        return self.state


def torch_runners(case: Case, weights: Weights, kind: str) -> list[Runner]:
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # can be said once only
        torch.set_num_interop_threads(1)
    return [Torch(case, weights, kind, onednn) for onednn in (True, False)]


def reordered(cell: str, value: Array) -> Array:
    """Torch's gates to ONNX's, along the first axis: i f g o to i o f c, r z n to z r h."""
    order = (0, 3, 1, 2) if cell == "LSTM" else (1, 0, 2)
    gates = np.split(value, len(order))
    return np.concatenate([gates[i] for i in order])


def onnx_model(case: Case, weights: Weights) -> bytes:
    """Return a model of one node: x, h (and c) to y, unless T is 1, and the new h (and c)."""
    from onnx import TensorProto, helper, numpy_helper

    states, states_next = case.states, [f"{state}_next" for state in case.states]
    w = {name: reordered(case.cell, value) for name, value in weights.items()}
    constants = {
        "W": w["weight_ih_l0"][None],
        "R": w["weight_hh_l0"][None],
        "bias": np.concatenate([w["bias_ih_l0"], w["bias_hh_l0"]])[None],
    }
    sequence = [] if case.steps == 1 else ["y"]
    node = helper.make_node(
        case.cell,
        ["x", "W", "R", "bias", "", *states],
        [*(sequence or [""]), *states_next],
        hidden_size=case.size,
        **({"linear_before_reset": 1} if case.cell == "GRU" else {}),
    )
    shapes = {
        "x": case.sequence_shape,
        "y": (case.steps, 1, case.batch, case.size),
        **dict.fromkeys((*states, *states_next), case.state_shape),
    }

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])

    graph = helper.make_graph(
        [node],
        "rnn",
        [info(name) for name in ("x", *states)],
        [info(name) for name in (*sequence, *states_next)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def onnx_session(case: Case, weights: Weights) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = onnx_model(case, weights)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntime(Runner):
    """Plain `session.run`, which allocates its outputs; they are the next call's states."""

    name = "ONNX Runtime run"

    def __init__(self, case: Case, weights: Weights) -> None:
        super().__init__(case)
        self.session = onnx_session(case, weights)
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.first_state = self.outputs.index("h_next")
        self.feed = {state: np.zeros(case.state_shape, np.float32) for state in case.states}

    def call(self, x: Array) -> Array:
        feed = self.feed
        feed["x"] = x
        values = self.session.run(self.outputs, feed)
        feed.update(zip(self.case.states, values[self.first_state :], strict=True))
        return values[0]


class Buffers(Runner):
    """Own buffers for x, y and two sets of states, which take turns as input and output."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        sets = [{s: np.zeros(case.state_shape, np.float32) for s in case.states} for _ in range(2)]
        self.x = np.zeros(case.sequence_shape, np.float32)
        self.y = np.zeros((case.steps, 1, case.batch, case.size), np.float32)
        self.turns = []  # inputs and outputs by name
        for old, new in (sets, sets[::-1]):
            outputs = {f"{state}_next": new[state] for state in case.states}
            if case.steps > 1:
                outputs["y"] = self.y
            self.turns.append(({"x": self.x, **old}, outputs))

    def ready(self, calls: list[Callable[[], Any]]) -> None:
        """`calls` run the two turns."""
        ys = [outputs.get("y", outputs["h_next"]) for _, outputs in self.turns]
        self.now, self.then = zip(calls, ys, strict=True)

    def call(self, x: Array) -> Array:
        self.x[...] = x
        now = self.now
        now[0]()
        self.now, self.then = self.then, now
        return now[1]


class OnnxRuntimeBinding(Buffers):
    """I/O binding to buffers that stay."""

    name = "ONNX Runtime binding"

    def __init__(self, case: Case, weights: Weights) -> None:
        super().__init__(case)
        session = onnx_session(case, weights)
        calls = []
        for inputs, outputs in self.turns:
            binding = session.io_binding()
            for bind, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                for name, a in arrays.items():
                    bind(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
            calls.append(lambda binding=binding: session.run_with_iobinding(binding))
        self.ready(calls)


class OpenVino(Buffers):
    """Two infer requests on shared tensors."""

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


@dataclass(frozen=True)
class Peer:
    """A runtime, the packages it needs, and the ways to use it for a case."""

    needs: tuple[str, ...]
    make: Callable[[Case, Weights], list[Runner]]

    @property
    def missing(self) -> list[str]:
        return [package for package in self.needs if package not in versions()]


PEERS = {
    "torch": Peer(("torch",), lambda case, w: torch_runners(case, w, case.cell)),
    "torch cell": Peer(
        ("torch",),
        lambda case, w: torch_runners(case, w, f"{case.cell}Cell") if case.steps == 1 else [],
    ),
    "onnxruntime": Peer(
        ("onnx", "onnxruntime"), lambda case, w: [OnnxRuntime(case, w), OnnxRuntimeBinding(case, w)]
    ),
    "openvino": Peer(("onnx", "openvino"), lambda case, w: [OpenVino(case, w)]),
}


@cache
def versions() -> dict[str, str]:
    """Return the installed version of what the peers need; what is not installed is left out."""
    found = {}
    for package in sorted({package for peer in PEERS.values() for package in peer.needs}):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def inference_mode() -> contextlib.AbstractContextManager[Any]:
    """In which every runner is made and called."""
    if "torch" not in versions():
        return contextlib.nullcontext()
    import torch

    return torch.inference_mode()
