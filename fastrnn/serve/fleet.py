"""`Fleet`: processes that do the same work, begun by one that watches them and begins them anew.

They are forked from one that has loaded what they need, and share its memory. That one has no
threads and no event loop: it waits for signals and for its workers' ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

STOPS = (signal.SIGTERM, signal.SIGINT)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a worker that ended is begun anew
STEADY_SECONDS = 60.0  # one that lived for so long has its pauses begin from the first
READY_SECONDS = 60.0
SPARE_SECONDS = 10.0  # for a drain beyond what it may take, before workers are killed

READY = b"r"


@dataclass
class Worker:
    """One place among the workers, and who has it."""

    number: int
    process: int = 0  # 0: nobody
    begun: float = 0.0
    pause: float = FIRST_PAUSE
    due: float = 0.0  # when to begin it


class Life:
    """What a worker has of the one that watches: `ready()` tells it, and `end` can be read from
    when that one is gone.
    """

    def __init__(self, end: int, news: int) -> None:
        self.end = end
        self._news = news

    def ready(self) -> None:
        """Say that this worker serves."""
        with contextlib.suppress(OSError):
            os.write(self._news, READY)

    def hear_hang_up(self) -> None:
        """Take SIGHUPs from now on, and those that came since this worker was begun.

        For one that they do not stop, once it has a handler: without one they would end it.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


