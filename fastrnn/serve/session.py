"""`Session`: one stream of a `Batcher`, and the calls that wait on it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import as_array
from fastrnn._kernels.request import Request
from fastrnn.errors import BusyError
from fastrnn.serve.served import Pool

Array = npt.NDArray[Any]


class ClosedError(RuntimeError):
    """The session or its batcher is closed or draining, and takes no more frames."""


class Host(Protocol):
    """What a session asks of its batcher."""

    name: str
    x_name: str
    pool: Pool
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    max_pending: int

    def _check_open(self) -> asyncio.AbstractEventLoop:
        """Return the batcher's event loop, which is the running one.

        Raise ClosedError if no more calls are taken, RuntimeError in another event loop.
        """

    def _promise(self) -> asyncio.Future[Any]:
        """Return a future of the batcher's event loop."""

    def _admit(self, session: Session, state: bytes | None) -> int:
        """Open a stream for a session, and return its id in the pool."""

    def _dismiss(self, session: Session) -> None:
        """Free the stream of a session."""

    def _enqueue(self, session: Session) -> None:
        """Take a session, which has a pending request, into one of the next kernel calls."""


class Session:
    """One stream, made by `batcher.session()` and open inside its `async with`.

    `await batcher.open()` returns one that stays open until its `close`, whichever task calls that.

    Calls take effect in the order they are made. A call that is cancelled before its first frame is
    sent to the kernel leaves the state as it was; later, the frames that were sent have advanced
    it, and the frames of the call behind them are dropped.
    """

    def __init__(self, host: Host, state: bytes | None) -> None:
        self._host = host
        self._state = state
        self.id: int | None = None  # of the pool's stream, while it is held
        self._pending: deque[Request] = deque()  # the first may be in the kernel
        self._in_flight = False
        self._queued = False  # among the batcher's ready ones; a session with pending calls is one
        self.closed = False
        self._released: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Session:
        if self.closed or self.id is not None:
            raise RuntimeError(f"{self._host.name}: a session is entered once")
        self.id = self._host._admit(self, self._state)
        self._state = None
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def step(self, x: npt.ArrayLike, *, wait: bool = True) -> Array:
        """Advance by one frame: x (I,) to y (P,).

        Parameters
        ----------
        x : array (I,)
            Copied at the call. Of the frame's shape, where what is served has others.
        wait : bool
            Whether to wait where max_pending calls of the session are under way already.

        Raises
        ------
        ValueError, TypeError
            For a shape or type that does not fit; the state is as before.
        BusyError
            If max_pending calls are under way, and this one may not wait.
        ClosedError
            If the session or the batcher was closed, or is draining.
        RuntimeError
            If the kernel call failed.
        """
        host = self._host
        frame = as_array(x, host.dtype, host.x_name)
        if frame.shape != host.input_shape:
            raise self._misfit(frame, many=False)
        y = np.empty(host.output_shape, host.dtype)
        await self._submit(wait, frame.copy(), y, 1)
        return y

    async def run(self, x: npt.ArrayLike, *, wait: bool = True) -> Array:
        """Advance by k frames: x (k, I) to y (k, P), k may be 0. Waits and raises as `step`.

        They share kernel calls with other sessions' frames, so that a long message holds up nobody.
        """
        host = self._host
        frames = as_array(x, host.dtype, host.x_name)
        if frames.shape[1:] != host.input_shape or frames.ndim != len(host.input_shape) + 1:
            raise self._misfit(frames, many=True)
        return await self._run_owned(frames.copy(), wait=wait)

    async def _run_owned(self, frames: Array, *, wait: bool = True) -> Array:
        """`run`, for a checked C-contiguous array (k, I) of the dtype that nobody writes to."""
        y = np.empty((len(frames), *self._host.output_shape), self._host.dtype)
        if len(frames):
            await self._submit(wait, frames, y, len(frames))
        else:
            self._check_open()
            await asyncio.sleep(0)  # or who makes such calls in a row would stop the event loop
        return y

    async def save(self, *, wait: bool = True) -> bytes:
        """Return the state after all frames of earlier calls, as `StreamPool.save` does."""
        state: bytes = await self._act(lambda: self._host.pool.save(self._held()), wait)
        return state

    async def load(self, state: bytes, *, wait: bool = True) -> None:
        """Replace the state by one that `save` returned, here or in another process.

        Raises
        ------
        StateError
            If it is damaged or of another model; the session's state is as before.
        """

        def swap() -> None:
            new = self._host.pool.load(state)
            self._host.pool.close(self._held())
            self.id = new

        await self._act(swap, wait)

    async def reset(self, *, wait: bool = True) -> None:
        """Begin anew, after all frames of earlier calls."""
        await self._act(lambda: self._host.pool.reset([self._held()]), wait)

    async def close(self) -> None:
        """Free the stream. Calls that still wait raise ClosedError; a second close does nothing.

        Waits for the kernel call that has a frame of this session, if one has. If the wait is
        cancelled, the stream is freed all the same when that call ends.
        """
        if not self.closed:
            released = self._host._promise()  # this closes it, if its event loop has ended
            if not self.closed:
                self.closed = True
                self._released = released
                self._fail_pending()
                if not self._in_flight:
                    self._release()
        if self._released is not None:
            await asyncio.shield(self._released)

    def _next_frames(self) -> Request | None:
        """Return the next frames to step through, past what was cancelled and what is no frames."""
        while not self.closed and self._pending:
            request = self._pending[0]
            if not request.future.done():
                if request.action is None:
                    return request
                try:
                    request.future.set_result(request.action())
                except Exception as error:
                    request.future.set_exception(error)
            self._pending.popleft()
        return None

    def _release(self) -> None:
        """Give the stream back to the pool, once."""
        self._pending.clear()
        if self.id is not None:
            self._host._dismiss(self)
            self.id = None
        if self._released is not None:
            self._released.set_result(None)
            self._released = None

    def _abandon(self, *, told: bool) -> None:
        """Give the stream back after the event loop's end; those who wait are `told`, or gone."""
        self.closed = True
        self._in_flight = False
        if not told:
            self._pending.clear()
            self._released = None
        self._fail_pending()
        self._release()

    @property
    def _waits(self) -> bool:
        """Whether a call waits for its turn or is in the kernel."""
        return bool(self._pending)

    def _fail_pending(self) -> None:
        error = ClosedError(f"{self._host.name}: the session was closed")
        for request in self._pending:
            if not request.future.done():
                request.future.set_exception(error)
                request.future.exception()  # retrieved: its caller may be gone

    def _held(self) -> int:
        if self.id is None:
            raise ClosedError(f"{self._host.name}: the session is not open")
        return self.id

    def _check_open(self) -> asyncio.AbstractEventLoop:
        if not self.closed:
            loop = self._host._check_open()  # which closes it, if its event loop has ended
            if not self.closed and self.id is not None:
                return loop
        raise ClosedError(f"{self._host.name}: the session is not open")

    def _misfit(self, array: Array, *, many: bool) -> ValueError:
        """Return what to raise for an array that is no frame, or not many frames."""
        host = self._host
        sizes = ", ".join([*("k" for _ in range(many)), *map(str, host.input_shape)])
        comma = "," if len(host.input_shape) + many == 1 else ""
        return ValueError(f"{host.x_name} is {array.shape}, expected ({sizes}{comma})")

    async def _act(self, action: Callable[[], Any], wait: bool) -> Any:
        return await self._submit(wait, None, None, 0, action)

    def _submit(
        self,
        wait: bool,
        frames: Array | None,
        output: Array | None,
        steps: int,
        action: Callable[[], Any] | None = None,
    ) -> asyncio.Future[Any]:
        """Have `steps` frames stepped, or the action done, and return the future to wait for."""
        loop = self._check_open()
        pending = self._pending
        if not wait and len(pending) >= self._host.max_pending:
            raise BusyError(
                f"{self._host.name}: the session is in use, with max_pending="
                f"{self._host.max_pending} of its calls under way"
            )
        future = loop.create_future()
        pending.append(Request(future, frames, output, steps, perf_counter(), action))
        if not self._queued and not self._in_flight:
            self._host._enqueue(self)
        return future
