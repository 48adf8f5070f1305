"""What hands used to torch type, and what to write instead, in a line each."""

from __future__ import annotations

from typing import Any, NoReturn

_AS_IT_IS = "leave the call out"
METHODS = {
    "eval": f"it always computes as in eval mode: {_AS_IT_IS}",
    "train": "it does not train: train in PyTorch, and load what that saved",
    "to": f"it runs on the CPU: {_AS_IT_IS}; types are said at load: dtype=, weight_dtype=",
    "cpu": f"it runs on the CPU: {_AS_IT_IS}",
    "cuda": f"it runs on the CPU: {_AS_IT_IS}",
    "float": "its type is said at load: dtype=numpy.float32",
    "double": "its type is said at load: dtype=numpy.float64",
    "half": "its weights' type is said at load: weight_dtype='int16' takes as many bytes",
    "flatten_parameters": f"its weights are packed at load: {_AS_IT_IS}",
    "parameters": "its weights are NumPy arrays: state_dict().values()",
    "named_parameters": "its weights are NumPy arrays: state_dict().items()",
    "forward": "call it: y, state = layer(x)",
    "requires_grad_": f"nothing here has a gradient: {_AS_IT_IS}",
}
ARGUMENTS = {
    "device": "it runs on the CPU: leave device out",
    "map_location": "tensors of any device are read: leave map_location out",
    "weights_only": "nothing in a file is ever executed: leave weights_only out",
    "strict": "every tensor is accounted for, or refused by name: leave strict out",
}


class FromTorch:
    """Answers for methods that torch's modules have and that are of no use here."""

    def __getattr__(self, name: str) -> NoReturn:
        """Raise AttributeError, with what to write instead where a module of torch has `name`."""
        kind = type(self).__name__
        if name in METHODS:
            raise AttributeError(f"{kind} has no {name}(): {METHODS[name]}", name=name, obj=self)
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)


def refuse_packed(x: Any, what: str) -> None:
    """Raise TypeError for torch's PackedSequence, which is a tuple of tensors.

    Raises
    ------
    TypeError
        Saying how it is written here.
    """
    if type(x).__name__ == "PackedSequence" and hasattr(x, "batch_sizes"):
        raise TypeError(
            f"{what} is a PackedSequence, expected an array: "
            "x, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed), then "
            "layer(x, lengths=lengths)"
        )


def refuse_unstrict(strict: bool, what: str) -> None:
    """Raise ValueError unless `strict`.

    Raises
    ------
    ValueError
        Saying what to do instead.
    """
    if not strict:
        raise ValueError(
            f"{what}: strict=False, but what is missing or left over could change the answers; "
            "of a larger state dict take a part: from_state_dict(weights, prefix)"
        )
