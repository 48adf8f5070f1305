"""`load`: from a file to a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from fastrnn.errors import FormatError
from fastrnn.formats import Readable, contents
from fastrnn.formats.inventory import Said
from fastrnn.formats.keras.config import of_weights_alone
from fastrnn.formats.opening import title
from fastrnn.layers import LAYERS
from fastrnn.layers.options import LayerOptions, takes_options
from fastrnn.layers.weights import common_dtype, infer_config, resolve_prefix, stack_parameters

if TYPE_CHECKING:
    from fastrnn.layers.options import Unpack


@takes_options
def load(
    path: Readable,
    prefix: str = "",
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
        Which stack, such as "encoder.lstm"; the end of its full name is enough if no other stack
        ends so. May be left out if the file has one stack.
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
        A ValueError: if the file is damaged, or does not hold one whole stack with finite weights.
    OSError
        If the file cannot be opened.
    """
    try:
        read = contents(path)
    except TypeError as error:
        if isinstance(path, Mapping):
            error = TypeError(
                f"{error}; a dict of weights goes to LSTM.from_state_dict and its like"
            )
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
    try:
        options = _completed(options, read.said.get(full), keras_config)
    except FormatError as error:
        raise FormatError(f"{name}: {full} {error}") from None
    if options.get("dtype") is None:
        options["dtype"] = common_dtype(found)
    layer = LAYERS[config.cell].from_config(config, **options)
    try:
        layer.take(found, full)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{name}: {error}") from None
    return layer


def _completed(
    options: LayerOptions, said: Said | None, keras_config: Mapping[str, Any] | None
) -> LayerOptions:
    """The options with what the file says of the stack, or its caller in the file's stead.

    `batch_first` is how a layer is called and may differ; what changes its numbers may not.
    """
    if keras_config is not None and not (said and said.alone):
        raise ValueError("load: keras_config is given, and the file says itself how it computes")
    if said is None:
        return options
    known = dict(said.options)
    if said.alone:
        if keras_config is None:
            raise FormatError(
                "is weights alone, which do not say how it computes: load the whole model, or say "
                'it as in keras_config={"activation": "tanh", "recurrent_activation": "sigmoid"}'
            )
        told = of_weights_alone(keras_config, said.alone)
        if told.refusal:
            raise FormatError(f"{told.refusal}, in keras_config")
        known = {**told.options, **known, "batch_first": told.options["batch_first"]}
        if said.alone == "GRU" and "reset_after" not in known:
            raise FormatError(
                "has no bias, which would say its reset_after: say it in keras_config"
            )
    for key, value in options.items():
        if key != "batch_first" and known.get(key, value) != value:
            raise ValueError(f"load: {key}={value!r}, and the file says {known[key]!r}")
    return cast("LayerOptions", {**known, **options})
