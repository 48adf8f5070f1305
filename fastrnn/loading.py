"""`load`: from a file to a layer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastrnn.errors import FormatError
from fastrnn.formats import opened
from fastrnn.layers import LAYERS
from fastrnn.layers.options import LayerOptions, takes_options
from fastrnn.layers.statedict import find_stack
from fastrnn.layers.weights import common_dtype

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
def load(path: str | os.PathLike[str], prefix: str = "", **options: Unpack[LayerOptions]) -> Any:
    """Load a recurrent layer from a file that PyTorch, safetensors or NumPy wrote.

    Parameters
    ----------
    path : str or path
        .pt/.pth (torch.save, of any age, or torch.jit.save), .safetensors or .npz. Nothing in it is
        executed.
    prefix : str
        Which stack, such as "encoder.lstm"; the end of its full name, or a name above it, is enough
        if it means no other. May be left out if the file has one stack.
    {options}

    Returns
    -------
    LSTM, GRU or RNN

    Raises
    ------
    FormatError
        A ValueError: if the file is damaged, or does not hold one whole stack with finite weights
        and nothing with them that could change what it computes. Parameters that are kept in parts
        of a known form are folded: the layer's `folded` says which.
    OSError
        If the file cannot be opened.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"load: path is {type(path).__name__}, expected a str or path; weights in memory "
            "go to LSTM.from_state_dict and its like"
        )
    with opened(path) as file:
        with _of_the_file():
            found = find_stack(file.weights, prefix)
            dtype = common_dtype(found.parameters)
        if options.get("dtype") is None:
            options["dtype"] = dtype
        layer = LAYERS[found.config.cell].from_config(found.config, **options)
        with _of_the_file():
            layer.take(found)
    return layer


@contextmanager
def _of_the_file() -> Iterator[None]:
    """Make FormatErrors of the refusals in a block: they are about what the file holds."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise FormatError(str(error)) from None
