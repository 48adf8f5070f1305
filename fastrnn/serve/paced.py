"""`Paced`: a WebSocket whose bytes are parsed in turns, and read only while they can be used."""

from __future__ import annotations

import contextlib
from typing import Any

from websockets.protocol import OPEN

from fastrnn.serve.crowd import PART_BYTES
from fastrnn.serve.secured import Secured

# Who sends little is parsed at once; who has used up its share waits for its turn in the crowd.
SHARE, CREDIT_SECONDS = 0.02, 0.001  # of the event loop's time, and what may be saved of it


class Paced(Secured):
    """What asyncio and the crowd see of a connection."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.heard = self.loop.time()  # when bytes came, or when somebody began to listen
        self.choked = False  # the client does not take what it was sent
        self.held: bytearray | None = None  # what is kept for later; None: nothing is
        self.unparsed = bytearray()  # nothing is read while there is some
        self._in_backlog = False
        self._credit = CREDIT_SECONDS

    def is_full(self) -> bool:
        """Whether nothing more can be used now."""
        return self.choked

    def changed(self) -> None:
        """Tell the handler that there may be news for it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the socket back."""
        self.unparsed.clear()
        super().connection_lost(exc)
        self.changed()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the protocol: now, or in this connection's turn, or when not held."""
        if self.early is not None:
            self.early += data
            return
        now = self.loop.time()
        self._credit = min(CREDIT_SECONDS, self._credit + SHARE * (now - self.heard))
        self.heard = now
        if self.held is not None:
            self.held += data
            self.transport.pause_reading()
        elif self.unparsed or len(data) > PART_BYTES or self._credit <= 0 or self.is_full():
            self.unparsed += data
            self.transport.pause_reading()
            self.read_on()
        else:
            self._parse(data)
            self._credit -= self.loop.time() - now
            if self.is_full():
                self.transport.pause_reading()

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
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                else:
                    self.transport.close()

    def pause_writing(self) -> None:
        """Read nothing while the client does not take what it was sent: not even pings."""
        super().pause_writing()
        self.choked = True
        self.transport.pause_reading()
        self.changed()

    def resume_writing(self) -> None:
        """Read on, unless something else is against it."""
        super().resume_writing()
        self.choked = False
        self.read_on()

    def parse_part(self) -> bool:
        """Parse PART_BYTES of what was read, and return whether there is more to parse now."""
        self._in_backlog = False
        if self.unparsed and not self.is_full():
            part = bytes(self.unparsed[:PART_BYTES])
            del self.unparsed[:PART_BYTES]
            self._parse(part)
        if self.unparsed and not self.is_full():
            self._in_backlog = True
            return True
        self.read_on()
        self.changed()
        return False

    def read_on(self) -> None:
        """Parse what was read, else read, unless something is against it."""
        if self.is_full() or self.transport.is_closing():
            return
        if self.unparsed:
            if not self._in_backlog:
                self._in_backlog = True
                self.crowd.parse_soon(self)
        elif self.held is None and not self.transport.is_reading():
            self.heard = self.loop.time()
            self.transport.resume_reading()

    def hold_back(self) -> None:
        """Keep what still comes for later, in bounded memory."""
        self.held = bytearray()
        self.transport.pause_reading()

    def let_go(self) -> None:
        """Parse what was held back, and read on."""
        held, self.held = self.held, None
        if held and not self.transport.is_closing():
            self.unparsed += held
        self.read_on()

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.state is not OPEN:
            self.changed()
