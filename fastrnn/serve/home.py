"""`Home`: the event loop that something belongs to, from its first use until the loop's end."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any


class Home:
    """Calls `leave` when the event loop has ended, as soon as that can be known.

    `asyncio.run` closes async generators when all tasks are done and before the loop is: one of
    ours tells then. A loop that is just closed is noticed at the next `enter`.

    Parameters
    ----------
    name : str
        Begins error messages.
    leave : bound method
        Frees what is left. Its object is not kept alive by this one.
    """

    def __init__(self, name: str, leave: Callable[[], None]) -> None:
        self._name = name
        self._leave = weakref.WeakMethod(leave)
        self._life: AsyncGenerator[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> asyncio.AbstractEventLoop:
        """Belong to the running event loop, and return it.

        Raises
        ------
        RuntimeError
            If no event loop is running, or another one is not closed.
        """
        loop = asyncio.get_running_loop()
        if self.loop is loop:
            return loop
        if self.loop is not None:
            if not self.loop.is_closed():
                raise RuntimeError(
                    f"{self._name}: belongs to another event loop, which has not ended: each loop "
                    "needs one of its own"
                )
            self._end()
        self.loop = loop
        self._life = _life_of_a_loop(weakref.WeakMethod(self._end_of))
        with contextlib.suppress(StopIteration):  # at its first yield, which is at once
            self._life.__anext__().__await__().__next__()
        return loop

    async def part(self) -> None:
        """Belong to no event loop."""
        self.loop = None
        life, self._life = self._life, None
        if life is not None:
            await life.aclose()

    def call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call, from any thread; nothing if it has ended."""
        loop = self.loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(callback, *arguments)

    def _end_of(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.loop is loop:
            self._end()

    def _end(self) -> None:
        leave = self._leave()
        if leave is not None:
            leave()
        self.loop = self._life = None


async def _life_of_a_loop(
    end: weakref.WeakMethod[Callable[[asyncio.AbstractEventLoop], None]],
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        ended = end()
        if ended is not None:
            ended(asyncio.get_running_loop())
