"""`Server`: a `Batcher` behind WebSockets, as `fastrnn serve` runs it. What is said: `protocol.py`.

A connection handles one message at a time: read, step, answer. While it steps, or its client does
not take the answer, nothing more is read, the socket fills and the client is slowed: each
connection's memory is bounded by a few messages.
"""

from __future__ import annotations

import asyncio
import http
import logging
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from fastrnn.errors import PoolFullError, StateError
from fastrnn.serve import protocol
from fastrnn.serve.batcher import Batcher
from fastrnn.serve.connection import Connection, Crowd
from fastrnn.serve.metrics import Metrics
from fastrnn.serve.protocol import RefusedError
from fastrnn.serve.session import Session

WIRE = np.dtype("<f4")
QUEUED_MESSAGES = 4  # of one connection, received and not yet read by its handler
SPARE_SOCKETS = 32  # for /health, /metrics and refusals, beside those that hold streams
HANDSHAKE_SECONDS, CLOSE_SECONDS, SWEEP_SECONDS = 10.0, 5.0, 0.5


@dataclass(frozen=True)
class Limits:
    """What one server bears, and what one client may do."""

    max_streams: int = 1000
    max_batch: int = 256
    max_wait_ms: float = 0.0
    max_message: int = 256 * 1024  # bytes, of an answer too
    max_rate: float = 0.0  # frames a second of one connection, beyond a second's burst; 0: any
    idle_seconds: float = 300.0  # without a message, or with an answer that is not taken
    drain_seconds: float = 10.0


