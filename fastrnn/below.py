"""Where fastrnn.h is, for what is compiled against it."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """Return the folder of `fastrnn.h`, for a compiler's include path.

    Examples
    --------
    >>> from pathlib import Path
    >>> (Path(fastrnn.get_include()) / "fastrnn.h").is_file()
    True
    """
    return str(Path(__file__).parent / "include")
