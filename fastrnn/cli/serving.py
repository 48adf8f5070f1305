"""Running a server until it is told to stop: in this process, or in workers."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastrnn.cli.logs import tell
from fastrnn.cli.output import OK, plural, say
from fastrnn.cli.where import Where

if TYPE_CHECKING:
    from fastrnn.serve.fleet import Life
    from fastrnn.serve.server import Server

# Python's default of 5 ms is how long the thread that steps may wait, after each kernel call, for a
# busy event loop to let it hand over the results.
SWITCH_SECONDS = 0.0005


def serve(server: Server, where: Where, about: str) -> int:
    """Serve until SIGTERM or SIGINT, or a SIGHUP that has nothing to read anew.

    Raises
    ------
    OSError
        If an address cannot be had.
    """

    def started(host: str, port: int) -> None:
        say(about)
        say(f"serving {where.url(host, port)}, until SIGTERM")
        if where.page and where.unix is None:
            say(f"a page to try it: {where.page_url(host, port)}")
        if sys.stdout is not None:  # closed before Python started
            sys.stdout.flush()

    if where.workers == 1:
        return asyncio.run(_run(server, where, started, None))
    from fastrnn.serve.fleet import Fleet

    place, board = where.place, where.board
    assert place is not None
    assert board is not None

    def work(number: int, life: Life) -> int:
        board.take(number)
        return asyncio.run(_run(server, where, lambda *_: life.ready(), life))

    fleet = Fleet(
        where.workers, work, where.drain_seconds,
        hang_up=not where.reloads, reload=where.reload, gone=board.leave,
    )  # fmt: skip
    return fleet.run(
        lambda: started(place.host, place.port),
        lambda: tell(f"draining {plural(int(board.total()['streams']), 'stream')}"),
    )


async def _run(
    server: Server, where: Where, started: Callable[[str, int], object], life: Life | None
) -> int:
    """Serve in this process; a worker has a `life`."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if where.reloads:
        loop.add_signal_handler(signal.SIGHUP, lambda: tell(where.reload()))
        if life is not None:
            life.hear_hang_up()
    elif signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as of nohup
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    if life is not None:
        end = life.end

        def alone() -> None:
            loop.remove_reader(end)
            stop.set()

        loop.add_reader(end, alone)
    try:
        host, port = await server.start(
            where.host,
            where.port,
            place=where.place,
            certificate=where.certificate,
            told=where.told,
        )
        started(host, port)
        sys.setswitchinterval(SWITCH_SECONDS)
        await stop.wait()
        if life is None:
            tell(f"draining {plural(len(server.batcher), 'stream')}")
    finally:
        await server.drain()
    return OK
