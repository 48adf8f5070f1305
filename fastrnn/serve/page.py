"""`Page`: what a server answers to `/`, if it is asked to: a page to try the model with.

It is one file, page.html, which loads nothing; its content security policy lets run what is written
in it, by hash, and lets it connect to where it came from.
"""

from __future__ import annotations

import base64
import hashlib
import http
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.typing import Origin

from fastrnn.serve.hosts import is_own_name

PATH = "/"
WRONG_HOST = "ask for the page by address, by localhost, or by a name that --origin gives\n"


class Page:
    """The page, and the pages that may connect beside those of --origin: itself.

    Parameters
    ----------
    origins : sequence of str
        Origins that may connect whatever the page; the names in them are this server's too.
    token : bool
        Whether the page asks for a token, and sends it as a subprotocol: "bearer.TOKEN", after
        "fastrnn".
    """

    def __init__(self, origins: Sequence[str] = (), *, token: bool = False) -> None:
        self._names = {re.sub(r"^[a-z]+://|:\d+$", "", origin) for origin in origins}
        text = Path(__file__).with_name("page.html").read_text("utf-8")
        self._text = text.replace("{{token}}", "required" if token else "no")
        self._hashes = {part: _hash(self._text, part) for part in ("script", "style")}

    def answer(self, connection: ServerConnection, request: Request) -> Response:
        """Answer a request for the page."""
        host = own_host(request, self._names)
        if host is None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, WRONG_HOST)
        response = connection.respond(http.HTTPStatus.OK, self._text)
        del response.headers["Content-Type"]
        for name, value in {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": "; ".join(
                [
                    "default-src 'none'",
                    f"script-src '{self._hashes['script']}'",
                    f"style-src '{self._hashes['style']}'",
                    f"connect-src 'self' ws://{host} wss://{host}",
                    "base-uri 'none'",
                    "form-action 'none'",
                    "frame-ancestors 'none'",
                ]
            ),
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }.items():
            response.headers[name] = value
        return response

    def admit(self, connection: ServerConnection, request: Request) -> None:
        """Let a request that comes from the page itself open a stream: its origin is its host.

        The host has to be this server's own name, since any page can have its name mean an address
        here.
        """
        host = own_host(request, self._names)
        origins = request.headers.get_all("Origin")
        allowed = connection.protocol.origins
        if host is None or len(origins) != 1 or allowed is None:
            return
        if origins[0].lower() in (f"http://{host}", f"https://{host}"):
            connection.protocol.origins = [*allowed, Origin(origins[0])]


def own_host(request: Request, names: Collection[str]) -> str | None:
    """Return the Host header, in lower case, if it is this server's own name."""
    hosts = request.headers.get_all("Host")
    if len(hosts) != 1 or not is_own_name(hosts[0], names):
        return None
    return hosts[0].lower()


def _hash(text: str, tag: str) -> str:
    """Return a policy's name for what stands between <tag> and </tag>."""
    inside = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    digest = hashlib.sha256(inside.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
