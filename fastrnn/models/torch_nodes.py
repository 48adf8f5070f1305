"""torch's recurrent modules as ONNX nodes, while torch's new exporter traces a model.

Left to itself it unrolls them or freezes time at the example's length: torch decomposes them in
loops. Here each layer becomes one node, its weights in ONNX's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

# Torch's gates in ONNX's order: i f g o to i o f c, r z n to z r h.
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


@contextmanager
def as_nodes(module: Any) -> Iterator[None]:
    """Let every recurrent layer and cell in the torch module `module` trace as ONNX nodes.

    Left as they are: those with a forward of their own, with proj_size (no ONNX node has it), and
    calls with a PackedSequence.
    """
    import torch

    with ExitStack() as undo:
        for part in module.modules():
            for cell in ORDER:
                layer, step = getattr(torch.nn, cell), getattr(torch.nn, f"{cell}Cell")
                own = type(part).forward
                if own is layer.forward and not part.proj_size:
                    undo.enter_context(_traced(part, _layer(part, cell, undo)))
                elif own is step.forward:
                    undo.enter_context(_traced(part, _cell(part, cell, undo)))
        yield


@contextmanager
def _traced(part: Any, forward: Callable[..., Any]) -> Iterator[None]:
    before = part.__dict__.get("forward")  # an instance may have been given its own
    if before is None:
        part.forward = forward
    try:
        yield
    finally:
        if before is None:
            del part.forward


def _layer(layer: Any, cell: str, undo: ExitStack) -> Callable[..., Any]:
    """Return forward of an LSTM, GRU or RNN: a node for each of its layers."""
    import torch

    directions = 2 if layer.bidirectional else 1
    weights = [
        _weights(layer, cell, [f"_l{k}", f"_l{k}_reverse"][:directions], undo)
        for k in range(layer.num_layers)
    ]
    attributes = _attributes(layer, cell, directions)
    original = type(layer).forward

    def forward(x: Any, hx: Any = None) -> Any:
        if isinstance(x, torch.nn.utils.rnn.PackedSequence):
            return original(layer, x, hx)
        states = None if hx is None else list(hx) if cell == "LSTM" else [hx]
        batched = x.dim() == 3
        if not batched:
            x = x.unsqueeze(1)
            states = states and [state.unsqueeze(1) for state in states]
        elif layer.batch_first:
            x = x.transpose(0, 1)
        last = []
        for k in range(layer.num_layers):
            here = slice(k * directions, (k + 1) * directions)
            first = states and [state[here] for state in states]
            y, *after = _node(cell, x, weights[k], first, attributes)
            x = y.squeeze(1) if directions == 1 else y.transpose(1, 2).flatten(2)
            last.append(after)
        after = [torch.cat(parts) for parts in zip(*last, strict=True)]
        if not batched:
            x, after = x.squeeze(1), [state.squeeze(1) for state in after]
        elif layer.batch_first:
            x = x.transpose(0, 1)
        return x, tuple(after) if cell == "LSTM" else after[0]

    return forward


def _cell(layer: Any, cell: str, undo: ExitStack) -> Callable[..., Any]:
    """Return forward of an LSTMCell, GRUCell or RNNCell: a node of one step."""
    weights = _weights(layer, cell, [""], undo)
    attributes = _attributes(layer, cell, 1)

    def forward(x: Any, hx: Any = None) -> Any:
        states = None if hx is None else list(hx) if cell == "LSTM" else [hx]
        batched = x.dim() == 2
        if not batched:
            x = x.unsqueeze(0)
            states = states and [state.unsqueeze(0) for state in states]
        first = states and [state.unsqueeze(0) for state in states]
        _, *after = _node(cell, x.unsqueeze(0), weights, first, attributes)
        after = [state.squeeze(0) for state in after]
        if not batched:
            after = [state.squeeze(0) for state in after]
        return tuple(after) if cell == "LSTM" else after[0]

    return forward


def _node(cell: str, x: Any, weights: list[Any], first: Any, attributes: dict[str, Any]) -> Any:
    """Return y (T, D, B, H) and the last states (D, B, H) of one ONNX node on x (T, B, I)."""
    from torch.onnx.ops import symbolic_multi_out

    steps, rows, _ = x.shape
    # taken when traced: the exporter puts tensors of its own in the buffers' place
    tensors = [entry and getattr(*entry) for entry in weights]
    directions, _, hidden = tensors[1].shape
    states = 2 if cell == "LSTM" else 1
    shapes = [(steps, directions, rows, hidden)] + [(directions, rows, hidden)] * states
    inputs = [x, *tensors, *([None, *first] if first else [])]
    return symbolic_multi_out(cell, inputs, attributes, dtypes=[x.dtype] * len(shapes), shapes=shapes)


def _weights(layer: Any, cell: str, suffixes: list[str], undo: ExitStack) -> list[Any]:
    """Return W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H) or None: buffers, so that they have names."""
    import torch

    def ordered(name: str) -> Any:
        gates = getattr(layer, name).detach().chunk(len(ORDER[cell]))
        return torch.cat([gates[i] for i in ORDER[cell]])

    def stacked(*names: str) -> Any:
        return torch.stack([torch.cat([ordered(n + s) for n in names]) for s in suffixes])

    found = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if layer.bias:
        found["B"] = stacked("bias_ih", "bias_hh")
    for name, value in found.items():
        layer.register_buffer(full := f"onnx_{name}{suffixes[0]}", value, persistent=False)
        undo.callback(delattr, layer, full)
    return [(layer, f"onnx_{name}{suffixes[0]}") if name in found else None for name in "WRB"]


def _attributes(layer: Any, cell: str, directions: int) -> dict[str, Any]:
    names = {"hidden_size": layer.hidden_size, "direction": ["forward", "bidirectional"][directions - 1]}
    if cell == "GRU":
        names["linear_before_reset"] = 1
    elif cell == "RNN":
        names["activations"] = [layer.nonlinearity.capitalize()] * directions
    return names
