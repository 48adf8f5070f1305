"""`load`: from a file to a layer."""

from __future__ import annotations

import os
from typing import Any

import numpy.typing as npt

from fastrnn.errors import FormatError
from fastrnn.formats import contents
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.recurrent import RecurrentLayer
from fastrnn.weights import common_dtype, infer_config, resolve_prefix, stack_parameters

LAYERS: dict[str, type[RecurrentLayer]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def load(
    path: str | os.PathLike[str],
    prefix: str = "",
    *,
    batch_first: bool = False,
    dtype: npt.DTypeLike | None = None,
    engine: str = "auto",
    isa: str | None = None,
    threads: int = 1,
    **cell_options: Any,
) -> Any:
    """Load a recurrent layer from a file that PyTorch, safetensors or NumPy wrote.

    Parameters
    ----------
    path : str or path
        .pt/.pth (torch.save, of any age, or torch.jit.save), .safetensors or .npz. Nothing in it is
        executed.
    prefix : str
        Which stack, such as "encoder.lstm"; the end of its full name is enough if no other stack
        ends so. May be left out if the file has one stack.
    batch_first, dtype, engine, isa, threads, **cell_options
        As in the layers' `from_state_dict`.

    Returns
    -------
    LSTM, GRU or RNN

    Raises
    ------
    FormatError
        A ValueError: if the file is damaged, or does not hold one whole stack with finite weights.
    OSError
        If the file cannot be opened.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"load: path is {type(path).__name__}, expected a str or path; weights in memory "
            "go to LSTM.from_state_dict and its like"
        )
    read = contents(path)
    weights, name = read.weights, os.fspath(path)
    try:
        full = resolve_prefix(weights, prefix)
        config = infer_config(weights, full)
    except ValueError as error:
        left_out = "".join(f"; {key} {reason}" for key, reason in [*read.skipped.items()][:1])
        raise FormatError(f"{name}: {error}{left_out}") from None
    found = stack_parameters(weights, full)
    layer = LAYERS[config.cell].from_config(
        config,
        batch_first=batch_first,
        dtype=common_dtype(found) if dtype is None else dtype,
        engine=engine,
        isa=isa,
        threads=threads,
        **cell_options,
    )
    try:
        layer.take(found, full)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{name}: {error}") from None
    return layer
