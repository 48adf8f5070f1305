"""The operators LSTM, GRU and RNN: what their inputs and attributes mean.

`cells.py` computes them as they stand, `packed.py` with fastrnn's layers where torch has the same.
Shapes: T steps, B rows, I inputs, H hidden units, D directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.models.ops import cells
from fastrnn.models.ops.laying import Calls, contiguous, copy, do
from fastrnn.models.ops.packed import Packed, pack
from fastrnn.models.ops.room import claim
from fastrnn.models.ops.table import Array, op, prepares

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def _run(
    kind: str,
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None,
    lengths: Array | None,
    h: Array | None,
    c: Array | None,
    p: Array | None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    linear_before_reset: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    check_weights(kind, w, r, bias, p, direction, hidden_size)
    directions, H = r.shape[0], r.shape[2]
    functions = cells.functions(kind, directions, activations, activation_alpha, activation_beta)
    made = [
        cells.Cell(
            kind,
            w[d],
            r[d],
            None if bias is None else bias[d],
            None if p is None else p[d],
            functions[d],
            clip,
            bool(input_forget),
            bool(linear_before_reset),
        )
        for d in range(directions)
    ]

    def run(x: Array, h: Array, c: Array, lengths: Array | None) -> tuple[Array, Array, Array]:
        ys = []
        for d, cell in enumerate(made):
            back = direction == "reverse" or d == 1
            y, h[d], c[d] = cell.steps(x, h[d], c[d], lengths, back)
            ys.append(y)
        return np.stack(ys, axis=2), h, c

    return whole(kind, x, w.shape[2], H, directions, lengths, h, c, layout, run)


def check_weights(
    kind: str,
    w: Array,
    r: Array,
    bias: Array | None,
    p: Array | None,
    direction: str,
    hidden_size: int | None,
) -> None:
    """ValueError unless the weights go together and are what the attributes say."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction={direction!r}, expected one of {', '.join(DIRECTIONS)}")
    directions, gates = DIRECTIONS[direction], cells.GATES[kind]
    H = r.shape[-1] if r.ndim == 3 else 0
    inputs = w.shape[-1] if w.ndim == 3 else 0
    wanted = {
        "W": (w, (directions, gates * H, inputs)),
        "R": (r, (directions, gates * H, H)),
        "B": (bias, (directions, 2 * gates * H)),
        "P": (p, (directions, 3 * H)),
    }
    for name, (array, shape) in wanted.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} is {array.shape}, expected {shape}")
    if not H or hidden_size not in (None, H):
        raise ValueError(f"hidden_size={hidden_size}, but R is {r.shape}")


def whole(
    kind: str,
    x: Array,
    inputs: int,
    H: int,
    directions: int,
    lengths: Array | None,
    h: Array | None,
    c: Array | None,
    layout: int,
    run: Callable[[Array, Array, Array, Array | None], tuple[Array, Array, Array]],
) -> tuple[Array, ...]:
    """Check x and the states, and run: x (T, B, I), h and c (D, B, H) to y (T, B, D, H), h, c.

    Returns Y (T, D, B, H), Y_h (D, B, H) and, of LSTM, Y_c; with layout=1 B comes first.
    """
    if x.ndim != 3 or x.shape[2] != inputs:
        raise ValueError(f"X is {x.shape}, expected three axes, the last of {inputs}")
    x = x.swapaxes(0, 1) if layout else x
    T, B = x.shape[:2]
    claim((T, B, directions * H), x.dtype, 3)
    states = []
    for name, state in (("initial_h", h), ("initial_c", c)):
        if state is None:
            states.append(np.zeros((directions, B, H), x.dtype))
            continue
        state = state.swapaxes(0, 1) if layout else state
        if state.shape != (directions, B, H):
            raise ValueError(f"{name} is {state.shape}, expected {(directions, B, H)}")
        states.append(np.array(state, x.dtype, order="C"))
    if lengths is not None:
        if lengths.shape != (B,) or not ((lengths >= 0) & (lengths <= T)).all():
            raise ValueError(f"sequence_lens is {lengths.shape}, expected {B} of 0 to {T}")
        lengths = lengths.astype(np.int64)
    y, h, c = run(x, *states, lengths)
    if layout:
        made = [y.transpose(1, 0, 2, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)]
    else:
        made = [y.transpose(0, 2, 1, 3), h, c]
    return tuple(made if kind == "LSTM" else made[:2])


