"""The files that the demo ships, and the text files it is given."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights.pt")
TEXT = Path(__file__).with_name("text.txt")
REFERENCE = Path(__file__).with_name("reference.json")


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
        If the file is empty or not UTF-8.
    OSError
        If it cannot be opened.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(
            f"{os.fspath(path)}: not UTF-8 text (byte 0x{byte:02x}), expected a UTF-8 text file"
        ) from None
    if not text:
        raise ValueError(f"{os.fspath(path)}: empty, expected at least one character")
    return text
