"""A case as an ONNX model, which several runtimes read; and buffers that stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.measure.cases import Case, Weights
from fastrnn.measure.peers.runner import Array, Runner
from fastrnn.models.export.nodes import ORDER


def can(case: Case) -> bool:
    """Whether ONNX has it: it has no projection."""
    return not case.proj_size


def _reordered(cell: str, value: Array) -> Array:
    gates = np.split(value, len(ORDER[cell]))
    return np.concatenate([gates[i] for i in ORDER[cell]])


_latest: list[tuple[Case, Weights, bytes]] = []  # several runtimes in turn ask for the same


def onnx_model(case: Case, weights: Weights) -> bytes:
    """Return `case` as a model, as `make_model` does; the latest one is kept."""
    if not _latest or _latest[0][0] != case or _latest[0][1] is not weights:
        _latest[:] = [(case, weights, make_model(case, weights))]
    return _latest[0][2]


def make_model(case: Case, weights: Weights) -> bytes:
    """Return a model of one node for each layer: x, h (and c) to y and the next h (and c).

    A stack's states are one input each, sliced by layer. One step of one layer has no y, which is
    the next h. Without carried state there are no states at all.
    """
    from onnx import TensorProto, helper, numpy_helper

    config = case.config
    directions = config.directions
    nodes, constants = [], {}
    options: dict[str, Any] = {"linear_before_reset": 1} if case.cell == "GRU" else {}
    states = case.states if case.carries_state else ()
    single = config.num_layers == 1
    w = {name: _reordered(case.cell, array) for name, array in weights.items()}
    parts = {state: [f"{state}_l{k}" for k in range(config.num_layers)] for state in states}
    if not single:
        nodes += [helper.make_node("Split", [s], parts[s], axis=0) for s in states]
    value = "x"
    for k in range(config.num_layers):
        suffixes = [f"_l{k}", f"_l{k}_reverse"][:directions]
        constants[f"W{k}"] = np.stack([w[f"weight_ih{s}"] for s in suffixes])
        constants[f"R{k}"] = np.stack([w[f"weight_hh{s}"] for s in suffixes])
        constants[f"bias{k}"] = np.stack(
            [np.concatenate([w[f"bias_ih{s}"], w[f"bias_hh{s}"]]) for s in suffixes]
        )
        last = k == config.num_layers - 1
        wants_y = not (single and case.is_step)
        y = f"y{k}" if wants_y else ""
        first = [s if single else parts[s][k] for s in states]
        after = [f"{s}_next" if single else f"{s}_next_l{k}" for s in states]
        node = helper.make_node(
            case.cell,
            [value, f"W{k}", f"R{k}", f"bias{k}", *(["", *first] if first else [])],
            [y, *after],
            hidden_size=config.hidden_size,
            direction="bidirectional" if config.bidirectional else "forward",
            **options,
        )
        nodes.append(node)
        if wants_y:  # (T, D, B, H) to (T, B, D*H)
            value = "y" if last else f"x{k + 1}"
            if directions == 1:
                nodes.append(helper.make_node("Squeeze", [y, "axis"], [value]))
                constants["axis"] = np.array([1])
            else:
                nodes.append(
                    helper.make_node("Transpose", [y], [f"t{k}"], perm=[0, 2, 1, 3]),
                )
                nodes.append(helper.make_node("Reshape", [f"t{k}", "joined"], [value]))
                constants["joined"] = np.array([0, 0, -1])
    if not single:
        for s in states:
            last_parts = [f"{s}_next_l{k}" for k in range(config.num_layers)]
            nodes.append(helper.make_node("Concat", last_parts, [f"{s}_next"], axis=0))
    shapes = _shapes(case)

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])

    graph = helper.make_graph(
        nodes,
        "rnn",
        [info(name) for name in ("x", *states)],
        [info(name) for name in output_names(case)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    model: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return model


def output_names(case: Case) -> list[str]:
    """Return "y", unless that is the next h, and the next states."""
    y = [] if case.is_step and case.num_layers == 1 else ["y"]
    return y + [f"{state}_next" for state in case.states if case.carries_state]


def _shapes(case: Case) -> dict[str, tuple[int, ...]]:
    width = case.config.directions * case.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "x": (case.steps, case.batch, case.input_size),
        "y": (case.steps, case.batch, width),
    }
    for state, shape in case.state_shapes.items():
        shapes[state] = shapes[f"{state}_next"] = shape
    return shapes


class Buffers(Runner):
    """Own buffers for x, y and two sets of states, which take turns as input and output."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        shapes = _shapes(case)
        states = case.states if case.carries_state else ()
        sets = [{s: np.zeros(shapes[s], np.float32) for s in states} for _ in range(2)]
        self.x = np.zeros(shapes["x"], np.float32)
        self.y = np.zeros(shapes["y"], np.float32)
        self.turns: list[tuple[dict[str, Array], dict[str, Array]]] = []  # inputs, outputs
        for old, new in (sets, sets[::-1]):
            next_states = {f"{state}_next": array for state, array in new.items()}
            y = {"y": self.y} if "y" in output_names(case) else {}
            self.turns.append(({"x": self.x, **old}, {**y, **next_states}))

    def ready(self, calls: Sequence[Callable[[], Any]]) -> None:
        """`calls` run the two turns."""
        first = output_names(self.case)[0]
        ys = [outputs[first] for _, outputs in self.turns]
        self.now, self.then = zip(calls, ys, strict=True)

    def call(self, x: Array) -> Array:
        """Copy x in, run, and take turns."""
        self.x[...] = x
        now = self.now
        now[0]()
        self.now, self.then = self.then, now
        return now[1]


class Feed(Runner):
    """Outputs are new arrays in every call; they are the next call's states."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.outputs = output_names(case)
        self.carried = [name.removesuffix("_next") for name in self.outputs if name != "y"]
        self.first_state = len(self.outputs) - len(self.carried)
        self.feed = {s: np.zeros(case.state_shapes[s], np.float32) for s in self.carried}

    def run(self, feed: dict[str, Array]) -> Any:
        """Return the outputs, in order."""
        raise NotImplementedError

    def call(self, x: Array) -> Any:
        """Feed x and the last call's states."""
        feed = self.feed
        feed["x"] = x
        values = self.run(feed)
        feed.update(zip(self.carried, values[self.first_state :], strict=True))
        return values[0]
