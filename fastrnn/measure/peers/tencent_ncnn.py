"""ncnn: one recurrent layer after the other, one thread, float32. It has no batch: one row only.

Its layers read their parameters in this order (https://github.com/Tencent/ncnn, src/layer/lstm.cpp,
gru.cpp, rnn.cpp): weights with x, biases, weights with h; LSTM's gates are i f o g and its biases
one sum; GRU's are r z n and its biases the sums of r and of z, then n's with x and with h. Each
begins with four zero bytes: raw float32 (modelbin.cpp).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.runner import Array, Runner

RAW = b"\0\0\0\0"
MAGIC = "7767517"  # of the text format
DIRECTION = {False: 0, True: 2}  # by bidirectional


def can(case: Case) -> bool:
    """Whether `case` has one row; projections are left out."""
    return case.batch == 1 and not case.proj_size


def runners(case: Case, weights: Weights) -> list[Runner]:
    """One way."""
    return [Ncnn(case, weights)]


def _parameters(case: Case, weights: Weights, k: int) -> bytes:
    """Return those of layer k."""
    suffixes = [f"_l{k}", f"_l{k}_reverse"][: case.config.directions]
    parts: list[list[Array]] = [[], [], []]
    for suffix in suffixes:
        w_ih, w_hh, b_ih, b_hh = (
            weights[f"{name}{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        bias = b_ih + b_hh
        if case.cell == "LSTM":
            w_ih, w_hh, bias = (_swap_last_gates(a) for a in (w_ih, w_hh, bias))
        if case.cell == "GRU":
            H = case.hidden_size
            bias = np.concatenate([bias[: 2 * H], b_ih[2 * H :], b_hh[2 * H :]])
        for part, array in zip(parts, (w_ih, bias, w_hh), strict=True):
            part.append(array)
    return b"".join(RAW + np.concatenate(part).tobytes() for part in parts)


def _swap_last_gates(array: Array) -> Array:
    i, f, g, o = np.split(array, 4)
    return np.concatenate([i, f, o, g])


def _text(case: Case) -> str:
    """Return the network: an input x and the layers' states, y and the next states."""
    states = case.states if case.carries_state else ()
    lines, blobs = ["Input x 0 1 x"], 1
    for k in range(case.num_layers):
        bottoms = [f"y{k - 1}" if k else "x", *(f"{s}{k}" for s in states)]
        tops = [f"y{k}", *(f"{s}{k}_next" for s in states)]
        lines += [f"Input {s}{k} 0 1 {s}{k}" for s in states]
        size = case.config.shapes()[f"weight_ih_l{k}"]
        count = size[0] * size[1] * case.config.directions
        options = f"0={case.hidden_size} 1={count} 2={DIRECTION[case.bidirectional]}"
        ends = f"{len(bottoms)} {len(tops)} {' '.join(bottoms)} {' '.join(tops)}"
        lines.append(f"{case.cell} layer{k} {ends} {options}")
        blobs += len(states) + len(tops)
    return "\n".join([MAGIC, f"{len(lines)} {blobs}", *lines, ""])


class Ncnn(Runner):
    """An extractor for each call, as ncnn is used; states are its output blobs."""

    name = "ncnn"

    def __init__(self, case: Case, weights: Weights) -> None:
        import ncnn

        super().__init__(case)
        self.ncnn = ncnn
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.use_vulkan_compute = False
        for name in dir(net.opt):
            if name.startswith(("use_fp16", "use_bf16", "use_int8")):
                setattr(net.opt, name, False)
        parameters = [_parameters(case, weights, k) for k in range(case.num_layers)]
        self.parameters = b"".join(parameters)  # kept: the network may refer to it
        net.load_param_mem(_text(case))
        net.load_model_mem(self.parameters)
        self.net = net
        self.y = f"y{case.num_layers - 1}"
        states = case.states if case.carries_state else ()
        zeros = np.zeros((1, case.hidden_size), np.float32)
        self.state: dict[str, Any] = {
            f"{s}{k}": ncnn.Mat(zeros).clone() for k in range(case.num_layers) for s in states
        }
        self.next = [(name, f"{name}_next") for name in self.state]

    def convert(self, x: Array) -> Any:
        """Return x (T, I) as a Mat of its own."""
        return self.ncnn.Mat(x.reshape(self.case.steps, self.case.input_size)).clone()

    def call(self, x: Any) -> Any:
        """Run one extractor."""
        extractor = self.net.create_extractor()
        extractor.input("x", x)
        for name, value in self.state.items():
            extractor.input(name, value)
        _, y = extractor.extract(self.y)
        for name, following in self.next:
            _, self.state[name] = extractor.extract(following)
        return y
