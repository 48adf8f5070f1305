"""`listen`: websockets' server as this one wants it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.server import Server, serve
from websockets.typing import Subprotocol

from fastrnn.serve.limits import TAKEN_AT_ONCE
from fastrnn.serve.listen import BACKLOG, Place, named
from fastrnn.serve.secured import CLOSE_SECONDS, HANDSHAKE_SECONDS
from fastrnn.serve.tokens import SUBPROTOCOL


async def listen(
    place: Place,
    converse: Callable[..., Any],
    make: Callable[..., Any],
    **options: Any,
) -> Server:
    """Listen at `place`; `make` a connection of what comes, and `converse` on it.

    Raises
    ------
    OSError
        If the address cannot be had.
    """

    def made(protocol: Any, *args: Any, **more: Any) -> Any:
        # Not by serve(select_subprotocol=): it would keep each connection until a garbage
        # collection, with TLS's buffers of 256 KB.
        protocol.select_subprotocol = _choose
        return make(protocol, *args, **more)

    silent = logging.Logger("fastrnn.serve.websockets", logging.CRITICAL + 1)
    silent.addHandler(logging.NullHandler())  # it would quote what strangers send
    if place.socket is not None:
        where: dict[str, Any] = {"sock": place.socket}
    else:
        where = {"host": place.host, "port": place.port}
        if place.shared:
            where["reuse_port"] = True
    started = serve(
        converse,
        **where,
        backlog=TAKEN_AT_ONCE,  # which asyncio has it mean, too
        **options,
        create_connection=made,  # type: ignore[arg-type]  # what makes one is as good
        compression=None,
        server_header=None,
        open_timeout=HANDSHAKE_SECONDS,
        ping_interval=None,  # the connection knows better when to ping
        close_timeout=CLOSE_SECONDS,
        max_queue=None,  # it has an inbox instead
        logger=silent,
    )
    try:
        server = await started
    except socket.gaierror as error:
        raise named(error, place.host) from None
    for listener in server.sockets:
        with socket.fromfd(listener.fileno(), listener.family, listener.type) as same:
            same.listen(BACKLOG)
    return server


def _choose(offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Choose what a page offers beside its token, which is one more."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
