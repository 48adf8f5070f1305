"""The files that the demo ships, and the text files it is given."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from fastrnn.formats import text as text_file

WEIGHTS = Path(__file__).with_name("weights.pt")
TEXT = Path(__file__).with_name("text.txt")
REFERENCE = Path(__file__).with_name("reference.json")

MOST = 1 << 26  # characters of a text, an hour's work


@dataclass(frozen=True)
class Reference:
    """What PyTorch got on a text: bits per character, and the version of torch."""

    text: str
    characters: int
    streams: int
    bits_per_character: float
    torch: str


def read_reference(path: str | os.PathLike[str] = REFERENCE) -> Reference:
    """Return the figure that `bench/demo_model/reference.py` recorded."""
    return Reference(**json.loads(Path(path).read_text(encoding="utf-8")))


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Return the UTF-8 text in `path`; line ends of every kind become "\n".

    Raises
    ------
    ValueError
        If the file is empty, not UTF-8, not a regular file, or longer than MOST characters.
    OSError
        If it cannot be opened.
    """
    text = text_file.read_text(os.fspath(path), MOST + 1)
    if not text:
        raise ValueError(f"{os.fspath(path)}: empty, expected at least one character")
    if len(text) > MOST:
        raise ValueError(f"{os.fspath(path)}: more than {MOST:,} characters, expected fewer")
    return text
