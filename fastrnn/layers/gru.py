"""`GRU` and `GRUCell`: torch's and the original form, on NumPy arrays, for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastrnn.layers.cell import Array, RecurrentCell
from fastrnn.layers.options import Options, takes_options
from fastrnn.layers.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
class GRU(RecurrentLayer[Array]):
    """Gated recurrent unit, as `torch.nn.GRU` in eval mode.

    r, z = sigmoid of `W_ih x + b_ih + W_hh h + b_hh`; `h = (1-z)*n + z*h`, where n is
    `tanh(W_in x + b_in + r*(W_hn h + b_hn))`, or with `reset_after=False`
    `tanh(W_in x + b_in + W_hn (r*h) + b_hn)` (https://arxiv.org/abs/1406.1078).

    Parameters
    ----------
    input_size, hidden_size : int
        As in torch.
    num_layers : int
        As in torch.
    bias : bool
        As in torch.
    batch_first, bidirectional : bool
        As in torch.
    dropout : float
        Accepted and ignored, as in eval mode.
    reset_after : bool
        True: the reset gate comes after the product, as in torch. False: before it, the original
        form (Keras `reset_after=False`, ONNX `linear_before_reset=0`).
    {options}

    Examples
    --------
    >>> gru = fastrnn.load("net.npz", "gru", batch_first=True)
    >>> y, h_n = gru(np.zeros((8, 100, 3)))
    >>> y.shape, h_n.shape
    ((8, 100, 5), (1, 8, 5))
    """

    _cell = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            {"reset_after": bool(reset_after)},
            options,
        )

    @property
    def reset_after(self) -> bool:
        """Whether the reset gate comes after the product."""
        return bool(self._cell_options["reset_after"])


@takes_options
class GRUCell(RecurrentCell):
    """One GRU step, as `torch.nn.GRUCell`; `reset_after` as in `GRU`.

    Examples
    --------
    >>> weights = fastrnn.load("net.npz", "gru").state_dict()
    >>> cell = fastrnn.GRUCell.from_state_dict(weights)
    >>> h = cell(np.zeros((8, 3)))
    >>> h = cell(np.zeros((8, 3)), h, out=h)  # in place
    """

    _layer_type = GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            GRU(
                input_size,
                hidden_size,
                bias=bias,
                reset_after=reset_after,
                **options,
            )
        )

    def __call__(self, x: npt.ArrayLike, hx: Any = None, out: Any = None) -> Array:
        """Advance by one step: x (B, I) and hx (B, H) to h; hx and out as in `LSTMCell`."""
        return self._step_h(x, hx, out)