class Fleet:
    """Runs `work(number, life)` in `workers` processes until a signal of STOPS, then drains them.

    Parameters
    ----------
    workers : int
    work : callable of int and Life
        Returns the exit code. SIGTERM asks it to end; it sees to its own signals.
    drain_seconds : float
        How long its end may take.
    hang_up : bool
        Whether SIGHUP stops the workers; else they are sent it, and hear it from
        `Life.hear_hang_up` on.
    reload : callable, optional
        Called at a SIGHUP that stops nobody, before workers are sent it: one that is begun later
        has what it read.
    gone : callable of int, optional
        Called with the number of a worker that has ended.
    """

    def __init__(
        self,
        workers: int,
        work: Callable[[int, Life], int],
        drain_seconds: float,
        *,
        hang_up: bool = True,
        reload: Callable[[], object] = lambda: None,
        gone: Callable[[int], object] = lambda number: None,
    ) -> None:
        self._work = work
        self._patience = drain_seconds + SPARE_SECONDS
        self._gone = gone
        self._hang_up = hang_up
        self._reload = reload
        self._workers = [Worker(number) for number in range(workers)]
        self._stopping = 0.0  # when it began; 0: it has not
        self._failed = False
        self._logger = logging.getLogger("fastrnn.serve")
        self._bell, self._ring = socket.socketpair()  # rings at each signal
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._life, self._held = os.pipe()
        self._news, self._tell = os.pipe()
        os.set_blocking(self._tell, False)  # nobody reads it once all have begun

    def run(self, started: Callable[[], object], stopping: Callable[[], object]) -> int:
        """Begin the workers, call `started` when all serve, and return 0 when all have drained.

        Returns 1 if one could not begin, or had to be killed in the end.
        """
        signals = [*STOPS, signal.SIGCHLD]
        if not self._hang_up or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as of nohup
            signals.append(signal.SIGHUP)
        before = {signum: signal.signal(signum, lambda *_: None) for signum in signals}
        wakeup = signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        try:
            for worker in self._workers:
                self._begin(worker)
            if self._await_ready():
                started()
            while any(worker.process for worker in self._workers) or not self._stopping:
                self._wait(self._pause())
                if self._stopping and stopping is not None:
                    stopping()
                    stopping = None  # type: ignore[assignment]
                self._begin_due()
        finally:
            for worker in self._workers:
                self._send(worker, signal.SIGKILL)
            signal.set_wakeup_fd(wakeup)
            for signum, handler in before.items():
                signal.signal(signum, handler)
            for held in (self._life, self._held, self._news, self._tell):
                os.close(held)
            self._bell.close()
            self._ring.close()
        return int(self._failed)

    def _await_ready(self) -> bool:
        """Wait until every worker serves; if one ends before, stop them all."""
        missing, end = len(self._workers), time.monotonic() + READY_SECONDS
        while missing and not self._stopping:
            self._wait(0.5)
            if select.select([self._news], [], [], 0)[0]:
                missing -= len(os.read(self._news, missing))
            one_is_gone = any(not worker.process for worker in self._workers)
            if not self._stopping and (one_is_gone or time.monotonic() > end):
                self._failed = True
                self._logger.error("a worker could not begin")
                self._stop()
        return not self._stopping

    def _begin(self, worker: Worker) -> None:
        worker.begun = time.monotonic()
        # Held back in between: the new process would take what comes for what is the old one's.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, signal.SIGHUP))
        try:
            worker.process = os.fork()
        except OSError as error:  # too many processes, or no memory: perhaps not for long
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            self._postpone(worker, f"could not begin: {error}")
            return
        if worker.process:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.close(self._held)  # or nobody would see its end
            for signum in (*STOPS, signal.SIGHUP, signal.SIGCHLD):
                if signal.getsignal(signum) != signal.SIG_IGN:
                    signal.signal(signum, signal.SIG_DFL)
            kept = set() if self._hang_up else {signal.SIGHUP}
            signal.pthread_sigmask(signal.SIG_SETMASK, held | kept)
            code = self._work(worker.number, Life(self._life, self._tell))
        except BaseException:
            self._logger.error("a worker failed\n%s", traceback.format_exc())
        finally:
            logging.shutdown()
            os._exit(code)

    def _wait(self, seconds: float | None) -> None:
        """Wait for a signal or for so long, and do what signals ask."""
        select.select([self._bell], [], [], seconds)
        rung = b""
        with contextlib.suppress(BlockingIOError):
            rung = self._bell.recv(4096)
        if any(signum in rung for signum in STOPS) or (self._hang_up and signal.SIGHUP in rung):
            self._stop()
        elif signal.SIGHUP in rung:
            self._reload()
            for worker in self._workers:
                self._send(worker, signal.SIGHUP)
        self._reap()
        if self._stopping and time.monotonic() > self._stopping + self._patience:
            for worker in self._workers:
                self._failed |= bool(worker.process)
                self._send(worker, signal.SIGKILL)

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.process:
                continue
            found, status = os.waitpid(worker.process, os.WNOHANG)
            if not found:
                continue
            lived = time.monotonic() - worker.begun
            code = os.waitstatus_to_exitcode(status)
            worker.process = 0
            self._gone(worker.number)
            if self._stopping:
                self._failed |= code not in (0, -signal.SIGTERM)  # one that did not serve yet
                continue
            if lived >= STEADY_SECONDS:
                worker.pause = FIRST_PAUSE
            how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            self._postpone(worker, f"ended {how} after {lived:.1f} s, its clients are cut off")

    def _postpone(self, worker: Worker, what: str) -> None:
        """Say what became of it, and when another begins: ever later."""
        worker.due = time.monotonic() + worker.pause
        self._logger.error(
            "worker %d %s; another begins in %g s", worker.number, what, worker.pause
        )
        worker.pause = min(2 * worker.pause, LONGEST_PAUSE)

    def _begin_due(self) -> None:
        for worker in self._workers:
            if not worker.process and not self._stopping and time.monotonic() >= worker.due:
                self._begin(worker)

    def _pause(self) -> float | None:
        """How long there is nothing to do but for signals; None: for ever."""
        if self._stopping:
            return 0.5
        due = [worker.due for worker in self._workers if not worker.process]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = time.monotonic()
            for worker in self._workers:
                self._send(worker, signal.SIGTERM)

    def _send(self, worker: Worker, signum: int) -> None:
        if worker.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process, signum)
