"""`RNN` and `RNNCell`: torch's, on NumPy arrays, for inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastrnn.layers.cell import Array, RecurrentCell
from fastrnn.layers.options import Options, takes_options
from fastrnn.layers.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
class RNN(RecurrentLayer[Array]):
    """Elman network, as `torch.nn.RNN` in eval mode.

    h = tanh or relu of `W_ih x + b_ih + W_hh h + b_hh`.

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
    nonlinearity : {"tanh", "relu"}
        The activation.
    dropout : float
        Accepted and ignored, as in eval mode.
    {options}

    Examples
    --------
    >>> rnn = fastrnn.load("net.npz", "rnn", nonlinearity="relu")
    >>> y, h_n = rnn(np.zeros((100, 3)))
    >>> y.shape, h_n.shape
    ((100, 5), (1, 5))
    """

    _cell = "RNN"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **options: Unpack[Options],
    ) -> None:
        check_nonlinearity(nonlinearity, "RNN")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            {"nonlinearity": str(nonlinearity)},
            options,
        )

    @property
    def nonlinearity(self) -> str:
        """The activation: "tanh" or "relu"."""
        return str(self._cell_options["nonlinearity"])


@takes_options
class RNNCell(RecurrentCell):
    """One Elman step, as `torch.nn.RNNCell`.

    Examples
    --------
    >>> weights = fastrnn.load("net.npz", "rnn").state_dict()
    >>> cell = fastrnn.RNNCell.from_state_dict(weights)
    >>> h = cell(np.zeros((8, 3)))
    >>> h = cell(np.zeros((8, 3)), h, out=h)  # in place
    """

    _layer_type = RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            RNN(
                input_size,
                hidden_size,
                nonlinearity=nonlinearity,
                bias=bias,
                **options,
            )
        )

    def __call__(self, x: npt.ArrayLike, hx: Any = None, out: Any = None) -> Array:
        """Advance by one step: x (B, I) and hx (B, H) to h; hx and out as in `LSTMCell`."""
        return self._step_h(x, hx, out)


def check_nonlinearity(nonlinearity: str, what: str) -> None:
    """Raise ValueError unless `nonlinearity` is "tanh" or "relu"."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{what}: nonlinearity={nonlinearity!r}, expected 'tanh' or 'relu'")
