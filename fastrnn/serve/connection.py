"""`Connection`: a WebSocket that is watched, can be held, and parts in bounded time."""

from __future__ import annotations

import asyncio
import select
from enum import Enum
from typing import Any

from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import DATA_OPCODES, Opcode
from websockets.protocol import OPEN, Event

from fastrnn.serve.inbox import Inbox
from fastrnn.serve.paced import Paced
from fastrnn.serve.protocol import ABNORMAL, OWN, POLICY, RefusedError
from fastrnn.serve.rate import Rate

PING_SECONDS = 20.0  # of silence, before a client is asked whether it lives, and for its answer

GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Phase(Enum):
    """What the handler of a connection is about."""

    WORKING = 0
    RECEIVING = 1
    SENDING = 2
    PARTING = 3


class Connection(Paced):
    """A WebSocket of the server.

    A client is alive while bytes come from it, and silence counts only while somebody listens: what
    is not read, since the client is slowed or does not take its answers, says nothing about it.
    """

    def __init__(self, *args: Any, most_bytes: int, rate: float, **more: Any) -> None:
        super().__init__(*args, **more)
        now = self.loop.time()
        self.rate = Rate(rate, now)
        self._resting: asyncio.Handle | None = None  # until its pings are within the rate
        self._phase = Phase.WORKING
        self._since = now  # of the phase, in the loop's time
        self._pinged = 0.0  # when, in the loop's time
        self._inbox = Inbox(most_bytes)
        self._refusal: RefusedError | None = None
        self._waiter: asyncio.Future[None] | None = None  # of the handler, for news

    # What the handler calls

    async def receive(self) -> str | bytes | None:
        """Return the next message; None if the connection is held and none is left.

        Raises
        ------
        ConnectionClosed
            If the client is gone, or has said that it goes.
        RefusedError
            If it was idle for too long, or sent what is no message.
        """
        self._enter(Phase.RECEIVING)
        try:
            while self.state is OPEN and not self._inbox:
                if self._refusal is not None:
                    raise self._refusal
                if self.held is not None and (self.is_full() or not self.unparsed):
                    return None
                await self._news()
        finally:
            self._phase = Phase.WORKING
        self._check_open()
        message = self._inbox.take()
        self.read_on()
        return message

    async def answer(self, message: str | bytes) -> None:
        """Send one message, and wait while the client does not take what was sent before.

        Raises
        ------
        ConnectionClosed
            If the client is gone, or has said that it goes.
        """
        self._check_open()
        self._enter(Phase.SENDING)
        try:
            if isinstance(message, str):
                self.protocol.send_text(message.encode())
            else:
                self.protocol.send_binary(message)
            self.send_data()
            if self.paused:
                await self.drain()
        except OSError:
            raise self._closed() from None
        finally:
            self._phase = Phase.WORKING

    async def pause(self, seconds: float) -> None:
        """Wait for so long, unless the connection is held. Raises ConnectionClosed as `receive`."""
        end = self.loop.time() + seconds
        while self.state is OPEN and self.held is None and (left := end - self.loop.time()) > 0:
            await self._news(left)
        self._check_open()

    async def part(self, code: int, reason: str, seconds: float, linger: float = 0.0) -> None:
        """Close with `code` and `reason`; cut off after `seconds`. Discards what still comes.

        Lingers for so long, or until something comes: a client that is between two messages then
        sends the next and reads what it was told last, while a close would fail its sending.
        """
        self._phase = Phase.PARTING
        self.crowd.loosen(self)
        self.let_go()
        if linger and self.state is OPEN:
            await self._news(linger)
        if self.state is OPEN:
            self.protocol.send_close(code, reason)
            self.send_data()
        try:
            await asyncio.wait_for(self.wait_closed(), seconds)
        except asyncio.TimeoutError:
            self.transport.abort()
            await self.wait_closed()

    @property
    def first_code(self) -> int:
        """The code of whoever closed first; ABNORMAL if the client vanished.

        A client's own codes, 3000 and up, are OWN: strangers do not choose what is counted apart.
        """
        rcvd, sent = self.protocol.close_rcvd, self.protocol.close_sent
        if rcvd is not None and (sent is None or self.protocol.close_rcvd_then_sent):
            return min(rcvd.code, OWN)
        return ABNORMAL if sent is None else sent.code

    # What the server calls

    def hold(self) -> None:
        """Take no more bytes: `receive` gives the messages that have come whole, then None."""
        if self.held is None and self._phase is not Phase.PARTING:
            self.hold_back()
            self._rested()  # what was read is answered, however fast it came
            self.changed()

    def watch(self, now: float, idle_seconds: float) -> None:
        """End the connection if its client is idle or has vanished. To be called now and then.

        One that does not take messages would not take a close frame either: it is cut off.
        """
        if self.transport.is_closing() or self._phase is Phase.PARTING:
            return
        if now - self._since >= idle_seconds:
            if self._phase is Phase.SENDING:
                self.transport.abort()
            elif self._phase is Phase.RECEIVING:
                self._refusal = RefusedError(POLICY, "idle for too long")
                self.changed()
        if not self.transport.is_reading():
            self.heard = now
            if self._has_hung_up():
                self.transport.abort()
        elif now - self.heard < PING_SECONDS or self.state is not OPEN:
            return
        elif self._pinged < self.heard:
            self._pinged = now
            self.protocol.send_ping(b"")
            self.send_data()
        elif now - self._pinged >= PING_SECONDS:
            self.transport.abort()

    # What `Paced` calls

    def process_event(self, event: Event) -> None:
        """Take in a request or a frame."""
        if self.request is None:
            super().process_event(event)
        elif self._phase is Phase.PARTING:
            self.changed()
        elif self._refusal is not None:
            return
        elif event.opcode in DATA_OPCODES:  # type: ignore[union-attr]  # a frame
            try:
                self._inbox.put(event)  # type: ignore[arg-type]
            except RefusedError as error:
                self._refusal = error
            self.changed()
        elif event.opcode is Opcode.PING:  # type: ignore[union-attr]
            early = self.rate.spend(1, self.loop.time())
            if early and self.held is None:
                if self._resting is not None:
                    self._resting.cancel()
                self._resting = self.loop.call_later(early, self._rested)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the socket back."""
        self._rested()
        super().connection_lost(exc)

    def is_full(self) -> bool:
        """Whether nothing more can be used now."""
        if self._phase is Phase.PARTING:
            return self.choked
        return self.choked or self._resting is not None or self._inbox.is_full

    def changed(self) -> None:
        """Tell the handler that there may be news for it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _news(self, seconds: float | None = None) -> None:
        """Wait for `changed`, and not for longer than that."""
        self._waiter = self.loop.create_future()
        end = None if seconds is None else self.loop.call_later(seconds, self.changed)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if end is not None:
                end.cancel()

    def _check_open(self) -> None:
        if self.state is not OPEN:
            raise self._closed()

    def _closed(self) -> ConnectionClosed:
        protocol = self.protocol
        return ConnectionClosedError(
            protocol.close_rcvd, protocol.close_sent, protocol.close_rcvd_then_sent
        )

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self.loop.time()

    def _rested(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
            self.read_on()

    def _has_hung_up(self) -> bool:
        """Whether the client has closed its socket, though nothing is read from it."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), GONE)
        return bool(poll.poll(0))
