"""`listen`: websockets' server as this one wants it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from fastrnn.serve.listen import BACKLOG, Place
from fastrnn.serve.tokens import SUBPROTOCOL

HANDSHAKE_SECONDS, CLOSE_SECONDS = 10.0, 5.0


async def listen(
    place: Place,
    certificate: ssl.SSLContext | None,
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
    silent = logging.Logger("fastrnn.serve.websockets", logging.CRITICAL + 1)
    silent.addHandler(logging.NullHandler())  # it would quote what strangers send
    if place.socket is not None:
        where: dict[str, Any] = {"sock": place.socket, "backlog": BACKLOG}
    else:
        where = {"host": place.host, "port": place.port}
        if place.shared:
            where |= {"reuse_port": True, "backlog": BACKLOG}
    return await serve(
        converse,
        **where,
        **options,
        ssl=certificate,
        # A page sends its token as one subprotocol, and is answered another.
        select_subprotocol=_choose,
        create_connection=make,  # type: ignore[arg-type]  # a partial of it is as good
        compression=None,
        server_header=None,
        open_timeout=HANDSHAKE_SECONDS,
        ping_interval=None,  # the connection knows better when to ping
        close_timeout=CLOSE_SECONDS,
        max_queue=None,  # it has an inbox instead
        logger=silent,
    )


def _choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
