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
import binascii
import json
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


class RefusedError(Exception):
    """What a client sent that ends its connection: a close code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:REASON_CHARS]


def hello(layer: Any, fingerprint: str, limits: dict[str, float | None]) -> str:
    """Return the server's first message, for `layer` and `limits`."""
    return json.dumps(
        {
            "op": "hello",
            "protocol": VERSION,
            "server": f"fastrnn {__version__}",
            "cell": type(layer).__name__,
            "num_layers": layer.num_layers,
            "hidden_size": layer.hidden_size,
            "input_size": layer.input_size,
            "output_size": layer.proj_size or layer.hidden_size,
            "dtype": "float32",
            "byte_order": "little",
            "fingerprint": fingerprint,
            "limits": limits,
        }
    )


def parse_command(text: str) -> tuple[str, bytes]:
    """Return the op of a client's text message, and the state that a load carries, unchecked.

    Raises
    ------
    RefusedError
        With UNSUPPORTED if it is no command, with BAD_STATE if the state is not base64.
    """
    try:
        command = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError(UNSUPPORTED, "text is for commands in JSON, frames are binary") from None
    op = command.get("op") if isinstance(command, dict) else None
    if op not in OPS:
        raise RefusedError(UNSUPPORTED, f'expected {{"op": ...}} with one of: {", ".join(OPS)}')
    if op != "load":
        return op, b""
    state = command.get("state")
    try:
        if not isinstance(state, str):
            raise TypeError
        return op, base64.b64decode(state, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RefusedError(BAD_STATE, "load: state is not base64 text") from None


def answer(op: str, state: bytes | None = None) -> str:
    """Return the server's text message for `op`."""
    message = {"op": op}
    if state is not None:
        message["state"] = base64.b64encode(state).decode()
    return json.dumps(message)
