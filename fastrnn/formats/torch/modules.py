"""What a recurrent module that was saved whole says of itself, beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from fastrnn.formats.pickles.inert import Foreign
from fastrnn.formats.said import NotSaid, Said, holds_weights, said_by

# Where classes of recurrent layers and cells are torch's own, quantized ones among them.
_SCRIPTED = "__torch__."
_TORCHS = ("torch.nn.", "torch.ao.nn.", "torch.jit.quantized.")


def said_of(value: object, classes: Mapping[str, Said | NotSaid]) -> Said | NotSaid | None:
    """What a dict or object of a pickle says of the weights that it holds; None where nothing.

    `classes` is what TorchScript's code says of its classes (scriptcode).
    """
    if isinstance(value, dict):
        return said_by(value) if holds_weights(value) else None
    if not isinstance(value, Foreign):
        return None
    if value.name.startswith(_SCRIPTED):
        return _scripted(value, classes.get(value.name))
    for state in value.states:
        parameters, modules = state.get("_parameters"), state.get("_modules")
        if not isinstance(parameters, dict) or not isinstance(modules, dict):
            continue
        if any(map(holds_weights, (parameters, modules, state))):
            return _said(value.name, state)
    return None


def is_torchs(name: str) -> bool:
    """Whether a class of this full name is one of torch."""
    return name.removeprefix(_SCRIPTED).startswith(_TORCHS)


def of_another_class(name: str) -> NotSaid:
    """What there is to say of weights that are named as torch's, of a class that is not."""
    return NotSaid(
        "forward",
        f"is {name[:200]}'s, and what that computes is not known: if it is what torch's computes, "
        "give from_state_dict the tensors alone, dict(fastrnn.read(path))",
    )


def _scripted(value: Foreign, coded: Said | NotSaid | None) -> Said | NotSaid | None:
    """What an object of TorchScript says: its code, and attributes of its own (quantized ones)."""
    said = next((said_by(state) for state in value.states if holds_weights(state)), None)
    if isinstance(coded, NotSaid) or said is None:
        return coded
    return Said({**said.options, **(coded.options if coded else {})})


def _said(name: str, state: dict[object, object]) -> Said | NotSaid | None:
    said = said_by(state)
    if is_torchs(name):
        return said
    if not ("mode" in state and "_all_weights" in state):
        return of_another_class(name)
    derived = f"is a {name[:200]}, taken for the layer of torch that this is derived from"
    return Said(said.options if said else {}, (derived,))