@op("LSTM", 7)
def lstm(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    p: Array | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    """Long short-term memory: Y, Y_h, Y_c."""
    attributes = dict(locals())
    tensors = [attributes.pop(name) for name in ("x", "w", "r", "bias", "lengths", "h", "c", "p")]
    return _run("LSTM", *tensors, **attributes)


@op("GRU", 7)
def gru(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    linear_before_reset: int = 0,
    layout: int = 0,
) -> tuple[Array, ...]:
    """Gated recurrent unit: Y, Y_h."""
    attributes = dict(locals())
    tensors = [attributes.pop(name) for name in ("x", "w", "r", "bias", "lengths", "h")]
    return _run("GRU", *tensors, None, None, **attributes)


@op("RNN", 7)
def rnn(
    x: Array,
    w: Array,
    r: Array,
    bias: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    *,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Array, ...]:
    """Vanilla RNN: Y, Y_h."""
    attributes = dict(locals())
    tensors = [attributes.pop(name) for name in ("x", "w", "r", "bias", "lengths", "h")]
    return _run("RNN", *tensors, None, None, **attributes)


def _prepare(
    kind: str, constants: tuple[Array | None, ...], options: dict[str, Any], attributes: Any
) -> Callable[..., tuple[Array, ...]] | None:
    """A layer in place of the node, where torch has the same cell and its weights are constant."""
    _, w, r, bias, _, _, _, p = (*constants, *(None,) * 8)[:8]
    if w is None or r is None or p is not None:
        return None
    direction = attributes.get("direction", "forward")
    check_weights(kind, w, r, bias, None, direction, attributes.get("hidden_size"))
    packed = pack(kind, w, r, bias, options, attributes)
    return None if packed is None else _Node(kind, packed, int(attributes.get("layout", 0)))


class _Node:
    """A recurrent node that runs in a layer."""

    def __init__(self, kind: str, packed: Packed, layout: int) -> None:
        self.kind, self.packed, self.layout = kind, packed, layout

    def __call__(
        self,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
        p: Array | None = None,
    ) -> tuple[Array, ...]:
        directions, _, inputs = w.shape
        return whole(
            self.kind,
            x,
            inputs,
            r.shape[2],
            directions,
            lengths,
            h,
            c,
            self.layout,
            self.packed.run,
        )

    def lay(
        self,
        calls: Calls,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
        p: Array | None = None,
    ) -> tuple[Array, ...] | None:
        """As `table.lays` says: h and c are advanced in place."""
        if lengths is not None or self.packed.reverse or not x.size:
            return None
        directions, H = w.shape[0], r.shape[2]
        x = contiguous(calls, x.swapaxes(0, 1) if self.layout else x)
        T, B = x.shape[:2]
        states = []
        for state in (h, c):
            buffer = np.zeros((directions, B, H), x.dtype)
            if state is None:
                do(calls, buffer.fill, 0)
            else:
                copy(calls, buffer, state.swapaxes(0, 1) if self.layout else state)
            states.append(buffer)
        h, c = states
        y = np.empty((T, B, directions * H), x.dtype)
        do(calls, self.packed.layer.stack.run, x, h, c if self.kind == "LSTM" else None, y)
        split = y.reshape(T, B, directions, H)
        if self.layout:
            made = (split.transpose(1, 0, 2, 3), h.swapaxes(0, 1), c.swapaxes(0, 1))
        else:
            made = (split.transpose(0, 2, 1, 3), h, c)
        return made if self.kind == "LSTM" else made[:2]


@prepares(lstm)
def prepare_lstm(constants: Any, options: dict[str, Any], **attributes: Any) -> Any:
    """As `_prepare`."""
    return _prepare("LSTM", constants, options, attributes)


@prepares(gru)
def prepare_gru(constants: Any, options: dict[str, Any], **attributes: Any) -> Any:
    """As `_prepare`."""
    return _prepare("GRU", constants, options, attributes)


@prepares(rnn)
def prepare_rnn(constants: Any, options: dict[str, Any], **attributes: Any) -> Any:
    """As `_prepare`."""
    return _prepare("RNN", constants, options, attributes)
