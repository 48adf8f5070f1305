"""`load`, `load_model`: from a file to a layer or a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, is_onnx, keras, opened
from fastrnn.formats.opening import is_readable
from fastrnn.layers import GRU, LAYERS, LSTM, RNN
from fastrnn.layers.options import LayerOptions, ModelOptions, decide, takes_options
from fastrnn.layers.statedict import find_stack
from fastrnn.models import Model, load_layer

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
def load(
    path: Readable,
    prefix: str = "",
    *,
    keras_config: Mapping[str, Any] | None = None,
    **options: Unpack[LayerOptions],
) -> LSTM | GRU | RNN:
    """Load a recurrent layer from a file that PyTorch, Keras, safetensors or NumPy wrote.

    Parameters
    ----------
    path : str, path, bytes, bytearray, memoryview or open binary file
        .pt/.pth (torch.save, of any age, or torch.jit.save), .pt2 (torch.export.save),
        .safetensors, .npz, .onnx, .json of nested lists, Keras's .keras and .h5; the index of a
        model in several files, or its folder; a zip or tar archive with one of these in it
        ("agent.zip::policy.pth" where it has several). Nothing in it is executed. `read` says more.
    prefix : str
        Which stack, such as "encoder.lstm"; the end of its full name, or a name above it, is enough
        if it means no other. May be left out if the file has one stack. In an .onnx file: the name
        of a node, of the module that a stack of nodes was, or of one of its tensors.
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

    Examples
    --------
    >>> lstm = fastrnn.load("model.pt", "encoder.lstm")
    >>> lstm
    LSTM(40, 64, num_layers=2, dtype=float32, engine='simd', isa='...')
    >>> small = fastrnn.load("model.pt", "lstm", weight_dtype="int8")
    """
    if not is_readable(path):
        raise TypeError(
            f"load: path is {type(path).__name__}, expected a path, bytes or an open binary file; "
            "weights in memory go to LSTM.from_state_dict and its like"
        )
    if is_onnx(path):
        if keras_config is not None:
            raise ValueError("load: keras_config is for Keras's weights, and this is an ONNX model")
        return load_layer(path, prefix, options)
    with opened(path) as file:
        with _of_the_file():
            found = find_stack(file.weights, prefix)
        if keras_config is not None:
            said = keras.said_by_caller(found.said, keras_config, found.config.cell)
            found = replace(found, said=said)
        layer = LAYERS[found.config.cell]._for_stack(found, **options)
        with _of_the_file():
            layer._take(found)
    return layer


@contextmanager
def _of_the_file() -> Iterator[None]:
    """Make FormatErrors of the refusals in a block: they are about what the file holds."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise FormatError(str(error)) from None


@takes_options
def load_model(
    path: Readable,
    *,
    fixed: Mapping[str, Any] | None = None,
    states: Mapping[str, str] | None = None,
    time_axis: int | Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    **options: Unpack[ModelOptions],
) -> Model:
    """Load a whole model from an ONNX file.

    Parameters
    ----------
    path : str, path, bytes, bytearray, memoryview or open binary file
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
    shapes : mapping of str to sequence, optional
        What the file leaves open of its inputs' shapes: per axis its length, a name, or None for
        what the file has.
    {options}
        Of a model: of the recurrent nodes that run in the kernels; there must be one. Everything
        else has the types of the file.

    Raises
    ------
    FormatError
        A ValueError: if the file is damaged, or has an operator, attribute or type that fastrnn
        does not run; the message names the node.
    ValueError
        If an option, or an input to fix, is not one that there is.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> model = fastrnn.load_model("silero_vad.onnx", fixed={"sr": 16000})
    >>> dict(model.states)
    {'state': 'stateN'}
    """
    if not is_readable(path):
        raise TypeError(
            f"load_model: path is {type(path).__name__}, expected a path, bytes or an open binary "
            "file"
        )
    if "dtype" in options:
        raise TypeError("load_model: unknown argument 'dtype': types are those of the file")
    decide("load_model", options)
    return Model._from_file(path, dict(fixed or {}), options, states, time_axis, shapes)
