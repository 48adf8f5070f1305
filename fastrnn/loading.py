"""`load`: from a file to a layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from fastrnn.errors import FormatError
from fastrnn.formats import read
from fastrnn.layers import GRU, LSTM, RNN
from fastrnn.recurrent import RecurrentLayer
from fastrnn.weights import common_dtype, infer_config, stack_parameters, stack_prefixes

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
    weights = read(path)
    name = os.fspath(path)
    full = choose_stack(weights, prefix, name)
    try:
        config = infer_config(weights, full)
    except ValueError as error:
        raise FormatError(f"{name}: {error}") from None
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


def choose_stack(weights: Mapping[str, Any], prefix: str, name: str) -> str:
    """Return the full prefix of the stack that `prefix` means among `weights` of file `name`.

    Raises
    ------
    FormatError
        If it means none, or more than one.
    """
    prefixes = stack_prefixes(weights)
    prefix = prefix.rstrip(".")
    if prefix in prefixes:
        return prefix
    if not prefixes:
        raise FormatError(
            f"{name}: no recurrent stack (weight_ih_l0, weight_hh_l0...) among its "
            f"{len(weights)} tensors: {_some(weights)}"
        )
    chosen = [p for p in prefixes if not prefix or p.endswith(f".{prefix}")]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise FormatError(
            f"{name}: no recurrent stack under prefix {prefix!r}, expected one of "
            + ", ".join(map(repr, prefixes))
        )
    raise FormatError(
        f"{name}: {len(chosen)} recurrent stacks, say which with prefix=: "
        + ", ".join(map(repr, chosen))
    )


def _some(weights: Mapping[str, Any], most: int = 8) -> str:
    listed = ", ".join(f"{key} {tuple(value.shape)}" for key, value in list(weights.items())[:most])
    return listed + (", ..." if len(weights) > most else "")
