"""`Session`: one stream of a `Batcher`, and the calls that wait on it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastrnn._kernels.core import as_array

if TYPE_CHECKING:
    from fastrnn.serve.batcher import Batcher

Array = npt.NDArray[Any]

NO_FRAMES: Array = np.empty((0, 0))


class ClosedError(RuntimeError):
    """The session or its batcher is closed or draining, and takes no more frames."""


class Request:
    """One call of a session: frames to step through, or an action on the stream between frames."""

    __slots__ = ("action", "done", "frames", "future", "output", "since")

    def __init__(
        self,
        future: asyncio.Future[Any],
        frames: Array,
        action: Callable[[], Any] | None = None,
    ) -> None:
        self.future = future
        self.frames = frames  # (k, I); none of them for an action
        self.action = action
        self.output: Array | None = None  # (k, P), if k > 1
        self.done = 0  # frames stepped
        self.since = perf_counter()


class Session:
    """One stream, made by `batcher.session()` and open inside its `async with`.

    Calls take effect in the order they are made. A call that is cancelled before its first frame is
    sent to the kernel leaves the state as it was; later, the frames that were sent have advanced
    it, and the frames of the call behind them are dropped.
    """

    def __init__(self, batcher: Batcher, state: bytes | None) -> None:
        self._batcher = batcher
        self._state = state
        self.id: int | None = None  # of the pool's stream, while it is held
        self.pending: deque[Request] = deque()  # the first may be in the kernel
        self.in_flight = False
        self.queued = False  # among the batcher's ready ones
        self.closed = False
        self._door: deque[asyncio.Future[None]] = deque()  # calls that wait for a place in pending
        self._promised = 0  # places given to calls that left the door and did not yet run
        self._released: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Session:
        if self.closed or self.id is not None:
            raise RuntimeError(f"{self._batcher.name}: a session is entered once")
        self.id = self._batcher.admit(self, self._state)
        self._state = None
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def step(self, x: npt.ArrayLike) -> Array:
        """Advance by one frame: x (I,) to y (P,).

        Parameters
        ----------
        x : array (I,)
            Copied at the call.

        Raises
        ------
        ValueError, TypeError
            For a shape or type that does not fit; the state is as before.
        ClosedError
            If the session or the batcher was closed, or is draining.
        RuntimeError
            If the kernel call failed.
        """
        request = Request(self._batcher.loop.create_future(), self._frames(x, 1))
        y: Array = await self._submit(request)
        return y

    async def run(self, x: npt.ArrayLike) -> Array:
        """Advance by k frames: x (k, I) to y (k, P), k may be 0. Raises as `step`.

        They share kernel calls with other sessions' frames, so that a long message holds up nobody.
        """
        return await self.run_owned(self._frames(x, 2))

    async def run_owned(self, frames: Array) -> Array:
        """`run`, for a checked C-contiguous array (k, I) of the dtype that nobody writes to."""
        if len(frames) == 0:
            self._check_open()
            await asyncio.sleep(0)  # or who makes such calls in a row would stop the event loop
            return np.empty((0, self._batcher.output_size), self._batcher.dtype)
        request = Request(self._batcher.loop.create_future(), frames)
        if len(frames) == 1:
            y: Array = (await self._submit(request))[None]
            return y
        request.output = np.empty((len(frames), self._batcher.output_size), self._batcher.dtype)
        await self._submit(request)
        return request.output

    async def save(self) -> bytes:
        """Return the state after all frames of earlier calls, as `StreamPool.save` does."""
        state: bytes = await self._act(lambda: self._batcher.pool.save(self._held()))
        return state

    async def load(self, state: bytes) -> None:
        """Replace the state by one that `save` returned, here or in another process.

        Raises
        ------
        StateError
            If it is damaged or of another model; the session's state is as before.
        """

        def swap() -> None:
            new = self._batcher.pool.load(state)
            self._batcher.pool.close(self._held())
            self.id = new

        await self._act(swap)

    async def reset(self) -> None:
        """Begin anew, after all frames of earlier calls."""
        await self._act(lambda: self._batcher.pool.reset([self._held()]))

    async def close(self) -> None:
        """Free the stream. Calls that still wait raise ClosedError; a second close does nothing.

        Waits for the kernel call that has a frame of this session, if one has. If the wait is
        cancelled, the stream is freed all the same when that call ends.
        """
        if not self.closed:
            self.closed = True
            error = ClosedError(f"{self._batcher.name}: the session was closed")
            for waiter in [*self._door, *(request.future for request in self.pending)]:
                if not waiter.done():
                    waiter.set_exception(error)
                    waiter.exception()  # retrieved: its caller may be gone
            self._door.clear()
            if not self.in_flight:
                self.pending.clear()
                self.release()
        if self.id is not None:
            if self._released is None:
                self._released = self._batcher.loop.create_future()
            await asyncio.shield(self._released)

    def release(self) -> None:
        """Give the stream back to the pool, once."""
        if self.id is not None:
            self._batcher.dismiss(self)
            self.id = None
        if self._released is not None:
            self._released.set_result(None)
            self._released = None

    @property
    def waits(self) -> bool:
        """Whether a call waits for its turn or for a place."""
        return bool(self.pending or self._door or self._promised)

    def pop(self) -> None:
        """Drop the first request, and give its place to the first call at the door."""
        self.pending.popleft()
        self._open_door()

    def _open_door(self) -> None:
        while self._door:
            waiter = self._door.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._promised += 1
                return

    def _held(self) -> int:
        if self.id is None:
            raise ClosedError(f"{self._batcher.name}: the session is not open")
        return self.id

    def _check_open(self) -> None:
        if self.closed or self.id is None:
            raise ClosedError(f"{self._batcher.name}: the session is not open")
        self._batcher.check_open()

    def _frames(self, x: npt.ArrayLike, ndim: int) -> Array:
        """Return a copy of x as (k, I) in the layer's dtype."""
        name, width = self._batcher.name, self._batcher.input_size
        array = as_array(x, self._batcher.dtype, f"{name}: x")
        if array.ndim != ndim or array.shape[-1] != width:
            want = f"({width},)" if ndim == 1 else f"(k, {width})"
            raise ValueError(f"{name}: x is {array.shape}, expected {want}")
        return array.reshape(-1, width).copy()

    async def _act(self, action: Callable[[], Any]) -> Any:
        return await self._submit(Request(self._batcher.loop.create_future(), NO_FRAMES, action))

    async def _submit(self, request: Request) -> Any:
        self._check_open()
        if self._door or self._promised or len(self.pending) >= self._batcher.max_pending:
            await self._wait_at_door()
        self.pending.append(request)
        if not self.queued and not self.in_flight:
            self._batcher.ready(self)
        return await request.future

    async def _wait_at_door(self) -> None:
        waiter: asyncio.Future[None] = self._batcher.loop.create_future()
        self._door.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._promised -= 1
                self._open_door()
            raise
        self._promised -= 1
        if self.closed:
            raise ClosedError(f"{self._batcher.name}: the session was closed")
