"""`Secured`: a WebSocket whose socket the crowd knows of from the first, before its TLS handshake.

asyncio's own servers tell of a connection once TLS is agreed upon: sockets on which nothing is said
would be nobody's, and any number of them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection

from fastrnn.serve.certificate import Certificate
from fastrnn.serve.crowd import Crowd

HANDSHAKE_SECONDS, CLOSE_SECONDS = 10.0, 5.0


class Secured(ServerConnection):
    """A WebSocket over TLS where there is a certificate, else a plain one."""

    def __init__(
        self, *args: Any, crowd: Crowd, certificate: Certificate | None = None, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.crowd = crowd
        self._certificate = certificate
        # What comes before `_secure` hears that TLS is agreed upon; None: it has, or there is none.
        self.early = None if certificate is None else bytearray()
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket, if the crowd does."""
        if self.early is None:
            super().connection_made(transport)
            self.crowd.enter(self)
            return
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # what is TLS's
        self.transport = transport
        self.crowd.enter(self)
        if not transport.is_closing():
            self._handshake = self.loop.create_task(self._secure(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the socket back."""
        self.crowd.leave(self)
        if self.early is None:
            super().connection_lost(exc)

    def eof_received(self) -> None:
        """Take the end of what comes; the socket is closed."""
        if self.early is None:
            super().eof_received()

    def abort(self) -> None:
        """Cut off."""
        self.transport.abort()

    async def _secure(self, transport: asyncio.Transport) -> None:
        assert self._certificate is not None
        seconds: dict[str, Any] = {"ssl_handshake_timeout": HANDSHAKE_SECONDS}
        if sys.version_info >= (3, 11):
            seconds["ssl_shutdown_timeout"] = CLOSE_SECONDS
        try:
            secured = await self.loop.start_tls(
                transport, self, self._certificate.context, server_side=True, **seconds
            )
        except OSError:  # no TLS, or too late, or gone
            secured = None
        if secured is None or transport.is_closing():
            transport.abort()
            self.crowd.leave(self)
            return
        early, self.early = self.early, None
        super().connection_made(secured)
        if early:
            self.data_received(bytes(early))
