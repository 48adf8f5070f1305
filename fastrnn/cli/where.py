"""Where `fastrnn serve` is asked, by whom, in how many processes, and what it says meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastrnn.cli.logs import FORMS, LOGGER, set_up_logs
from fastrnn.cli.output import USAGE, CommandError

if TYPE_CHECKING:
    from fastrnn.serve.board import Board
    from fastrnn.serve.certificate import Certificate
    from fastrnn.serve.listen import Place
    from fastrnn.serve.tokens import Tokens

MOST_WORKERS = 256

ADDRESS = re.compile(r"(?:(\[[^][]+\]|[^][:]*):)?([0-9]{1,5})")


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add the options to `parser`."""
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to bind to (%(default)s)")
    where.add_argument("--port", type=int, default=8765, help="0: any that is free (%(default)s)")
    where.add_argument(
        "--unix", metavar="PATH", help="a Unix socket instead, removed in the end; who may write "
        "to it may connect",
    )  # fmt: skip
    where.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="processes that share the address, each with streams, a kernel thread and limits of "
        "its own; one that ends is replaced (%(default)s)",
    )  # fmt: skip
    where.add_argument(
        "--tls-cert", metavar="FILE", help="serve wss:// with this certificate chain, in PEM"
    )
    where.add_argument("--tls-key", metavar="FILE", help="its key, if it is not in the same file")
    where.add_argument(
        "--token-file", metavar="FILE", help="let those connect who have a token of this file, "
        "which has a line NAME TOKEN each",
    )  # fmt: skip
    where.add_argument(
        "--origin", metavar="URL", action="append", default=[],
        help="let web pages of this origin connect, such as https://example.org; may be repeated",
    )  # fmt: skip
    where.add_argument(
        "--metrics-host", metavar="NAME", action="append", default=[],
        help="answer /metrics under this name too, beside addresses, localhost and --host; may be "
        "repeated",
    )  # fmt: skip
    where.add_argument(
        "--metrics-address", metavar="[HOST:]PORT",
        help="answer /metrics, and /health too, there instead, without TLS and tokens",
    )  # fmt: skip
    where.add_argument(
        "--page", action="store_true",
        help="answer / with a page to try the model with: a file, the microphone, noise or a sine",
    )  # fmt: skip
    where.add_argument(
        "--log", choices=FORMS, default="text",
        help="what is written to stderr: lines, or an object in each, with closed connections too "
        "(%(default)s)",
    )  # fmt: skip


@dataclass
class Where:
    """What was asked for; `place` and `told` are there while it is entered."""

    host: str
    port: int
    unix: str | None
    workers: int
    drain_seconds: float
    page: bool = False
    told_at: tuple[str, int] | None = None
    certificate: Certificate | None = None
    tokens: Tokens | None = None
    board: Board | None = None
    place: Place | None = None
    told: Place | None = None
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Where:
        from fastrnn.serve.listen import Place, for_processes, in_file_system

        shares = self.workers > 1
        if self.unix is not None:
            self.place = self._held.enter_context(in_file_system(self.unix))
        elif shares:
            self.place = self._held.enter_context(for_processes(self.host, self.port))
        if self.told_at is not None:
            self.told = (
                self._held.enter_context(for_processes(*self.told_at))
                if shares
                else Place(*self.told_at)
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    @property
    def reloads(self) -> bool:
        """Whether there are files that SIGHUP has read anew."""
        return self.certificate is not None or self.tokens is not None

    def reload(self) -> str:
        """Read each anew, and return what came of it: one that cannot be read stays as it was."""
        read, kept = [], []
        for name, what in (("certificate", self.certificate), ("tokens", self.tokens)):
            if what is not None:
                try:
                    what.reload()
                    read.append(name)
                except (OSError, ValueError) as error:
                    kept.append(str(error))
        said = [f"{' and '.join(read)} read anew"] if read else []
        if kept:
            said.append(f"not read anew, and as before: {'; '.join(kept)}")
        return "; ".join(said)

    def url(self, host: str, port: int) -> str:
        """Return what a client connects to."""
        scheme = "ws" if self.certificate is None else "wss"
        if self.unix is not None:
            return f"{scheme}://localhost/stream at {self.unix}"
        return f"{scheme}://{_host(host)}:{port}/stream"

    def page_url(self, host: str, port: int) -> str:
        """Return where the page is."""
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{_host(host)}:{port}/"


def check_where(args: argparse.Namespace) -> Where:
    """Return what the options say, with what they name read.

    Raises
    ------
    CommandError
        If they do not fit each other, or a file is not what it should be.
    """
    from fastrnn.serve.board import Board
    from fastrnn.serve.certificate import Certificate
    from fastrnn.serve.listen import is_loopback
    from fastrnn.serve.tokens import Tokens

    if not 0 <= args.port <= 65535:
        raise CommandError(f"--port {args.port}: expected 0 to 65535", USAGE)
    if not 1 <= args.workers <= MOST_WORKERS:
        raise CommandError(f"--workers {args.workers}: expected 1 to {MOST_WORKERS}", USAGE)
    if args.tls_key is not None and args.tls_cert is None:
        raise CommandError("--tls-key is for a --tls-cert", USAGE)
    set_up_logs(args.log)
    where = Where(args.host, args.port, args.unix, args.workers, args.drain_seconds, args.page)
    if args.metrics_address is not None:
        where.told_at = _address(args.metrics_address)
    try:
        if args.tls_cert is not None:
            where.certificate = Certificate(args.tls_cert, args.tls_key)
            if why := where.certificate.out_of_date():
                LOGGER.warning("--tls-cert %s: the certificate %s", args.tls_cert, why)
        if args.token_file is not None:
            where.tokens = Tokens(args.token_file)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    if where.workers > 1:
        where.board = Board(where.workers)
    args.metrics_host = [*args.metrics_host, args.host]
    if where.tokens is None and where.unix is None and not is_loopback(where.host):
        LOGGER.warning(
            "--host %s without --token-file: whoever reaches that address may use this server",
            where.host,
        )
    return where


def _address(text: str) -> tuple[Any, int]:
    found = ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise CommandError(f"--metrics-address {text}: expected HOST:PORT, or PORT", USAGE)
    return (found[1] or "127.0.0.1").strip("[]"), int(found[2])


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