class Server:
    """Serves one layer to many WebSockets. Made and used in a running event loop.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Unidirectional, float32, with weights.
    limits : Limits
    origins : sequence of str
        Origins of the web pages that may connect. Clients that are no browsers send none, and may.
    initial_state : optional
        Where streams begin and what a reset goes back to, as `layer.pool` takes it.

    Raises
    ------
    ValueError
        If the layer or initial_state does not fit, or max_message does not hold a frame and a
        saved state.
    """

    def __init__(
        self, layer: Any, limits: Limits, origins: Sequence[str] = (), *, initial_state: Any = None
    ) -> None:
        if layer.dtype != np.float32:
            raise ValueError(f"server: the layer is {layer.dtype.name}, expected float32")
        self.batcher = Batcher(
            layer, limits.max_streams, limits.max_batch, limits.max_wait_ms, max_pending=1,
            initial_state=initial_state,
        )  # fmt: skip
        self.limits = limits
        self._frame_bytes = self.batcher.input_size * WIRE.itemsize
        self._answer_bytes = self.batcher.output_size * WIRE.itemsize
        self._check_max_message()
        self._hello = protocol.hello(
            layer,
            layer.fingerprint,
            {
                "max_message_bytes": limits.max_message,
                "max_frames_per_second": limits.max_rate or None,
                "idle_seconds": limits.idle_seconds,
            },
        )
        self._origins = [None, *origins]
        self._crowd = Crowd(limits.max_streams + SPARE_SOCKETS)
        self._connections: set[Connection] = set()
        self._draining = asyncio.Event()
        self._websockets: WebSocketServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.accepted = 0
        self.refused = 0  # handshakes, for want of a stream
        self.messages = 0
        self.closes: Counter[int] = Counter()  # by code; 1006: vanished
        self._metrics = Metrics(self)
        self._logger = logging.getLogger("fastrnn.serve")

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen on `host` and `port` (0: any that is free), and return the address bound to.

        Raises
        ------
        OSError
            If the address cannot be had.
        """
        silent = logging.Logger("fastrnn.serve.websockets", logging.CRITICAL + 1)
        silent.addHandler(logging.NullHandler())  # it would quote what strangers send
        self._websockets = await serve(
            self._converse,
            host,
            port,
            origins=self._origins,  # type: ignore[arg-type]  # Origin is a NewType of str
            compression=None,
            process_request=self._answer_http,
            server_header=None,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=self.limits.max_message,
            max_queue=QUEUED_MESSAGES,
            logger=silent,
            create_connection=partial(Connection, crowd=self._crowd),  # type: ignore[arg-type]
        )
        self._sweeper = asyncio.create_task(self._sweep())
        address = self._websockets.sockets[0].getsockname()
        return address[0], address[1]

    async def drain(self) -> None:
        """Answer what was received, close every connection with GOING_AWAY, and stop.

        What is not done within drain_seconds is cut off.
        """
        self._draining.set()
        if self._websockets is not None:
            self._websockets.close(close_connections=False)
            for connection in [*self._connections]:
                connection.hold()
            try:
                await asyncio.wait_for(self._websockets.wait_closed(), self.limits.drain_seconds)
            except asyncio.TimeoutError:
                for connection in [*self._connections]:
                    connection.transport.abort()
                await self._websockets.wait_closed()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.batcher.drain()

    def _check_max_message(self) -> None:
        stream = self.batcher.pool.open()
        state = len(protocol.answer("load", self.batcher.pool.save(stream)))
        self.batcher.pool.close(stream)
        least = max(self._frame_bytes, self._answer_bytes, state)
        if self.limits.max_message < least:
            raise ValueError(
                f"server: max_message={self.limits.max_message}, expected at least {least} bytes: "
                f"a frame has {self._frame_bytes}, its answer {self._answer_bytes}, "
                f"a message with a saved state {state}"
            )

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request that does not open a stream; None for one that does."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if path == "/metrics":
            response = connection.respond(http.HTTPStatus.OK, self._metrics.text())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = self._metrics.content_type
            return response
        if path != protocol.PATH:
            found = f"{protocol.PATH} (WebSocket), /health, /metrics\n"
            return connection.respond(http.HTTPStatus.NOT_FOUND, found)
        if len(self.batcher) >= self.limits.max_streams:
            self.refused += 1
            full = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no stream is free\n")
            full.headers["Retry-After"] = "1"
            return full
        return None

    async def _converse(self, connection: Any) -> None:
        """Serve one connection, from hello to close."""
        self.accepted += 1
        self._connections.add(connection)
        connection.begin()
        if self._draining.is_set():
            connection.hold()
        try:
            async with self.batcher.session() as session:
                await connection.send(self._hello)
                await self._answer_messages(connection, session)
                farewell = protocol.answer("drain", await session.save())
            await connection.send(farewell)
            code, reason = protocol.GOING_AWAY, "the server drains"
        except ConnectionClosed as closed:
            code, reason = _close_code(closed), ""
        except RefusedError as error:
            code, reason = error.code, error.reason
        except PoolFullError:
            code, reason = protocol.TRY_LATER, "no stream is free"
        except Exception:  # of a kernel call, or a bug: this connection's end and no other's
            lines = traceback.format_exc().splitlines()
            self._logger.error("a connection failed\n%s", "\n".join(ascii(x)[1:-1] for x in lines))
            code, reason = protocol.INTERNAL, "internal error"
        self.closes[code] += 1
        try:
            await connection.part(code, reason, CLOSE_SECONDS)
        finally:
            self._connections.discard(connection)

    async def _answer_messages(self, connection: Connection, session: Session) -> None:
        """Answer messages until the client closes, or the server drains and none is left."""
        rate, loop = self.limits.max_rate, self.batcher.loop
        allowed, counted = rate, loop.time()
        while (message := await connection.receive()) is not None:
            self.messages += 1
            if isinstance(message, str):
                await connection.send(await self._obey(session, message))
                continue
            frames, rest = divmod(len(message), self._frame_bytes)
            if rest:
                raise RefusedError(
                    protocol.INVALID,
                    f"{len(message)} bytes are not whole frames of {self._frame_bytes} bytes",
                )
            if frames * self._answer_bytes > self.limits.max_message:
                raise RefusedError(
                    protocol.TOO_BIG,
                    f"the answer to {frames} frames has more than {self.limits.max_message} bytes",
                )
            if rate:
                now = loop.time()
                allowed = min(rate, allowed + (now - counted) * rate) - frames
                counted = now
                if allowed < 0:
                    await self._pause(connection, -allowed / rate)
            x = np.frombuffer(message, WIRE).reshape(frames, self.batcher.input_size)
            y = await session.run_owned(x.astype(np.float32, copy=False))
            await connection.send(y.astype(WIRE, copy=False).tobytes())

    async def _obey(self, session: Session, text: str) -> str:
        """Do what a command says, and return the answer."""
        op, state = protocol.parse_command(text)
        if op == "save":
            return protocol.answer(op, await session.save())
        if op == "reset":
            await session.reset()
        else:
            try:
                await session.load(state)
            except StateError as error:
                raise RefusedError(protocol.BAD_STATE, str(error)) from None
        return protocol.answer(op)

    async def _pause(self, connection: Connection, seconds: float) -> None:
        """Slow a client that is too fast; not while draining, and only while it is there."""
        ends = [asyncio.ensure_future(x) for x in (self._draining.wait(), connection.wait_closed())]
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if connection.state is State.CLOSED:
            raise connection.protocol.close_exc

    async def _sweep(self) -> None:
        """End connections whose clients have fallen silent."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self.batcher.loop.time()
            for connection in [*self._connections]:
                connection.expire(now, self.limits.idle_seconds)


def _close_code(closed: ConnectionClosed) -> int:
    """Return the code of whoever closed first; ABNORMAL if the client vanished.

    A client's own codes, 3000 and up, are OWN: strangers do not choose what a metric counts apart.
    """
    if closed.rcvd is not None and (closed.sent is None or closed.rcvd_then_sent):
        return min(closed.rcvd.code, protocol.OWN)
    return protocol.ABNORMAL if closed.sent is None else closed.sent.code
