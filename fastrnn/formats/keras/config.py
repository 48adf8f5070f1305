"""What a Keras model's config says of its recurrent layers.

The config is what Model.to_json() gives: a tree of {"class_name", "config"}. Nothing in it is
imported. What a layer computes that a fastrnn layer does not is a refusal by name, not a detail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastrnn.formats.source import shown

# class -> its cell here; CuDNN's have no options, and always these activations.
CELLS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN", "CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
_CELL_CLASSES = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}
_CLASSES = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
_OWN_MODULES = ("keras", "tf_keras", "tensorflow")
_MAX_DEPTH = 32
_HARD_SIGMOID = "clip(0.2 x + 0.5, 0, 1) in Keras 1 and 2, clip(x / 6 + 0.5, 0, 1) in Keras 3"


@dataclass
class LayerConfig:
    """What the file says of one layer.

    cell: "LSTM", "GRU" or "RNN"; None where it is refused.
    options: what a layer's constructor is to be told beside its weights.
    refusal: why it cannot be computed as the file says; "" where it can.
    notes: what Keras does around the layer that its user has to do here.
    """

    cell: str | None = None
    units: int | None = None
    bidirectional: bool = False
    layers: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Layer:
    """A layer of a model: the names that lead to it, its group in Keras's own store of weights, and
    what it says; None where it is not recurrent.
    """

    names: tuple[str, ...]
    group: str
    said: LayerConfig | None


def layers(model: Any) -> list[Layer]:
    """Every layer that the config of a Functional or Sequential model lists, nested ones too."""
    found = list(_walk(model, (), "", 0))
    if _masks(model, 0):
        for layer in found:
            if layer.said:
                layer.said.notes.append("the model masks steps: give lengths")
    return found


def said(entry: Any) -> LayerConfig | None:
    """What the {"class_name", "config"} of a layer says; None where it is not recurrent."""
    name, config = _entry(entry)
    if name not in (*CELLS, "RNN", "Bidirectional", "TimeDistributed"):
        return None
    if not _is_kerass_own(entry):
        return _refused(f"is a class of its own named {shown(name)}")
    if name == "Bidirectional":
        return _bidirectional(config)
    if name == "TimeDistributed":
        inner = said(config.get("layer"))
        return inner and LayerConfig(
            refusal="is in a TimeDistributed, which gives it a fourth dimension"
        )
    return _forward(name, config)


def of_weights_alone(config: Mapping[str, Any], cell: str) -> LayerConfig:
    """What a caller says of a layer, in the words of its config, where a file does not."""
    return _forward(_CLASSES[cell], {"units": 1, **config})


def _walk(model: Any, names: tuple[str, ...], group: str, depth: int) -> Iterator[Layer]:
    _, config = _entry(model)
    entries = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(entries, list) or depth > _MAX_DEPTH:
        return
    used: dict[str, int] = {}
    for entry in entries:
        class_name, inner = _entry(entry)
        module = entry.get("module") if isinstance(entry, dict) else ""
        if isinstance(module, str) and ".ops." in module:
            continue  # an operation, which is no layer
        stem = _snake_case(class_name)
        count = used[stem] = used.get(stem, -1) + 1
        where = f"{group}/layers/{stem}_{count}" if count else f"{group}/layers/{stem}"
        name = inner.get("name") if isinstance(inner, dict) else None
        path = (*names, name if isinstance(name, str) else stem)
        told = said(entry)
        yield Layer(path, where.lstrip("/"), told)
        if told is None:
            yield from _walk(entry, path, where, depth + 1)


def _entry(entry: Any) -> tuple[str, Any]:
    """The class and config of a layer; ("", {}) where it is none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        return "", {}
    config = entry.get("config")
    return entry["class_name"], config if isinstance(config, (dict, list)) else {}


def _is_kerass_own(entry: dict[str, Any]) -> bool:
    module, registered = entry.get("module"), entry.get("registered_name")
    own = module is None or str(module).partition(".")[0] in _OWN_MODULES
    return own and registered in (None, entry["class_name"])


def _snake_case(name: str) -> str:
    """keras.src.utils.naming.to_snake_case, which names the groups of a weights file."""
    name = re.sub(r"\W+", "", name[:200])
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _masks(entry: Any, depth: int) -> bool:
    name, config = _entry(entry)
    if name == "Masking" or (isinstance(config, dict) and config.get("mask_zero") is True):
        return True
    entries = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(entries, list) or depth > _MAX_DEPTH:
        return False
    return any(_masks(inner, depth + 1) for inner in entries)


