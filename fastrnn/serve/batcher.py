"""`Batcher`: frames of many asyncio tasks, gathered into kernel calls that run in a worker thread.

Everything but the kernel call happens in the event loop's thread, so that nothing here is locked. A
session is in one of three places: resting, among the ready ones (its first call waits for a kernel
call), or in flight. When a kernel call ends, the next one is sent off with whatever is ready before
the results are handed out; and one that is full is sent ahead while another is under way, since
waiting could not fill it further: the worker then need not wait for a busy event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import numpy as np

from fastrnn.errors import PoolFullError
from fastrnn.serve.session import ClosedError, Request, Session
from fastrnn.serve.stats import Stats
from fastrnn.serve.worker import Batch, Worker


class Batcher:
    """Steps the streams of many asyncio tasks through one layer, as many as are ready per call.

    Belongs to the event loop in which it is made. A frame waits for the kernel call under way, and
    for nothing else: whatever is ready when that ends goes into the next one, in order of arrival,
    and never two frames of one session. Each stream gives the bits it would give alone.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Unidirectional, with weights.
    max_streams : int
        Sessions open at once; one more raises PoolFullError.
    max_batch : int
        Rows in one kernel call.
    max_wait_ms : float
        How long a frame may wait for others when the worker is idle and not all open sessions (or
        max_batch of them) are ready. 0: not at all.
    max_pending : int
        Calls of one session that may be queued; further ones wait for a place, in order.
    max_steps : int
        Steps in one kernel call. More than one are taken only if every session in the call has as
        many frames left.
    initial_state : optional
        Where sessions begin and what their `reset` goes back to, as `layer.pool` takes it.
    """

    def __init__(
        self,
        layer: Any,
        max_streams: int,
        max_batch: int,
        max_wait_ms: float = 0,
        *,
        max_pending: int = 16,
        max_steps: int = 16,
        initial_state: Any = None,
    ) -> None:
        self.name = f"{type(layer).__name__} batcher"
        for name, value in (
            ("max_streams", max_streams),
            ("max_batch", max_batch),
            ("max_pending", max_pending),
            ("max_steps", max_steps),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{self.name}: {name}={value!r}, expected an integer >= 1")
        if not 0 <= max_wait_ms < float("inf"):
            raise ValueError(f"{self.name}: max_wait_ms={max_wait_ms!r}, expected 0 or more")
        self.loop = asyncio.get_running_loop()
        # One more than promised, so that a session can load a state while it holds its old one.
        begin = {} if initial_state is None else {"initial_state": initial_state}
        self.pool = layer.pool(capacity=int(max_streams) + 1, **begin)
        self.input_size: int = self.pool.input_size
        self.output_size: int = self.pool.output_size
        self.dtype = np.dtype(self.pool.dtype)
        self.max_streams = int(max_streams)
        self.max_batch = min(int(max_batch), self.max_streams)
        self.max_pending = int(max_pending)
        self._max_wait = max_wait_ms / 1e3
        self.stats = Stats()
        self._sessions: set[Session] = set()
        self._ready: deque[Session] = deque()
        self._flying = 0  # batches sent off
        self._launch_handle: asyncio.Handle | None = None
        self._launch_is_timed = False
        self._draining = False
        self._drained: asyncio.Future[None] = self.loop.create_future()
        self._worker = Worker(
            self.pool, self.max_batch, int(max_steps), layer.batch_first, self.stats,
            lambda batch: self.loop.call_soon_threadsafe(self._finish, batch),
        )  # fmt: skip

    async def __aenter__(self) -> Batcher:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.drain()

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._sessions)

    def session(self, *, state: bytes | None = None) -> Session:
        """Return a session to enter with `async with`, new or from what `save` returned.

        Entering raises PoolFullError if max_streams are open, ClosedError if the batcher is
        draining, and StateError for a state that is damaged or of another model.
        """
        return Session(self, state)

    async def drain(self) -> None:
        """Finish the calls that were made, refuse new ones, close every session, end the thread."""
        self._draining = True
        self._check_drained()
        await asyncio.shield(self._drained)
        for session in [*self._sessions]:
            await session.close()
        self._worker.stop()

    def check_open(self) -> None:
        """Raise ClosedError if the batcher takes no more calls."""
        if self._draining:
            raise ClosedError(f"{self.name}: draining, no new frames are taken")

    def admit(self, session: Session, state: bytes | None) -> int:
        """Open a stream for `session`, and return its id in the pool."""
        self.check_open()
        if len(self._sessions) >= self.max_streams:
            raise PoolFullError(f"{self.name}: all {self.max_streams} streams are in use")
        stream: int = self.pool.open() if state is None else self.pool.load(state)
        self._sessions.add(session)
        return stream

    def dismiss(self, session: Session) -> None:
        """Free the stream of `session`."""
        self._sessions.discard(session)
        self.pool.close(session.id)
        self._check_drained()

    def ready(self, session: Session) -> None:
        """Put a session, which has a pending request, among those for the next kernel call."""
        session.queued = True
        self._ready.append(session)
        if self._may_launch():
            self._schedule()

    def _may_launch(self) -> bool:
        """Whether the worker is idle, or a batch can be sent ahead that nothing more would join."""
        return not self._flying or (self._flying == 1 and len(self._ready) >= self.max_batch)

    def _schedule(self) -> None:
        """See to it that `_launch` is called: soon, so that tasks about to run can join, or later.

        Later is at most max_wait_ms, and until enough are ready.
        """
        delay = 0.0
        if self._max_wait and len(self._ready) < min(self.max_batch, len(self._sessions)):
            delay = self._max_wait
        if self._launch_handle is not None:
            if delay or not self._launch_is_timed:
                return
            self._launch_handle.cancel()
        self._launch_is_timed = delay > 0
        self._launch_handle = (
            self.loop.call_later(delay, self._launch)
            if delay
            else self.loop.call_soon(self._launch)
        )

    def _launch(self) -> None:
        """Send what is ready to the worker."""
        if self._launch_handle is not None:
            self._launch_handle.cancel()
            self._launch_handle = None
        ready, batch = self._ready, Batch()
        while ready and len(batch.requests) < self.max_batch:
            session = ready.popleft()
            session.queued = False
            request = self._next_request(session)
            if request is not None:
                session.in_flight = True
                batch.sessions.append(session)
                batch.ids.append(session.id)
                batch.requests.append(request)
        if batch.requests:
            self._flying += 1
            self._worker.put(batch)
        else:
            self._check_drained()

    def _next_request(self, session: Session) -> Request | None:
        """Return the next frames of `session`, past what was cancelled and what is not frames."""
        while not session.closed and session.pending:
            request = session.pending[0]
            if not request.future.done():
                if request.action is None:
                    return request
                try:
                    request.future.set_result(request.action())
                except Exception as error:
                    request.future.set_exception(error)
            session.pop()
        return None

    def _finish(self, batch: Batch) -> None:
        """Take in a batch that the worker has stepped: next batch first, then the results."""
        self._flying -= 1
        finished = []
        for i, (session, request) in enumerate(zip(batch.sessions, batch.requests, strict=True)):
            session.in_flight = False
            if session.closed:
                session.pending.clear()
                session.release()
                continue
            if batch.error is not None or request.done == len(request.frames):
                finished.append((request.future, i))
                session.pop()
            if session.pending:
                session.queued = True
                self._ready.append(session)
        if self._ready and self._may_launch():
            if self._max_wait:
                self._schedule()
            else:
                self._launch()
        for future, i in finished:
            if not future.done():
                if batch.error is None:
                    future.set_result(batch.rows[i])
                else:
                    future.set_exception(self._failure(batch.error))
        if self._draining:
            self._check_drained()

    def _failure(self, cause: BaseException) -> RuntimeError:
        """Return an exception for one caller: each has its own traceback."""
        error = RuntimeError(f"{self.name}: the kernel call failed: {cause}")
        error.__cause__ = cause
        return error

    def _check_drained(self) -> None:
        if (
            self._draining
            and not self._drained.done()
            and not self._flying
            and not any(session.waits for session in self._sessions)
        ):
            self._drained.set_result(None)
