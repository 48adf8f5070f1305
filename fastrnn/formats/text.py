"""Files of text that somebody names: read only so far as is wanted."""

from __future__ import annotations

import io

from fastrnn.errors import FormatError
from fastrnn.formats.opening import source_of


def read_text(path: str, most: int) -> str:
    r"""Return the first `most` characters of a UTF-8 text file; line ends become "\n".

    Raises
    ------
    FormatError
        If what is read is not UTF-8, or the file is not a regular one, which might never end.
    OSError
        If it cannot be opened.
    """
    try:
        with source_of(path) as source:
            text = io.TextIOWrapper(source.file, encoding="utf-8")
            try:
                return text.read(most)
            finally:
                text.detach()  # the source closes its file
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise FormatError(
            f"{path}: not UTF-8 text (byte 0x{byte:02x}), expected a UTF-8 text file"
        ) from None
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