def _bidirectional(config: Any) -> LayerConfig:
    forward = said(config.get("layer"))
    if forward is None or forward.refusal:
        return forward or _refused("is Bidirectional around another layer")
    if config.get("merge_mode", "concat") != "concat":
        merge = config.get("merge_mode")
        return _refused(f"has merge_mode={shown(merge)}, expected 'concat'")
    backward = config.get("backward_layer")
    if backward is not None:
        _, inner = _entry(backward)
        if not isinstance(inner, dict) or inner.get("go_backwards") is not True:
            return _refused("has a backward_layer that does not go backwards")
        told = said({**backward, "config": {**inner, "go_backwards": False}})
        if told is None or told.refusal:
            return told or _refused("has a backward_layer of another kind")
        same = ("cell", "units", "layers", "options")
        if any(getattr(told, name) != getattr(forward, name) for name in same):
            return _refused("has two directions that are not alike")
    forward.bidirectional = True
    return forward


def _forward(name: str, config: Any) -> LayerConfig:
    """A layer of one direction."""
    if not isinstance(config, dict):
        return _refused("has no config")
    if config.get("go_backwards", False) is not False:
        return _refused("has go_backwards=True: its steps are in reverse order")
    told = _stacked(config.get("cell")) if name == "RNN" else _cell(name, config)
    time_major = config.get("time_major", False)
    if time_major not in (True, False):
        return _refused(f"has time_major={shown(time_major)}, expected true or false")
    told.options["batch_first"] = not time_major
    if config.get("stateful"):
        told.notes.append("stateful: keep the state with a stream")
    if config.get("return_sequences") is False:
        told.notes.append("return_sequences=False: what Keras returns is h_n")
    return told


def _stacked(cell: Any) -> LayerConfig:
    """RNN(cell) and RNN([cell, cell...])."""
    name, config = _entry(cell)
    cells = (
        config.get("cells") if name == "StackedRNNCells" and isinstance(config, dict) else [cell]
    )
    if not isinstance(cells, list) or not 0 < len(cells) <= 1000:
        return _refused("has cells that are not a list")
    told = []
    for entry in cells:
        inner, own = _entry(entry)
        if inner not in _CELL_CLASSES or not isinstance(own, dict) or not _is_kerass_own(entry):
            return LayerConfig(refusal=f"has a cell of class {shown(inner)}, expected Keras's own")
        told.append(_cell(_CLASSES[_CELL_CLASSES[inner]], own))
    for other in told:
        if other.refusal:
            return other
        if (other.cell, other.units, other.options) != (
            told[0].cell,
            told[0].units,
            told[0].options,
        ):
            return _refused("stacks cells that are not alike")
    told[0].layers = len(told)
    return told[0]


def _cell(name: str, config: dict[str, Any]) -> LayerConfig:
    told = LayerConfig(cell=CELLS[name])
    units = config.get("units")
    if type(units) is not int or not 0 < units < 1 << 31:
        return LayerConfig(
            refusal=f"has units={shown(units)}, expected a number (Keras 1 is not read)"
        )
    told.units = units
    if name.startswith("CuDNN"):
        told.options |= {"reset_after": True} if name == "CuDNNGRU" else {}
        return told
    activation = _activation(config, "activation")
    if name == "SimpleRNN":
        if activation not in ("tanh", "relu"):
            return _another("activation", activation, "tanh or relu")
        told.options["nonlinearity"] = activation
        return told
    if activation != "tanh":
        return _another("activation", activation, "tanh")
    recurrent = _activation(config, "recurrent_activation")
    if recurrent != "sigmoid":
        return _another("recurrent_activation", recurrent, "sigmoid")
    reset_after = config.get("reset_after")
    if name == "GRU" and reset_after is not None:
        if reset_after not in (True, False):
            return LayerConfig(
                refusal=f"has reset_after={shown(reset_after)}, expected true or false"
            )
        told.options["reset_after"] = reset_after
    return told


def _activation(config: dict[str, Any], key: str) -> object:
    """The name of one of Keras's own functions, or words: any other is saved as an object."""
    value = config.get(key)
    return "a function or layer of its own" if isinstance(value, dict) else value


def _another(key: str, value: object, expected: str) -> LayerConfig:
    if value is None:
        return _refused(f"does not say its {key}, expected {expected}")
    which = f", which is {_HARD_SIGMOID}" if value == "hard_sigmoid" else ""
    return _refused(f"has {key}={shown(value)}{which}; what is computed here is {expected}")


def _refused(reason: str) -> LayerConfig:
    return LayerConfig(refusal=reason)
