"""`LSTM` and `LSTMCell`: torch's, on NumPy arrays, for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastrnn.layers.cell import Array, RecurrentCell
from fastrnn.layers.options import Options, takes_options
from fastrnn.layers.recurrent import RecurrentLayer
from fastrnn.sequences import state_pair

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
class LSTM(RecurrentLayer[tuple[Array, Array]]):
    """Long short-term memory, as `torch.nn.LSTM` in eval mode.

    i, f, o = sigmoid and g = tanh of `W_ih x + b_ih + W_hh h + b_hh`; `c = f*c + i*g`;
    `h = o*tanh(c)`, then `h = W_hr h` with a projection (https://arxiv.org/abs/1402.1128).

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
    proj_size : int
        As in torch.
    dropout : float
        Accepted and ignored, as in eval mode.
    {options}

    Examples
    --------
    >>> lstm = fastrnn.LSTM.from_state_dict(fastrnn.read("model.pt"), "encoder.lstm")
    >>> y, (h_n, c_n) = lstm(np.zeros((100, 8, 40)), lengths=[100, 7, 63, 0, 100, 9, 5, 31])
    >>> y.shape, h_n.shape
    ((100, 8, 64), (2, 8, 64))
    """

    _cell = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
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
            proj_size,
            {},
            options,
        )


@takes_options
class LSTMCell(RecurrentCell):
    """One LSTM step, as `torch.nn.LSTMCell`.

    Examples
    --------
    >>> weights = fastrnn.load("net.npz", "lstm").state_dict()
    >>> cell = fastrnn.LSTMCell.from_state_dict(weights)
    >>> h, c = cell(np.zeros((8, 3)))
    >>> h, c = cell(np.zeros((8, 3)), (h, c), out=(h, c))  # in place
    """

    _layer_type = LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            LSTM(
                input_size,
                hidden_size,
                bias=bias,
                **options,
            )
        )

    def __call__(self, x: npt.ArrayLike, hx: Any = None, out: Any = None) -> tuple[Array, Array]:
        """Advance by one step: x (B, I) and hx = (h, c) of (B, H) to (h, c).

        hx None means zeros. `out=(h, c)` are C-contiguous arrays of the cell's dtype to write
        into; they may be those of hx, which are then advanced in place.
        """
        if hx is not None:
            hx = state_pair(hx, "LSTMCell: hx", "(h, c)")
        if out is not None:
            out = state_pair(out, "LSTMCell: out", "(h, c)")
        h, c = self._step(x, hx, out, ("h", "c"))
        return h, c
