"""`Connection`: a WebSocket that is watched, can be held, and parts in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from fastrnn.serve.protocol import POLICY, RefusedError

QUIET_SECONDS = 0.02  # after which a held connection has no complete message left

# A read of 256 KiB may hold 40,000 empty frames, which take seconds: it is parsed in parts, and
# after some time it is the turn of the other connections.
PART_BYTES = 1024
TURN_SECONDS = 0.001


class Phase(Enum):
    """What the handler of a connection is about."""

    WORKING = 0
    RECEIVING = 1
    SENDING = 2
    PARTING = 3


class Crowd:
    """The open sockets of a server, those before their handshake too."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


class Connection(ServerConnection):
    """A WebSocket of the server. `receive` and `send` are its handler's, the rest the server's."""

    def __init__(self, *args: Any, crowd: Crowd, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._crowd = crowd
        self._phase = Phase.WORKING
        self._since = 0.0  # of the phase, in the loop's time
        self._handler: asyncio.Task[Any] | None = None
        self._unparsed = bytearray()  # nothing is read while there is some
        self._parsing: asyncio.Handle | None = None
        self._choked = False  # the client does not take what it was sent
        self._held: list[bytes] | None = None  # what came after `hold`
        self._expired = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket, or drop it if there are too many."""
        super().connection_made(transport)
        self.recv_messages.resume = self._read_on
        self._crowd.count += 1
        if self._crowd.count > self._crowd.most:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the socket back."""
        self._crowd.count -= 1
        self._unparsed.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the protocol, unless held."""
        if self._held is not None:
            self._held.append(data)
            self.transport.pause_reading()
        elif self._unparsed or len(data) > PART_BYTES:
            self._unparsed += data
            self._parse()
        else:
            super().data_received(data)

    def send_data(self) -> None:
        """Send what the protocol has to say, many pongs in one write.

        Where the socket is gone, asyncio would log a warning for each write.
        """
        data = self.protocol.data_to_send()
        if self.transport.is_closing():
            return
        if joined := b"".join(data):
            self.transport.write(joined)
        if data and not data[-1]:  # the end of what is sent
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def pause_writing(self) -> None:
        """Read nothing while the client does not take what it was sent: not even pings."""
        super().pause_writing()
        self._choked = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on, unless something else is against it."""
        super().resume_writing()
        self._choked = False
        self._read_on()

    def _parse(self) -> None:
        """Pass on what was read, for one turn: all of it, or until the client must be slowed."""
        self._parsing = None
        end = self.loop.time() + TURN_SECONDS
        while self._unparsed and not self._is_full() and self.loop.time() < end:
            part = bytes(self._unparsed[:PART_BYTES])
            del self._unparsed[:PART_BYTES]
            super().data_received(part)
        if self._unparsed:
            self.transport.pause_reading()
        self._read_on()

    def _read_on(self) -> None:
        """Parse what was read, else read, unless something is against it."""
        if self._is_full():
            return
        if self._unparsed:
            if self._parsing is None:
                self._parsing = self.loop.call_soon(self._parse)
        elif self._held is None:
            self.transport.resume_reading()

    def _is_full(self) -> bool:
        return self._choked or self.recv_messages.paused

    def begin(self) -> None:
        """Say that the calling task is the handler."""
        self._handler = asyncio.current_task()

    async def receive(self) -> str | bytes | None:
        """Return the next message; None if the connection is held and none is left.

        Raises
        ------
        ConnectionClosed
            If the client is gone.
        RefusedError
            If it was idle for too long.
        """
        if self._held is None:
            self._enter(Phase.RECEIVING)
            try:
                return await self.recv()
            except asyncio.CancelledError:  # recv loses nothing by it
                if self._expired:
                    raise RefusedError(POLICY, "idle for too long") from None
                if self._held is None:
                    raise
            finally:
                self._phase = Phase.WORKING
        try:
            return await asyncio.wait_for(self.recv(), QUIET_SECONDS)
        except asyncio.TimeoutError:
            return None

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        """Send one message, and wait while the client does not take what was sent before."""
        self._enter(Phase.SENDING)
        try:
            await super().send(message, text=text)
        finally:
            self._phase = Phase.WORKING

    def hold(self) -> None:
        """Take no more bytes: `receive` gives the messages that have come whole, then None."""
        if self._held is None and self._phase is not Phase.PARTING:
            self._held = []
            self.transport.pause_reading()
            if self._phase is Phase.RECEIVING and self._handler is not None:
                self._handler.cancel()

    def expire(self, now: float, seconds: float) -> None:
        """End the connection if its client has sent nothing, or not taken a message, for so long.

        One that does not take messages would not take a close frame either: it is cut off.
        """
        if now - self._since < seconds:
            return
        if self._phase is Phase.SENDING:
            self.transport.abort()
        elif self._phase is Phase.RECEIVING and self._handler is not None:
            self._expired = True
            self._handler.cancel()

    async def part(self, code: int, reason: str, seconds: float) -> None:
        """Close with `code` and `reason`; cut off after `seconds`. Discards what still comes."""
        self._phase = Phase.PARTING
        held, self._held = self._held, None
        if held is not None and not self.transport.is_closing():
            self._unparsed += b"".join(held)
            self._read_on()
        try:
            await asyncio.wait_for(
                asyncio.gather(self.close(code, reason), self._discard()), seconds
            )
        except asyncio.TimeoutError:
            self.transport.abort()
            await self.wait_closed()

    async def _discard(self) -> None:
        try:
            while True:
                await self.recv()
        except ConnectionClosed:
            pass

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()
