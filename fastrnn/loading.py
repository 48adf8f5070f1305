"""`load`: from a file to a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, keras, opened
from fastrnn.formats.opening import is_readable
from fastrnn.layers import LAYERS
from fastrnn.layers.options import LayerOptions, takes_options
from fastrnn.layers.statedict import find_stack

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
def load(
    path: Readable,
    prefix: str = "",
    *,
    keras_config: Mapping[str, Any] | None = None,
    **options: Unpack[LayerOptions],
) -> Any:
    """Load a recurrent layer from a file that PyTorch, Keras, safetensors or NumPy wrote.

    Parameters
    ----------
    path : str, path, bytes, bytearray, memoryview or open binary file
        .pt/.pth (torch.save, of any age, or torch.jit.save), .pt2 (torch.export.save),
        .safetensors, .npz, .json of nested lists, Keras's .keras and .h5; the index of a model in
        several files, or its folder; a zip or tar archive with one of these in it
        ("agent.zip::policy.pth" where it has several). Nothing in it is executed. `read` says more.
    prefix : str
        Which stack, such as "encoder.lstm"; the end of its full name, or a name above it, is enough
        if it means no other. May be left out if the file has one stack.
    keras_config : mapping or None
        For Keras's weights without a model (.weights.h5), which do not say how a layer computes:
        its config in Keras's words, as {"activation": "tanh", "recurrent_activation": "sigmoid"}.
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
    if not is_readable(path):
        raise TypeError(
            f"load: path is {type(path).__name__}, expected a path, bytes or an open binary file; "
            "weights in memory go to LSTM.from_state_dict and its like"
        )
    with opened(path) as file:
        with _of_the_file():
            found = find_stack(file.weights, prefix)
        if keras_config is not None:
            said = keras.said_by_caller(found.said, keras_config, found.config.cell)
            found = replace(found, said=said)
        layer = LAYERS[found.config.cell].for_stack(found, **options)
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
