"""`Door`: what a server says over HTTP, before a connection is a WebSocket or instead of it."""

from __future__ import annotations

import http
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from fastrnn.serve import page, protocol
from fastrnn.serve.hosts import is_own_name
from fastrnn.serve.metrics import Metrics
from fastrnn.serve.page import Page
from fastrnn.serve.reports import Reports
from fastrnn.serve.tokens import Tokens

NO_TOKEN = "expected a token that is known: Authorization: Bearer TOKEN\n"
WRONG_HOST = "ask for /metrics by address, or by a name that --metrics-host gives\n"


class Door:
    """Answers /health and /metrics, refuses streams that there are not, and reports refusals.

    Parameters
    ----------
    metrics : Metrics
    reports : Reports
    max_streams : int
    hosts : sequence of str
        Names under which /metrics may be asked for, beside addresses and localhost.
    tokens : Tokens, optional
        Who may ask for more than /health; None: anybody.
    its_page : Page, optional
        What is answered to "/".
    """

    def __init__(
        self,
        metrics: Metrics,
        reports: Reports,
        max_streams: int,
        hosts: Sequence[str],
        tokens: Tokens | None = None,
        its_page: Page | None = None,
    ) -> None:
        self._metrics = metrics
        self._reports = reports
        self._max_streams = max_streams
        self._page = its_page
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        self._tokens = tokens
        self.tells = True  # /metrics beside streams

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request that does not open a stream; None for one that does."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if self._page is not None:
            if path == page.PATH:
                return self._page.answer(connection, request)
            if path == protocol.PATH:
                self._page.admit(connection, request)
        if path not in (protocol.PATH, "/metrics") or (path == "/metrics" and not self.tells):
            also = ", /metrics" if self.tells else ""
            found = f"{protocol.PATH} (WebSocket), /health{also}\n"
            return connection.respond(http.HTTPStatus.NOT_FOUND, found)
        if self._tokens is not None and not self._knows(connection, request):
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, NO_TOKEN)
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if path == "/metrics":
            return self._figures(connection, request)
        if len(self._metrics.batcher) >= self._max_streams:
            full = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no stream is free\n")
            full.headers["Retry-After"] = "1"
            return full
        return None

    def tell(self, connection: ServerConnection, request: Request) -> Response:
        """Answer a request where only figures are told."""
        path = request.path.partition("?")[0]
        if path == "/health":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if path == "/metrics":
            return self._figures(connection, request)
        return connection.respond(http.HTTPStatus.NOT_FOUND, "/health, /metrics\n")

    def _figures(self, connection: ServerConnection, request: Request) -> Response:
        names = request.headers.get_all("Host")
        if len(names) != 1 or not is_own_name(names[0], self._hosts):
            return connection.respond(http.HTTPStatus.FORBIDDEN, WRONG_HOST)
        response = connection.respond(http.HTTPStatus.OK, self._metrics.text())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = self._metrics.content_type
        return response

    def _knows(self, connection: ServerConnection, request: Request) -> bool:
        """Whether a request has a token, whose name is then the connection's `username`.

        Of a header that is there twice, none is known.
        """
        assert self._tokens is not None
        headers = request.headers
        given = headers.get_all("Authorization")
        offered = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
        if len(given) > 1:
            return False
        name = self._tokens.name(given[0] if given else None, offered)
        if name is not None:
            connection.username = name
        return name is not None

    def report(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Count and log a refusal that whoever runs the server may want to know of."""
        counts = self._metrics.counts
        if response.status_code == http.HTTPStatus.SERVICE_UNAVAILABLE:
            counts.refused += 1
            self._reports.tell("refused a WebSocket with 503: no stream is free")
        elif response.status_code == http.HTTPStatus.UNAUTHORIZED:
            counts.unauthorized += 1
            self._reports.tell("refused a request with 401: it has no token that is known")
        elif response.status_code == http.HTTPStatus.FORBIDDEN:
            if request.path.partition("?")[0] == protocol.PATH:
                counts.forbidden += 1
                what, header = "a WebSocket with 403: its origin is not among --origin", "Origin"
            else:
                what, header = "/metrics with 403: its host is not among --metrics-host", "Host"
            self._reports.tell(f"refused {what}", ", ".join(request.headers.get_all(header)))
