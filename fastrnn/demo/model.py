"""The demo's alphabet and layers: embedding, GRU and a linear head.

Shapes: B streams, E embedding size, H hidden_size, S symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.demo.files import WEIGHTS
from fastrnn.formats import read
from fastrnn.layers import GRU

Array = npt.NDArray[Any]

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
UNKNOWN = len(ALPHABET)  # every other character; a tab counts as a space
SYMBOLS = len(ALPHABET) + 1
NEWLINE = ALPHABET.index("\n")  # the first input of every stream

_INDEX = np.full(129, UNKNOWN, np.uint8)  # by code point; the last entry is for all above ASCII
_INDEX[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
_INDEX[ord("\t")] = _INDEX[ord(" ")]


def encode(text: str) -> Array:
    """Return the index of each character of `text`: uint8 (len(text),)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
    return _INDEX[np.minimum(codes, 128)]


def decode(indices: npt.ArrayLike) -> str:
    """Return the text that `indices` stand for, U+FFFD for what is not in the alphabet."""
    return "".join((ALPHABET + "\N{REPLACEMENT CHARACTER}")[index] for index in np.asarray(indices))


class CharacterModel:
    """The layers of the demo's model; the GRU is run through `model.gru.stream()`.

    Parameters
    ----------
    weights : mapping of str to array, optional
        "embedding.weight" (S, E), "gru.*", "head.weight" (S, H) and "head.bias" (S,), of any float
        type. The shipped ones if left out.
    """

    def __init__(self, weights: Mapping[str, Any] | None = None) -> None:
        if weights is None:
            weights = read(WEIGHTS)
        self.gru: GRU = GRU.from_state_dict(weights, "gru", dtype=np.float32)
        self.embedding = np.array(weights["embedding.weight"], np.float32)  # (S, E)
        self.head_weight = np.array(weights["head.weight"], np.float32)  # (S, H)
        self.head_bias = np.array(weights["head.bias"], np.float32)  # (S,)
        self.parameters = sum(int(np.size(value)) for value in weights.values())

    def embed(self, indices: Array, out: Array) -> Array:
        """Look up `indices` (B,) into `out` (B, E)."""
        return np.take(self.embedding, indices, axis=0, out=out, mode="clip")

    def log_probabilities(self, h: Array, temperature: float = 1.0) -> Array:
        """Map the GRU's h (B, H) to log p of the next character: float64 (B, S).

        The head runs in float32, softmax in float64, as where PyTorch's figure was made.
        """
        # Not a matrix product: BLAS gives that to threads, and waits for them on a busy machine.
        logits = np.einsum("bh,sh->bs", h, self.head_weight)
        logits = (logits + self.head_bias).astype(np.float64) / temperature
        logits -= logits.max(axis=1, keepdims=True)
        log_p: Array = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_p
