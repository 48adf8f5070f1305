"""`Inbox`: what a connection has received and its handler has not taken yet."""

from __future__ import annotations

from collections import deque

from websockets.frames import Frame, Opcode

from fastrnn.serve.protocol import INVALID, TOO_BIG, RefusedError

MESSAGE_COST = 256  # bytes of memory of the smallest message, beside its own
MOST_FRAGMENTS = 1024  # of a message: each costs as much as a small message


class Inbox:
    """Messages, put together from frames that keep to the protocol. Bounded by bytes, not number.

    Full is a matter of whole messages: those who put are to wait then, until some are taken. What
    was begun beside them is bounded by the protocol's own limit, and by the number of fragments.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._messages: deque[tuple[str | bytes, int]] = deque()  # and what each costs
        self._bytes = 0
        self._fragments: list[bytes] = []
        self._is_text = False

    def __len__(self) -> int:
        """How many whole messages there are."""
        return len(self._messages)

    @property
    def is_full(self) -> bool:
        """Whether there is more than enough for the handler to take."""
        return self._bytes >= self._most_bytes

    def put(self, frame: Frame) -> None:
        """Take in a data frame.

        Raises
        ------
        RefusedError
            For text that is no UTF-8, and a message of too many fragments.
        """
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if not frame.fin or self._fragments:
            if len(self._fragments) == MOST_FRAGMENTS:
                raise RefusedError(TOO_BIG, f"a message of more than {MOST_FRAGMENTS} fragments")
            self._fragments.append(bytes(frame.data))
            if not frame.fin:
                return
        data = b"".join(self._fragments) if self._fragments else bytes(frame.data)
        self._fragments.clear()
        message: str | bytes = data
        if self._is_text:
            try:
                message = data.decode()
            except UnicodeDecodeError:
                raise RefusedError(INVALID, "text that is no UTF-8") from None
        cost = len(data) + MESSAGE_COST
        self._messages.append((message, cost))
        self._bytes += cost

    def take(self) -> str | bytes:
        """Remove and return the first message; there is one."""
        message, cost = self._messages.popleft()
        self._bytes -= cost
        return message
