"""`load`: from a file to a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, contents
from fastrnn.formats.opening import title
from fastrnn.layers import LAYERS
from fastrnn.layers.options import LayerOptions, takes_options
from fastrnn.layers.weights import common_dtype, infer_config, resolve_prefix, stack_parameters

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
def load(path: Readable, prefix: str = "", **options: Unpack[LayerOptions]) -> Any:
    """Load a recurrent layer from a file that PyTorch, safetensors or NumPy wrote.

    Parameters
    ----------
    path : str, path, bytes, bytearray, memoryview or open binary file
        .pt/.pth (torch.save, of any age, or torch.jit.save), .pt2 (torch.export.save), .safetensors,
        .npz, .json of nested lists; the index of a model in several files, or its folder; a zip or
        tar archive with one of these in it ("agent.zip::policy.pth" where it has several). Nothing
        in it is executed. `read` says more.
    prefix : str
        Which stack, such as "encoder.lstm"; the end of its full name is enough if no other stack
        ends so. May be left out if the file has one stack.
    {options}

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
    try:
        read = contents(path)
    except TypeError as error:
        if isinstance(path, Mapping):
            error = TypeError(f"{error}; a dict of weights goes to LSTM.from_state_dict and its like")
        raise TypeError(f"load: path {error}") from None
    weights, name = read.weights, title(path)
    if read.incomplete:
        raise FormatError(f"{name}: {read.incomplete}: load the index, or the folder that holds it")
    try:
        full = resolve_prefix(weights, prefix)
        config = infer_config(weights, full)
    except ValueError as error:
        left_out = "".join(f"; {key} {reason}" for key, reason in [*read.skipped.items()][:1])
        raise FormatError(f"{name}: {error}{left_out}") from None
    found = stack_parameters(weights, full)
    if options.get("dtype") is None:
        options["dtype"] = common_dtype(found)
    layer = LAYERS[config.cell].from_config(config, **options)
    try:
        layer.take(found, full)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{name}: {error}") from None
    return layer
