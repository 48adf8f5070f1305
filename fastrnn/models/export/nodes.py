"""torch's recurrent modules as ONNX nodes, while torch's new exporter traces a model.

Left to itself it decomposes them into loops, which freeze time at the example's length. Here each
layer becomes one node, with its weights in ONNX's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

# Torch's gates in ONNX's order: i f g o to i o f c, r z n to z r h.
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}

_PREFIX = "onnx_"  # of the buffers that hold weights in that order

Forward = Callable[..., Any]


@contextmanager
def as_nodes(module: Any) -> Iterator[None]:
    """Let every recurrent layer and cell in the torch module `module` trace as ONNX nodes.

    Those with a forward of their own stay as they are, and so do calls with a PackedSequence.
    """
    from torch import nn

    with ExitStack() as undo:
        for part in module.modules():
            if "forward" in vars(part):
                continue
            for cell in ORDER:
                forward = type(part).forward
                if forward is getattr(nn, cell).forward:
                    part.forward = _layer(part, cell, undo)
                elif forward is getattr(nn, f"{cell}Cell").forward:
                    part.forward = _step(part, cell, undo)
                else:
                    continue
                undo.callback(delattr, part, "forward")
        yield


def name_nodes(graph: Any) -> None:
    """Call the nodes of an ONNX graph that `as_nodes` made by their modules: "lstm_l0", "cell".

    One that stands several times in the graph, as a cell does that is called in a loop, is
    "cell", "cell_1" and so on.
    """
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type in ORDER and _PREFIX in node.input[1]:
            own = node.input[1].replace(f"{_PREFIX}W", "").replace("._", "_").strip("._")
            own = own or f"{node.op_type}Cell"
            names = (f"{own}_{i}" if i else own for i in range(len(taken) + 1))
            node.name = next(name for name in names if name not in taken)
            taken.add(node.name)


def _layer(layer: Any, cell: str, undo: ExitStack) -> Forward:
    """Return forward of an LSTM, GRU or RNN."""
    from torch import cat
    from torch.nn.utils.rnn import PackedSequence

    directions = ["", "_reverse"][: 1 + layer.bidirectional]
    nodes = [
        _Node.of(layer, cell, [f"_l{k}{direction}" for direction in directions], undo)
        for k in range(layer.num_layers)
    ]
    original = type(layer).forward

    def forward(x: Any, hx: Any = None) -> Any:
        if isinstance(x, PackedSequence):
            return original(layer, x, hx)
        states = _tuple(hx)
        batched = x.dim() == 3
        if not batched:
            x, states = x.unsqueeze(1), [state.unsqueeze(1) for state in states]
        elif layer.batch_first:
            x = x.transpose(0, 1)
        ends = []
        for k, node in enumerate(nodes):
            own = slice(k * len(directions), (k + 1) * len(directions))
            y, *after = node(x, [state[own] for state in states])
            x = y.squeeze(1) if len(directions) == 1 else y.transpose(1, 2).flatten(2)
            ends.append(after)
        states = [cat(parts) for parts in zip(*ends, strict=True)]
        if not batched:
            x, states = x.squeeze(1), [state.squeeze(1) for state in states]
        elif layer.batch_first:
            x = x.transpose(0, 1)
        return x, tuple(states) if len(states) > 1 else states[0]

    return forward


def _step(layer: Any, cell: str, undo: ExitStack) -> Forward:
    """Return forward of an LSTMCell, GRUCell or RNNCell: a node of one step."""
    node = _Node.of(layer, cell, [""], undo)

    def forward(x: Any, hx: Any = None) -> Any:
        states = _tuple(hx)
        batched = x.dim() == 2
        if not batched:
            x, states = x.unsqueeze(0), [state.unsqueeze(0) for state in states]
        _, *after = node(x.unsqueeze(0), [state.unsqueeze(0) for state in states])
        after = [state.squeeze(0) if batched else state.squeeze(0).squeeze(0) for state in after]
        return tuple(after) if len(after) > 1 else after[0]

    return forward


def _tuple(hx: Any) -> list[Any]:
    """Return the states that a module is called with: none, h, or h and c."""
    return [] if hx is None else list(hx) if isinstance(hx, (tuple, list)) else [hx]


@dataclass
class _Node:
    """One ONNX node: a layer in one direction or both, or a cell."""

    layer: Any
    cell: str
    buffers: list[str | None]  # of W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H), by name
    projections: list[str]  # of weight_hr (P, H), for each direction; none without proj_size
    attributes: dict[str, Any]

    @classmethod
    def of(cls, layer: Any, cell: str, suffixes: list[str], undo: ExitStack) -> _Node:
        """Give `layer` the weights in ONNX's order as buffers, which `undo` takes away."""
        from torch import stack

        projections = [f"weight_hr{s}" for s in suffixes] if getattr(layer, "proj_size", 0) else []
        found = _weights(layer, cell, suffixes, projections)
        buffers: list[str | None] = []
        for name, parts in zip("WRB", found, strict=True):
            full = f"{_PREFIX}{name}{suffixes[0]}"  # a name of the layer's in the file
            buffers.append(full if parts else None)
            if parts:
                layer.register_buffer(full, stack(parts), persistent=False)
                undo.callback(delattr, layer, full)
        attributes = {
            "hidden_size": layer.hidden_size,
            "direction": "bidirectional" if len(suffixes) == 2 else "forward",
        }
        if cell == "GRU":
            attributes["linear_before_reset"] = 1
        elif cell == "RNN":
            attributes["activations"] = [layer.nonlinearity.capitalize()] * len(suffixes)
        return cls(layer, cell, buffers, projections, attributes)

    def __call__(self, x: Any, states: list[Any]) -> list[Any]:
        """Return y (T, D, B, H) and the last states (D, B, H), of x (T, B, I)."""
        from torch.onnx.ops import symbolic_multi_out

        if self.projections and states:
            raise ValueError(
                "an LSTM with proj_size that is given its first states, which ONNX's has no input "
                "for: export the model without them, its streams carry the state"
            )
        # Fetched when traced: the exporter puts tensors of its own in the buffers' place.
        weights: list[Any] = [name and getattr(self.layer, name) for name in self.buffers]
        (steps, rows, _), (directions, _, hidden) = x.shape, weights[1].shape
        ends = 2 if self.cell == "LSTM" else 1
        shapes = [(steps, directions, rows, hidden)] + [(directions, rows, hidden)] * ends
        made = symbolic_multi_out(
            self.cell,
            [x, *weights, *([None, *states] if states else [])],
            self.attributes,
            dtypes=[x.dtype] * len(shapes),
            shapes=shapes,
        )
        if not self.projections:
            return list(made)
        y, h, c = made
        return [self._projected(y, 1), self._projected(h, 0), c]

    def _projected(self, h: Any, axis: int) -> Any:
        """Return h (..., H) as (..., P), each direction along `axis` by its own weights."""
        from torch import stack

        parts = zip(h.unbind(axis), self.projections, strict=True)
        return stack([part @ getattr(self.layer, name).T for part, name in parts], axis)


def _weights(layer: Any, cell: str, suffixes: list[str], projections: list[str]) -> list[list[Any]]:
    """Return W, R and B, each a part per direction; B without parts where there are no biases."""
    from torch import cat

    def ordered(name: str) -> Any:
        gates = getattr(layer, name).detach().chunk(len(ORDER[cell]))
        return cat([gates[i] for i in ORDER[cell]])

    w = [ordered(f"weight_ih{s}") for s in suffixes]
    r = [ordered(f"weight_hh{s}") for s in suffixes]
    b = [cat([ordered(f"bias_ih{s}"), ordered(f"bias_hh{s}")]) for s in suffixes if layer.bias]
    if projections:
        # ONNX has no projection. R on what is projected is R times the projection on what is not.
        hr = [getattr(layer, name).detach() for name in projections]
        r = [(x.double() @ p.double()).to(x.dtype) for x, p in zip(r, hr, strict=True)]
    return [w, r, b]
