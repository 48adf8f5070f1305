"""The demo's model, a character-level GRU trained in PyTorch, run with fastrnn.

Beside this module are its weights as `torch.save` wrote them, a text that it was not trained on,
and what PyTorch makes of that text. Training and that figure come from `bench/demo_model`.
"""

from fastrnn.demo.files import REFERENCE, TEXT, WEIGHTS, Reference, read_reference, read_text
from fastrnn.demo.model import ALPHABET, SYMBOLS, UNKNOWN, CharacterModel, decode, encode
from fastrnn.demo.sample import sample
from fastrnn.demo.score import STREAMS, Score, score

__all__ = [
    "ALPHABET",
    "REFERENCE",
    "STREAMS",
    "SYMBOLS",
    "TEXT",
    "UNKNOWN",
    "WEIGHTS",
    "CharacterModel",
    "Reference",
    "Score",
    "decode",
    "encode",
    "read_reference",
    "read_text",
    "sample",
    "score",
]
