"""`Batcher`: frames of many asyncio tasks, gathered into kernel calls, as a rule in another thread.

Everything but the kernel call happens in the event loop's thread, so that nothing here is locked. A
session is in one of three places: resting, among the ready ones (its first call waits for a kernel
call), or in flight. When a kernel call ends, the next one is sent off with whatever is ready before
the results are handed out; and one that is full is sent ahead while another is under way, since
waiting could not fill it further: the worker then need not wait for a busy event loop. A call that
is known to take less than handing it over and back, some 50 us, is made in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from typing import Any

import numpy as np

from fastrnn.errors import PoolFullError
from fastrnn.serve.home import Home
from fastrnn.serve.served import Served
from fastrnn.serve.session import ClosedError, Session
from fastrnn.serve.stats import Stats
from fastrnn.serve.worker import Batch, Worker

HERE_WORK = 2**20  # multiply-adds: some 50 us of AVX2
FRAME_WORK = 2048  # what a frame costs beside its own


class Batcher:
    """Steps the streams of many asyncio tasks through one layer, as many as are ready per call.

    May be made anywhere, at import too, and belongs to the event loop in which it is first entered
    or used; when that has ended, to the next one. A frame waits for the kernel call under way, and
    for nothing else: whatever is ready when that ends goes into the next one, in order of arrival,
    and never two frames of one session. Each stream gives the bits it would give alone.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Unidirectional, with weights; or whatever else has pools (`fastrnn.serve.served`).
    max_streams : int
        Sessions open at once; one more raises PoolFullError.
    max_batch : int
        Rows in one kernel call.
    max_wait_ms : float
        How long a frame may wait for others when the worker is idle and not all open sessions (or
        max_batch of them) are ready. 0: not at all.
    max_pending : int
        Calls of one session that may be under way; further ones wait their turn, in order, or raise
        BusyError if they may not (`wait=False`).
    max_steps : int
        Steps in one kernel call. More than one are taken only if every session in the call has as
        many frames left.
    initial_state : optional
        Where sessions begin and what their `reset` goes back to, as `layer.pool` takes it.

    Examples
    --------
    >>> async def main():
    ...     async with Batcher(lstm, max_streams=1000, max_batch=256) as batcher:
    ...         async with batcher.session() as session:
    ...             y = await session.step(np.zeros(40))
    ...             return y.shape, batcher.stats.as_dict()["frames"]
    >>> lstm = fastrnn.load("model.pt", "encoder.lstm")
    >>> asyncio.run(main())
    ((64,), 1)
    """

    def __init__(
        self,
        layer: Served,
        max_streams: int,
        max_batch: int,
        max_wait_ms: float = 0,
        *,
        max_pending: int = 16,
        max_steps: int = 16,
        initial_state: Any = None,
    ) -> None:
        self.name = f"{type(layer).__name__} batcher"
        self.x_name = f"{self.name}: x"
        if not callable(getattr(layer, "pool", None)):
            raise TypeError(f"{self.name}: a {type(layer).__name__} has no pools, expected a layer")
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
        # One more than promised, so that a session can load a state while it holds its old one.
        begin = {} if initial_state is None else {"initial_state": initial_state}
        self.pool = layer.pool(capacity=int(max_streams) + 1, **begin)
        self.input_shape = tuple(self.pool.input_shape)
        self.output_shape = tuple(self.pool.output_shape)
        self.dtype = np.dtype(self.pool.dtype)
        self.state_bytes = self._measure_state()
        self.max_streams = int(max_streams)
        self.max_batch = min(int(max_batch), self.max_streams)
        self.max_pending = int(max_pending)
        self._max_wait = max_wait_ms / 1e3
        work = getattr(self.pool, "work", None)
        self._frames_here = 0 if work is None else HERE_WORK // (work + FRAME_WORK)
        self.stats = Stats()
        self._home = Home(self.name, self._abandon)
        self._sessions: set[Session] = set()
        self._ready: deque[Session] = deque()
        self._flying: set[Batch] = set()  # sent off
        self._launch_handle: asyncio.Handle | None = None
        self._launch_is_timed = False
        self._draining = False
        self._drained: asyncio.Future[None] | None = None
        this = weakref.ref(self)  # so that the thread does not keep a batcher that nobody uses
        self._worker = Worker(
            self.pool, self.max_batch, int(max_steps), layer.batch_first, self.stats,
            lambda batch: _hand_on(this(), batch),
        )  # fmt: skip
        weakref.finalize(self, self._worker.end)

    async def __aenter__(self) -> Batcher:
        if self._home.loop is None:
            self._draining = False  # drained: it begins anew
        self._home.enter()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.drain()

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._sessions)

    def __bool__(self) -> bool:
        """Return True: a batcher without sessions is a batcher."""
        return True

    def session(self, *, state: bytes | None = None) -> Session:
        """Return a session to enter with `async with`, from the beginning or from a saved state.

        Entering raises PoolFullError if max_streams are open, ClosedError if the batcher is
        draining, and StateError for a state that is damaged or of another model.
        """
        return Session(self, state)

    async def open(self, *, state: bytes | None = None) -> Session:
        """Return an open session, for a stream that outlives a task; raises as entering one does.

        It holds its stream until somebody calls its `close`, or the batcher drains.
        """
        return await self.session(state=state).__aenter__()

    async def drain(self) -> None:
        """Finish the calls that were made, refuse new ones, close every session, end the thread.

        A batcher that was drained may be entered again.
        """
        self._draining = True
        if self._home.loop is None:
            return
        loop = self._home.enter()
        if self._drained is None:
            self._drained = loop.create_future()
        if self._ready and self._may_launch():
            self._launch()  # nobody else is waited for
        self._check_drained()
        await asyncio.shield(self._drained)
        for session in [*self._sessions]:
            await session.close()
        self._worker.stop()
        self._drained = None
        await self._home.part()

    def _check_open(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that the batcher belongs to, which is the running one.

        Raise ClosedError if no more calls are taken, RuntimeError in another event loop.
        """
        if self._draining:
            raise ClosedError(f"{self.name}: draining, no new frames are taken")
        return self._home.enter()

    def _promise(self) -> asyncio.Future[Any]:
        """Return a future of the batcher's event loop."""
        return self._home.enter().create_future()

    def _admit(self, session: Session, state: bytes | None) -> int:
        """Open a stream for `session`, and return its id in the pool."""
        self._check_open()
        if len(self._sessions) >= self.max_streams:
            raise PoolFullError(f"{self.name}: all {self.max_streams} streams are in use")
        stream = self.pool.open() if state is None else self.pool.load(state)
        self._sessions.add(session)
        return stream

    def _dismiss(self, session: Session) -> None:
        """Free the stream of `session`."""
        self._sessions.discard(session)
        assert session.id is not None
        self.pool.close(session.id)
        self._check_drained()

    def _enqueue(self, session: Session) -> None:
        """Put a session, which has a pending request, among those for the next kernel call."""
        session._queued = True
        self._ready.append(session)
        if (self._launch_handle is None or self._launch_is_timed) and self._may_launch():
            self._schedule()

    def _measure_state(self) -> int:
        """Bytes of a saved state. The first hashes the weights: not while others wait."""
        stream = self.pool.open()
        try:
            return len(self.pool.save(stream))
        finally:
            self.pool.close(stream)

    def _abandon(self) -> None:
        """Free what an event loop that ended without a drain left behind."""
        told = self._home.loop is not None and not self._home.loop.is_closed()
        self._worker.stop()
        self._flying.clear()
        self._ready.clear()
        if self._launch_handle is not None:
            self._launch_handle.cancel()
            self._launch_handle = None
        self._drained = None
        for session in [*self._sessions]:
            session._abandon(told=told)

    def _may_launch(self) -> bool:
        """Whether the worker is idle, or a batch can be sent ahead that nothing more would join."""
        return not self._flying or (len(self._flying) == 1 and len(self._ready) >= self.max_batch)

    def _schedule(self) -> None:
        """See to it that `_launch` is called: soon, so that tasks about to run can join, or later.

        Later is at most max_wait_ms, and until enough are ready.
        """
        loop = self._home.enter()
        delay = 0.0
        if self._max_wait and len(self._ready) < min(self.max_batch, len(self._sessions)):
            delay = 0.0 if self._draining else self._max_wait
        if self._launch_handle is not None:
            if delay or not self._launch_is_timed:
                return
            self._launch_handle.cancel()
        self._launch_is_timed = delay > 0
        self._launch_handle = (
            loop.call_later(delay, self._launch) if delay else loop.call_soon(self._launch)
        )

    def _launch(self) -> None:
        """Have what is ready stepped: by the worker, or here."""
        if self._launch_handle is not None:
            self._launch_handle.cancel()
            self._launch_handle = None
        batch = self._next_batch()
        if not batch.requests:
            self._check_drained()
            return
        self._flying.add(batch)
        try:
            self._worker.fill(batch)
        except Exception as error:  # of memory
            batch.error = error
            self._finish(batch, here=True)
            return
        if len(self._flying) > 1 or len(batch.requests) * batch.steps > self._frames_here:
            self._worker.put(batch)
            return
        try:
            self._worker.step(batch)
        except BaseException as error:  # KeyboardInterrupt: its callers are told, too
            batch.error = error
            raise
        finally:
            self._finish(batch, here=True)

    def _next_batch(self) -> Batch:
        """Take what is ready, in order, up to max_batch."""
        ready, batch = self._ready, Batch()
        sessions, ids, requests = batch.sessions, batch.ids, batch.requests
        while ready and len(requests) < self.max_batch:
            session = ready.popleft()
            session._queued = False
            request = session._next_frames()
            if request is not None:
                session._in_flight = True
                sessions.append(session)
                ids.append(session.id)
                requests.append(request)
        return batch

    def _finish(self, batch: Batch, *, here: bool = False) -> None:
        """Take in a batch that was stepped: next batch first, then the results.

        After one that was stepped `here`, others have their turn before the next.
        """
        if batch not in self._flying:
            return  # its loop has ended, or it was handed on before
        self._flying.remove(batch)
        self._worker.empty(batch)
        error, finished = batch.error, []
        for session, request in zip(batch.sessions, batch.requests, strict=True):
            session._in_flight = False
            if session.closed:
                session._release()
                continue
            pending = session._pending
            if error is not None or request.done == request.steps:
                finished.append(request.future)
                pending.popleft()
            if pending:
                session._queued = True
                self._ready.append(session)
        if self._ready and self._may_launch():
            if self._max_wait or here:
                self._schedule()
            else:
                self._launch()
        for future in finished:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(batch.failure(self.name))
        self._check_drained()

    def _check_drained(self) -> None:
        if (
            self._drained is not None
            and not self._drained.done()
            and not self._flying
            and not any(session._waits for session in self._sessions)
        ):
            self._drained.set_result(None)


def _hand_on(batcher: Batcher | None, batch: Batch) -> None:
    """Take a batch from the worker's thread to the event loop, if they are still there."""
    if batcher is not None:
        batcher._home.call(batcher._finish, batch)
