"""`LSTM`, `GRU` and `RNN`: torch's layers, on NumPy arrays, for inference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastrnn.recurrent import RecurrentLayer


class LSTM(RecurrentLayer):
    """Long short-term memory, as `torch.nn.LSTM` in eval mode.

    i, f, o = sigmoid and g = tanh of (W_ih x + b_ih + W_hh h + b_hh); c = f*c + i*g; h = o*tanh(c),
    then h = W_hr h with a projection (https://arxiv.org/abs/1402.1128).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, bidirectional, proj_size
        As in torch.
    dropout : float
        Accepted and ignored, as in eval mode.
    dtype : float32 or float64
        What is computed in and returned.
    engine : {"auto", "simd", "blas"}
        "auto" is "simd" for float32 and "blas" for float64.
    isa : str or None
        The SIMD engine's instruction set, such as "avx2". None: FASTRNN_ISA, or the fastest here.
    threads : int
        At most so many for one call; the SIMD engine's only. Small cells stay on one.
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
        *,
        dtype: npt.DTypeLike = np.float32,
        engine: str = "auto",
        isa: str | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            dtype=dtype,
            engine=engine,
            isa=isa,
            threads=threads,
        )


class GRU(RecurrentLayer):
    """Gated recurrent unit, as `torch.nn.GRU` in eval mode.

    r, z = sigmoid of (W_ih x + b_ih + W_hh h + b_hh); h = (1-z)*n + z*h, where n is
    tanh(W_in x + b_in + r*(W_hn h + b_hn)), or with `reset_after=False`
    tanh(W_in x + b_in + W_hn (r*h) + b_hn) (https://arxiv.org/abs/1406.1078).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, bidirectional
        As in torch.
    dropout : float
        Accepted and ignored, as in eval mode.
    reset_after : bool
        True: the reset gate comes after the product, as in torch. False: before it, the original
        form (Keras `reset_after=False`, ONNX `linear_before_reset=0`).
    dtype : float32 or float64
        What is computed in and returned.
    engine : {"auto", "simd", "blas"}
        "auto" is "simd" for float32 and "blas" for float64.
    isa : str or None
        The SIMD engine's instruction set, such as "avx2". None: FASTRNN_ISA, or the fastest here.
    threads : int
        At most so many for one call; the SIMD engine's only. Small cells stay on one.
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
        dtype: npt.DTypeLike = np.float32,
        engine: str = "auto",
        isa: str | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            dtype=dtype,
            engine=engine,
            isa=isa,
            threads=threads,
            reset_after=bool(reset_after),
        )

    @property
    def reset_after(self) -> bool:
        """Whether the reset gate comes after the product."""
        return bool(self._cell_options["reset_after"])


class RNN(RecurrentLayer):
    """Elman network, as `torch.nn.RNN` in eval mode.

    h = tanh or relu of (W_ih x + b_ih + W_hh h + b_hh).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, bidirectional
        As in torch.
    nonlinearity : {"tanh", "relu"}
    dropout : float
        Accepted and ignored, as in eval mode.
    dtype : float32 or float64
        What is computed in and returned.
    engine : {"auto", "simd", "blas"}
        "auto" is "simd" for float32 and "blas" for float64.
    isa : str or None
        The SIMD engine's instruction set, such as "avx2". None: FASTRNN_ISA, or the fastest here.
    threads : int
        At most so many for one call; the SIMD engine's only. Small cells stay on one.
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
        *,
        dtype: npt.DTypeLike = np.float32,
        engine: str = "auto",
        isa: str | None = None,
        threads: int = 1,
    ) -> None:
        check_nonlinearity(nonlinearity, "RNN")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            dtype=dtype,
            engine=engine,
            isa=isa,
            threads=threads,
            nonlinearity=str(nonlinearity),
        )

    @property
    def nonlinearity(self) -> str:
        """The activation: "tanh" or "relu"."""
        return str(self._cell_options["nonlinearity"])


def check_nonlinearity(nonlinearity: str, what: str) -> None:
    """Raise ValueError unless `nonlinearity` is "tanh" or "relu"."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{what}: nonlinearity={nonlinearity!r}, expected 'tanh' or 'relu'")
