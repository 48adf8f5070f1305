"""`Server`: a `Batcher` behind WebSockets, as `fastrnn serve` runs it. What is said: `protocol.py`.

A connection handles one message at a time: step, answer. What comes meanwhile is read up to the
size of one message more; then, or if its client does not take the answer, nothing more is, the
socket fills and the client is slowed: each connection's memory is bounded by a few messages.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from websockets.asyncio.server import Server as WebSocketServer
from websockets.exceptions import ConnectionClosed

from fastrnn.errors import PoolFullError, StateError
from fastrnn.serve import protocol
from fastrnn.serve.batcher import Batcher
from fastrnn.serve.board import Board
from fastrnn.serve.certificate import Certificate
from fastrnn.serve.connection import Connection
from fastrnn.serve.crowd import Crowd
from fastrnn.serve.door import Door
from fastrnn.serve.figures import Counts
from fastrnn.serve.hosts import check_origin
from fastrnn.serve.limits import SPARE_SOCKETS, Limits
from fastrnn.serve.listen import Place
from fastrnn.serve.listener import listen
from fastrnn.serve.metrics import Metrics
from fastrnn.serve.page import Page
from fastrnn.serve.protocol import RefusedError
from fastrnn.serve.reports import Reports
from fastrnn.serve.secured import CLOSE_SECONDS
from fastrnn.serve.served import Served
from fastrnn.serve.session import Session
from fastrnn.serve.tokens import Tokens

WIRE = np.dtype("<f4")

SWEEP_SECONDS = 0.5
LINGER_SECONDS = 0.2  # of a drain: for clients with as much between two frames


class Server:
    """Serves one layer to many WebSockets. Made anywhere, and used in one event loop.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Unidirectional, float32, with weights; or whatever else has pools (`fastrnn.serve.served`).
    limits : Limits
    origins : sequence of str
        Origins of the web pages that may connect. Clients that are no browsers send none, and may.
    hosts : sequence of str
        Names under which /metrics may be asked for, beside addresses and localhost.
    about : mapping
        What the hello says of the layer beside its sizes.
    initial_state : optional
        Where streams begin and what a reset goes back to, as `layer.pool` takes it.
    tokens : Tokens, optional
        Who may connect, and ask for /metrics where streams are served; None: anybody.
    board : Board, optional
        Where servers in other processes tell their figures, of which /metrics is the sum.
    page : Page, optional
        A page to try the model with, answered to "/".

    Raises
    ------
    ValueError
        If the layer or initial_state does not fit, max_message does not hold a frame and a saved
        state, or an origin is one that no page has.
    """

    def __init__(
        self,
        layer: Served,
        limits: Limits,
        origins: Sequence[str] = (),
        hosts: Sequence[str] = (),
        about: Mapping[str, str | int] | None = None,
        *,
        initial_state: Any = None,
        tokens: Tokens | None = None,
        board: Board | None = None,
        page: Page | None = None,
    ) -> None:
        for origin in origins:
            check_origin(origin)
        self.batcher = Batcher(
            layer,
            limits.max_streams,
            limits.max_batch,
            limits.max_wait_ms,
            initial_state=initial_state,
        )
        if self.batcher.dtype != np.float32:
            raise ValueError(f"server: the layer is {self.batcher.dtype.name}, expected float32")
        self.limits = limits
        input_size = math.prod(self.batcher.input_shape)
        output_size = math.prod(self.batcher.output_shape)
        self._frame_bytes = input_size * WIRE.itemsize
        self._answer_bytes = output_size * WIRE.itemsize
        self._state_chars = protocol.state_chars(self.batcher.state_bytes)
        limits.check_message(
            self._frame_bytes,
            self._answer_bytes,
            len(protocol.answer("load", b"")) + self._state_chars,
        )
        self._hello = protocol.hello(
            about or {},
            input_size,
            output_size,
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
        self._listeners: list[WebSocketServer] = []
        self._sweeper: asyncio.Task[None] | None = None
        self.counts = Counts()
        self._logger = logging.getLogger("fastrnn.serve")
        self._reports = Reports(self._logger, time.monotonic)
        self._metrics = Metrics(self.batcher, self.counts, board)
        self._door = Door(self._metrics, self._reports, limits.max_streams, hosts, tokens, page)

    async def start(
        self,
        host: str,
        port: int,
        *,
        place: Place | None = None,
        certificate: Certificate | None = None,
        told: Place | None = None,
    ) -> tuple[str, int]:
        """Listen on `host` and `port` (0: any that is free), and return the address bound to.

        Parameters
        ----------
        host : str
        port : int
        place : Place, optional
            Where to listen instead: a socket, or an address that processes share.
        certificate : Certificate, optional
            What is shown for TLS; None: without TLS.
        told : Place, optional
            Where to answer /metrics and /health, without TLS and tokens, instead of /metrics with
            the streams.

        Raises
        ------
        OSError
            If an address cannot be had.
        """
        if told is not None:
            self._door.tells = False
            await self._listen(told, None, self._door.tell)
        found = await self._listen(place or Place(host, port), certificate, self._door.answer)
        self._sweeper = asyncio.create_task(self._sweep())
        return found

    async def _listen(
        self, place: Place, certificate: Certificate | None, answer: Callable[..., Any]
    ) -> tuple[str, int]:
        make = partial(
            Connection,
            crowd=self._crowd,
            most_bytes=self.limits.max_message,
            rate=self.limits.max_rate,
            certificate=certificate,
        )
        listener = await listen(
            place,
            self._converse,
            make,
            origins=self._origins,
            process_request=answer,
            process_response=self._door.report,
            max_size=self.limits.max_message,
        )
        self._listeners.append(listener)
        address = listener.sockets[0].getsockname()
        return (address, 0) if isinstance(address, str) else (address[0], address[1])

    async def drain(self) -> None:
        """Answer what was received, close every connection with GOING_AWAY, and stop.

        What is not done within drain_seconds is cut off.
        """
        self._draining.set()
        if self._listeners:
            for listener in self._listeners:
                listener.close(close_connections=False)
            self._crowd.close()
            for connection in [*self._connections]:
                connection.hold()
            cut = asyncio.get_running_loop().call_later(self.limits.drain_seconds, self._crowd.cut)
            await asyncio.gather(*(listener.wait_closed() for listener in self._listeners))
            cut.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.batcher.drain()
        self._metrics.publish()
        self._reports.flush(whole=True)

    async def _converse(self, connection: Any) -> None:
        """Serve one connection, from hello to close."""
        self.counts.accepted += 1
        begin = time.monotonic()
        self._connections.add(connection)
        self._crowd.settle(connection)
        if self._draining.is_set():
            connection.hold()
        linger = 0.0
        try:
            async with self.batcher.session() as session:
                await connection.answer(self._hello)
                await self._answer_messages(connection, session)
                farewell = protocol.answer("drain", await session.save())
            await connection.answer(farewell)
            code, reason, linger = protocol.GOING_AWAY, "the server drains", LINGER_SECONDS
        except ConnectionClosed:
            code, reason = connection.first_code, ""
        except RefusedError as error:
            code, reason = error.code, error.reason
        except PoolFullError:
            code, reason = protocol.TRY_LATER, "no stream is free"
        except Exception:  # of a kernel call, or a bug: this connection's end and no other's
            lines = traceback.format_exc().splitlines()
            self._logger.error("a connection failed\n%s", "\n".join(ascii(x)[1:-1] for x in lines))
            code, reason = protocol.INTERNAL, "internal error"
        self.counts.closes[code] += 1
        if self._logger.isEnabledFor(logging.DEBUG):
            known = getattr(connection, "username", None)
            seconds = round(time.monotonic() - begin, 3)
            fields = {"code": code, "reason": reason, "seconds": seconds, "client": known}
            self._logger.debug("a connection closed", extra={"fields": fields})
        try:
            await connection.part(code, reason, CLOSE_SECONDS, linger)
        finally:
            self._connections.discard(connection)

    async def _answer_messages(self, connection: Connection, session: Session) -> None:
        """Answer messages until the client closes, or the server drains and none is left."""
        loop = asyncio.get_running_loop()
        while (message := await connection.receive()) is not None:
            self.counts.messages += 1
            is_text = isinstance(message, str)
            frames, rest = (1, 0) if is_text else divmod(len(message), self._frame_bytes)
            if rest:
                raise RefusedError(
                    protocol.INVALID,
                    f"{len(message)} bytes are not whole frames of {self._frame_bytes} bytes",
                )
            if not is_text and frames * self._answer_bytes > self.limits.max_message:
                raise RefusedError(
                    protocol.TOO_BIG,
                    f"the answer to {frames} frames has more than {self.limits.max_message} bytes",
                )
            early = connection.rate.spend(max(frames, 1), loop.time())
            if early:
                await connection.pause(early)
            if isinstance(message, str):
                await connection.answer(await self._obey(session, message))
            else:
                x = np.frombuffer(message, WIRE).reshape(frames, *self.batcher.input_shape)
                y = await session._run_owned(x.astype(np.float32, copy=False))
                await connection.answer(y.astype(WIRE, copy=False).tobytes())

    async def _obey(self, session: Session, text: str) -> str:
        """Do what a command says, and return the answer."""
        op, state = protocol.parse_command(text, self._state_chars)
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

    async def _sweep(self) -> None:
        """End connections whose clients have fallen silent."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in [*self._connections]:
                connection.watch(now, self.limits.idle_seconds)
            self._reports.flush()
            self._metrics.publish()
