"""What a file says of a recurrent layer beside its tensors, in the words of its constructor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastrnn.errors import FormatError

# What a class holds, as a parameter or packed, if it is a recurrent layer or cell of torch's form.
_WEIGHTS = ("weight_hh", "_packed_weight_hh", "_all_weight_values")


@dataclass(frozen=True)
class Said:
    """What a file says of a stack beside its tensors: Keras's, torch's of an RNN with relu.

    options: what the layer's constructor is to be told ("batch_first", "reset_after"...).
    notes: what was done around the layer where the file comes from, for its user to know.
    unsaid: what its user has to say in the file's stead; "" where there is nothing.
    """

    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    unsaid: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())

    @property
    def in_words(self) -> tuple[str, ...]:
        """What a person has to know of it beside the options, in lines."""
        return (*self.notes, *((self.unsaid,) if self.unsaid else ()))

    def completed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the file, with those `given` by a caller in their place.

        Raises
        ------
        FormatError
            The file does not say what has to be known.
        """
        if self.unsaid:
            raise FormatError(self.unsaid)
        return {**self.options, **given}

    def of_cell(self, cell: str) -> Said:
        """What of it means something to a layer of this cell."""
        options = {k: v for k, v in self.options.items() if k != "nonlinearity" or cell == "RNN"}
        return replace(self, options=options)


@dataclass(frozen=True)
class NotSaid:
    """What a layer computes is not known: its `attribute` may be another than torch's, and why."""

    attribute: str
    why: str


def holds_weights(attributes: Mapping[Any, Any]) -> bool:
    """Whether a recurrent layer's or cell's weights are among these, as torch names them."""
    return any(isinstance(name, str) and name.startswith(_WEIGHTS) for name in attributes)


def said_by(attributes: Mapping[Any, Any]) -> Said | None:
    """What the attributes of a layer say, as torch's modules name them; None where nothing."""
    options: dict[str, Any] = {}
    if attributes.get("mode") == "RNN_RELU" or attributes.get("nonlinearity") == "relu":
        options["nonlinearity"] = "relu"
    if attributes.get("batch_first") is True:
        options["batch_first"] = True
    return Said(options) if options else None
