"""Where a server is asked: addresses that processes can share, and sockets in the file system."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass

# With this on Linux the system spreads connections over the processes that listen; elsewhere it may
# give them all to one, and one socket is inherited instead.
SPREADS = sys.platform.startswith("linux") and hasattr(socket, "SO_REUSEPORT")

BACKLOG = 1024  # connections that wait to be taken: as many as come when a server has ended


@dataclass(frozen=True)
class Place:
    """Where to listen: `host` and `port` (0: any that is free), or a socket that listens already.

    `shared`: other processes listen there as well.
    """

    host: str = "127.0.0.1"
    port: int = 0
    shared: bool = False
    socket: socket.socket | None = None


@contextlib.contextmanager
def for_processes(host: str, port: int) -> Iterator[Place]:
    """Hold an address, and yield the place where any number of processes may listen.

    Raises
    ------
    OSError
        If somebody listens there, or it cannot be had.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = _hold(host, port, stack)
        except OSError as error:
            raise named(error, f"{host}:{port}") from None
        yield place


def _hold(host: str, port: int, stack: contextlib.ExitStack) -> Place:
    if not SPREADS:
        listener = stack.enter_context(socket.create_server((host, port), backlog=BACKLOG))
        name, number = listener.getsockname()[:2]
        return Place(name, number, socket=listener)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in dict.fromkeys(found):
        address = (address[0], port, *address[2:])
        with socket.socket(family, kind, protocol) as alone:  # nobody else is there
            _bind(alone, address, socket.SO_REUSEADDR)
            alone.listen(1)
        held = stack.enter_context(socket.socket(family, kind, protocol))
        _bind(held, address, socket.SO_REUSEPORT)  # never listens, and so is sent nobody
        port = held.getsockname()[1]
    return Place(host, port, shared=True)


def named(error: OSError, where: str) -> OSError:
    """Return an error of a socket, whose message says nothing of where, with that."""
    return OSError(error.errno or 0, error.strerror or str(error), where)


@contextlib.contextmanager
def in_file_system(path: str) -> Iterator[Place]:
    """Listen on a Unix socket, and remove it in the end. One that nobody listens on is replaced.

    Raises
    ------
    OSError
        If somebody listens there, or something else is there, or it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                raise OSError(errno.EEXIST, "there is a file, which is no socket", path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                other.setblocking(False)  # it may be one that takes nobody any more
                found = other.connect_ex(path)
            if found == errno.ECONNREFUSED:
                os.unlink(path)
            elif found in (0, errno.EAGAIN):
                raise OSError(errno.EADDRINUSE, "somebody listens there", path)
            else:
                raise OSError(found, os.strerror(found), path)
        try:
            listener.bind(path)
        except OSError as error:
            raise named(error, path) from None
        listener.listen(BACKLOG)
        made = os.stat(path)
        try:
            yield Place(path, socket=listener)
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path), made):
                    os.unlink(path)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def _bind(listener: socket.socket, address: tuple[object, ...], option: int) -> None:
    listener.setsockopt(socket.SOL_SOCKET, option, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(address)
