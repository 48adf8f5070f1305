"""`Tokens`: who may ask, by secrets of a file. They are neither told nor logged."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

# What a header and the name of a subprotocol can both hold: RFC 9110, 5.6.2, less what quotes.
TOKEN = re.compile(r"[A-Za-z0-9._~+-]+")
LEAST_CHARS = 16  # fewer can be guessed

SUBPROTOCOL = "fastrnn"  # what a browser offers beside its token, and is answered
PREFIX = "bearer."  # of the subprotocol that is a browser's token: pages can set no header


class Tokens:
    """Those of a file with a line NAME TOKEN each; empty lines and those with # first are skipped.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If a line has another form, a token is short, or one is there twice. Quotes no line.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._digests = _read(path)

    def reload(self) -> None:
        """Read the file anew; where that raises, the tokens are as before."""
        self._digests = _read(self._path)

    def name(self, authorization: str | None, subprotocols: str | None) -> str | None:
        """Return whose token a request has, in its header or as a subprotocol; None: nobody's.

        Takes the same time whichever token is right, and for all that are wrong.
        """
        given = _digest(_presented(authorization, subprotocols))
        found = None
        for name, digest in self._digests:
            if hmac.compare_digest(digest, given):
                found = name
        return found


def _presented(authorization: str | None, subprotocols: str | None) -> str:
    """The token that a request has; "" if none, which is no token."""
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    for offered in (subprotocols or "").split(","):
        if offered.strip().startswith(PREFIX):
            return offered.strip().removeprefix(PREFIX)
    return ""


def _read(path: str) -> list[tuple[str, bytes]]:
    digests: dict[bytes, str] = {}
    for number, line in enumerate(Path(path).read_text("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        what = f"{path}, line {number}"
        if len(words) != 2 or not TOKEN.fullmatch(words[1]):
            raise ValueError(
                f"{what}: expected NAME TOKEN, of a token letters, digits and any of . _ ~ + -"
            )
        if len(words[1]) < LEAST_CHARS:
            raise ValueError(f"{what}: a token has at least {LEAST_CHARS} characters")
        digest = _digest(words[1])
        if digest in digests:
            raise ValueError(f"{what}: the token is that of another line")
        digests[digest] = words[0]
    if not digests:
        raise ValueError(f"{path}: no tokens: nobody could connect")
    return [(name, digest) for digest, name in digests.items()]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
