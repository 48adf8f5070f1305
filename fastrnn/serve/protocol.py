"""What a client and the server say to each other over one WebSocket: one connection, one stream.

The server's first message is the hello, a JSON object in a text message. Then, in any order:

    client                                    server
    binary: k frames (k, I)                   binary: (k, P), in the same order
    text: {"op": "save"}                      text: {"op": "save", "state": BASE64}
    text: {"op": "load", "state": BASE64}     text: {"op": "load"}
    text: {"op": "reset"}                     text: {"op": "reset"}

Numbers are little-endian float32 in C order. Each message gets its answer, in order; several may be
under way. When the server drains, it answers what it has received, sends {"op": "drain", "state":
BASE64}, the state after the last answered frame, and closes with GOING_AWAY.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from fastrnn.version import __version__

PATH = "/stream"
VERSION = 1

# Close codes of RFC 6455 and its registry, then one of ours.
GOING_AWAY = 1001  # the server drains
UNSUPPORTED = 1003  # a text message that is no command
ABNORMAL = 1006  # the client vanished: never sent
INVALID = 1007  # a binary message that is not whole frames
POLICY = 1008  # idle for too long
TOO_BIG = 1009
INTERNAL = 1011
TRY_LATER = 1013  # every stream is in use
OWN = 3000  # a client's, of those that RFC 6455 leaves to libraries and applications: never sent
BAD_STATE = 4000  # a saved state that is damaged or of another model

REASON_CHARS = 120  # of ASCII; a close frame holds 123 bytes

OPS = ("save", "load", "reset")
SPARE = 1024  # characters of a command beside the state of a load
STATE = re.compile(r'"state"\s{0,99}:\s{0,99}"')  # up to where a state begins


class RefusedError(Exception):
    """What a client sent that ends its connection: a close code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:REASON_CHARS]


def hello(
    about: Mapping[str, str | int],
    input_size: int,
    output_size: int,
    fingerprint: str,
    limits: Mapping[str, float | None],
) -> str:
    """Return the server's first message: what it serves, numbers of a frame and its answer."""
    return json.dumps(
        {
            "op": "hello",
            "protocol": VERSION,
            "server": f"fastrnn {__version__}",
            **about,
            "input_size": input_size,
            "output_size": output_size,
            "dtype": "float32",
            "byte_order": "little",
            "fingerprint": fingerprint,
            "limits": dict(limits),
        }
    )


def parse_command(text: str, most: int) -> tuple[str, bytes]:
    """Return the op of a client's text message, and the state that a load carries, unchecked.

    Takes little time whatever the text is: what is read as JSON is at most SPARE long, beside the
    state, which is only searched for its end.

    Parameters
    ----------
    text : str
    most : int
        Characters of a saved state of the model.

    Raises
    ------
    RefusedError
        With UNSUPPORTED if it is no command, with BAD_STATE if the state is not base64, or too long
        to be one.
    """
    state = ""
    if found := STATE.search(text):
        end = text.find('"', found.end())
        state = text[found.end() : end]
        text = text[: found.end()] + text[end:]
    try:
        if len(text) > SPARE:
            raise ValueError
        command = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise RefusedError(UNSUPPORTED, "text is for commands in JSON, frames are binary") from None
    op = command.get("op") if isinstance(command, dict) else None
    if op not in OPS:
        raise RefusedError(UNSUPPORTED, f'expected {{"op": ...}} with one of: {", ".join(OPS)}')
    if op != "load":
        return op, b""
    if len(state) > 2 * most:  # JSON may have a backslash before each slash
        raise RefusedError(BAD_STATE, f"load: a state of {len(state)} characters, expected {most}")
    try:
        if command.get("state") != "":  # it was taken out above
            raise ValueError
        return op, base64.b64decode(state.replace("\\/", "/"), validate=True)
    except ValueError:  # that of binascii, and of characters beyond ASCII
        raise RefusedError(BAD_STATE, "load: state is not base64 text") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Of a name that is there twice nobody knows which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def state_chars(state_bytes: int) -> int:
    """Return how many characters a saved state has in a command."""
    return 4 * -(-state_bytes // 3)


def answer(op: str, state: bytes | None = None) -> str:
    """Return the server's text message for `op`."""
    message = {"op": op}
    if state is not None:
        message["state"] = base64.b64encode(state).decode()
    return json.dumps(message)
