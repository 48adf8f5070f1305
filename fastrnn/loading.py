"""`load`, `load_model`: from a file to a layer or a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrnn.errors import FormatError
from fastrnn.formats import contents, is_onnx
from fastrnn.layers import LAYERS
from fastrnn.layers.options import LayerOptions, takes_options
from fastrnn.layers.weights import common_dtype, infer_config, resolve_prefix, stack_parameters
from fastrnn.models import Model, load_layer

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
def load(path: str | os.PathLike[str], prefix: str = "", **options: Unpack[LayerOptions]) -> Any:
    """Load a recurrent layer from a file that PyTorch, safetensors or NumPy wrote.

    Parameters
    ----------
    path : str or path
        .pt/.pth (torch.save, of any age, or torch.jit.save), .safetensors, .npz or .onnx. Nothing
        in it is executed.
    prefix : str
        Which stack, such as "encoder.lstm"; the end of its full name is enough if no other stack
        ends so. May be left out if the file has one stack. In an .onnx file: the name of a node, of
        the scope of the nodes that are a stack ("/encoder/lstm"), or of one of its tensors.
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
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"load: path is {type(path).__name__}, expected a str or path; weights in memory "
            "go to LSTM.from_state_dict and its like"
        )
    if is_onnx(path):
        return load_layer(path, prefix, options)
    read = contents(path)
    weights, name = read.weights, os.fspath(path)
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


def load_model(
    path: str | os.PathLike[str],
    *,
    fixed: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
    time_axis: int | Mapping[str, int] | None = None,
    engine: str = "auto",
    isa: str | None = None,
    threads: int = 1,
) -> Model:
    """Load a whole model from an ONNX file.

    Parameters
    ----------
    path : str or path
        An .onnx file. Nothing in it is executed; tensors that it keeps in other files must be in
        its folder or below it.
    fixed : mapping of str to array, optional
        Inputs that are the same in every call, such as {"sr": 16000}. They are inputs no more.
    states : mapping of str to str, optional
        Inputs that are states -> the outputs that are the same states after a call. None: found by
        name and shape, where that is unambiguous.
    time_axis : int, or mapping of str to int, optional
        The axis that is time in the inputs, or in each by its name. None: found by running the
        graph.
    engine, isa, threads
        How recurrent layers compute, as in `load`; a layer's dtype is the file's.

    Raises
    ------
    FormatError
        A ValueError: if the file is damaged, or has an operator, attribute or type that fastrnn
        does not run; the message names the node.
    OSError
        If the file cannot be opened.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"load_model: path is {type(path).__name__}, expected a str or path")
    options = {"engine": engine, "isa": isa, "threads": threads}
    return Model.from_file(path, dict(fixed or {}), options, states, time_axis)
