"""`Crowd`: all open sockets of a server, and how they share the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

# What is parsed in one turn of the event loop, of all connections together. Frames of no bytes cost
# 4 us each: a part of PART_BYTES of them takes 0.7 ms.
TURN_SECONDS = 0.002
PART_BYTES = 1024


class Member(Protocol):
    """What the crowd asks of a connection."""

    def abort(self) -> None:
        """Cut off."""


class Parser(Member, Protocol):
    """What the crowd asks of one that has read something."""

    def parse_part(self) -> bool:
        """Parse PART_BYTES of what was read, and return whether there is more to parse now."""


class Crowd:
    """Sockets, those before their handshake too. There are never more than `most`.

    A newcomer that finds it full takes the place of the oldest that holds no stream: one that has
    not asked for anything yet, or that does not go. So nobody is kept out by those who only wait.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.dropped = 0
        self._all: set[Member] = set()
        self._loose: dict[Member, None] = {}  # without a stream, the oldest first
        self._backlog: deque[Parser] = deque()
        self._turn: asyncio.Handle | None = None
        self._closed = False

    def enter(self, member: Member) -> None:
        """Take in a new socket, perhaps in another's place, or drop it."""
        self._all.add(member)
        self._loose[member] = None
        if self._closed:
            self._drop(member)
        elif len(self._all) > self.most:
            self._drop(next(iter(self._loose)))

    def settle(self, member: Member) -> None:
        """Say that it holds a stream."""
        self._loose.pop(member, None)

    def loosen(self, member: Member) -> None:
        """Say that it holds a stream no longer."""
        if member in self._all:
            self._loose[member] = None

    def leave(self, member: Member) -> None:
        """Say that its socket is closed."""
        self._all.discard(member)
        self._loose.pop(member, None)

    def close(self) -> None:
        """Let nobody in any more, and cut off those that hold no stream."""
        self._closed = True
        for member in [*self._loose]:
            self._drop(member)

    def cut(self) -> None:
        """Cut off everybody."""
        for member in [*self._all]:
            member.abort()

    def parse_soon(self, member: Parser) -> None:
        """Have it parse what it read, in its turn."""
        self._backlog.append(member)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + TURN_SECONDS
        while self._backlog:
            member = self._backlog.popleft()
            if member.parse_part():
                self._backlog.append(member)
            if loop.time() >= end:
                break
        self._turn = loop.call_soon(self._take_turn) if self._backlog else None

    def _drop(self, member: Member) -> None:
        self.dropped += 1
        self.leave(member)
        member.abort()
