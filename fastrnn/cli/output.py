"""What every command prints with: escaped lines, JSON, progress, and the one-line error."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

OK, NO, USAGE = 0, 1, 2  # exit codes, explained in `fastrnn --help`

_REDRAW_SECONDS = 0.1
_BAR_WIDTH = 30


# Cells that are longer stand out of their column: one name would make every line as long.
_WIDEST = 100


class CommandError(Exception):
    """What a command tells its user in one line, and the exit code that goes with it."""

    def __init__(self, message: str, code: int = NO) -> None:
        super().__init__(message)
        self.code = code


def printable(text: str) -> str:
    """Return `text` with everything that could drive a terminal written as an escape sequence.

    Names come from files and may hold control characters, line ends or changes of direction.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(line: str = "") -> None:
    """Print one line on stdout, printable, and in what stdout can encode."""
    _write(sys.stdout, line)


def note(line: str) -> None:
    """Print one line about the command itself on stderr; where it cannot be told, it is not."""
    try:
        _write(sys.stderr, line)
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:  # a full disk, or nobody who reads
        drop(sys.stderr)


def complain(message: str) -> None:
    """Print an error: one line on stderr."""
    note(f"fastrnn: error: {message}")


def say_json(value: dict[str, Any]) -> None:
    """Print one JSON object, which is all that a command with --json prints on stdout.

    JSON has no NaN and no infinity: they are null.
    """
    say_lines(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def say_lines(text: str) -> None:
    """Print every line of `text` as `say` does."""
    for line in text.split("\n"):
        say(line)


def say_table(rows: Sequence[tuple[str, ...]], indent: str = "  ") -> None:
    """Print `rows` of equally many cells in columns."""
    cells = [tuple(map(printable, row)) for row in rows]
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(f"{indent}{'  '.join(padded)}".rstrip())


def size(nbytes: int) -> str:
    """Return a number of bytes as people read it: "812 bytes", "1.3 MB"."""
    if nbytes < 1000:
        return f"{nbytes} bytes"
    value = float(nbytes)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def plural(count: int, noun: str) -> str:
    """Return "1 stack", "2 stacks", "1,234 stacks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class ProgressBar:
    """A bar on stderr, drawn only if that is a terminal and `wanted`; gone at the end."""

    def __init__(self, label: str, *, wanted: bool = True) -> None:
        self._label = printable(label)
        self._shown = wanted and sys.stderr is not None and sys.stderr.isatty()
        self._drawn = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._drawn:
            self._draw("\r\x1b[K")

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` steps are done."""
        now = time.monotonic()
        if self._shown and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            filled = _BAR_WIDTH * done // total
            bar = "#" * filled + "." * (_BAR_WIDTH - filled)
            self._draw(f"\r{self._label} [{bar}] {100 * done // total:3d}%")

    def _draw(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._shown = False
            drop(sys.stderr)


def _write(stream: TextIO | None, line: str) -> None:
    if stream is None:  # closed before Python started
        return
    encoding = stream.encoding or "utf-8"
    encoded = printable(line).encode(encoding, "backslashreplace")
    stream.write(encoded.decode(encoding) + "\n")


def drop(stream: TextIO | None) -> None:
    """Send what is still buffered for `stream` nowhere: Python flushes it at exit."""
    try:
        descriptor = stream.fileno()  # type: ignore[union-attr]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    except (AttributeError, OSError, ValueError):
        pass  # it is closed, or no file
