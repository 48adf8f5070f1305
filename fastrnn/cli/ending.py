"""SIGTERM and SIGHUP end a command as an error does: what it is writing is cleared away first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class _EndedError(BaseException):
    """Raised where the signal `signum` met the command."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let the signals unwind the block, and then have their effect. What is ignored stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [signum for signum in SIGNALS if signal.getsignal(signum) == signal.SIG_DFL]
    for signum in taken:
        signal.signal(signum, _raise)
    try:
        yield
    except _EndedError as ended:
        os.kill(os.getpid(), ended.signum)
        raise  # where the signal is blocked
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def _raise(signum: int, frame: Any) -> None:
    for one in SIGNALS:
        if signal.getsignal(one) is _raise:
            signal.signal(one, signal.SIG_DFL)  # a second one is not waited for
    raise _EndedError(signum)
