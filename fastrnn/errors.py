"""The exceptions that fastrnn defines."""

from __future__ import annotations


class BusyError(RuntimeError):
    """A stream that is in use elsewhere: by another thread, or by as many calls as it may have.

    Nothing was changed. Services answer it with a 409; `wait=True` waits for its turn instead.
    """


class FormatError(ValueError):
    """A file that cannot be read as weights: damaged, hostile, or not a weights file at all.

    The message starts with the path as the caller gave it, names the tensor where there is one,
    and says what was expected and what came. A file that is missing, is a directory or may not
    be opened is not a FormatError: the OSError of the system passes through.
    """


class PoolFullError(RuntimeError):
    """No room for another stream: all that a pool has room for are open, and it may not grow."""


class StateError(ValueError):
    """Bytes that are no saved state of this model: damaged, of another model, or something else."""


def without_scipy(what: str) -> ModuleNotFoundError:
    """Return what to raise where `what` was asked for and SciPy is not installed."""
    return ModuleNotFoundError(
        f"{what} needs SciPy, which is not installed: pip install scipy", name="scipy"
    )
