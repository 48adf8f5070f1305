"""The `fastrnn` command. Each of its commands is a module beside this one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from fastrnn.cli import bench, convert, demo, info, inspect, serve, trace, verify
from fastrnn.cli.ending import ended_by_signals
from fastrnn.cli.output import NO, USAGE, CommandError, complain, drop, printable
from fastrnn.cli.prefix import settle_prefix
from fastrnn.errors import FormatError
from fastrnn.layers.engines import choose_isa
from fastrnn.version import __version__

INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell reports SIGINT and SIGPIPE

_EPILOG = """\
exit codes:
  0    done; for verify, bench and demo: the figures agree
  1    the answer is no: the file is damaged or holds no such weights, the figures differ
  2    a wrong command line, or a file that cannot be opened or written
  130  interrupted; SIGTERM and SIGHUP end a command as they end any, and nothing is left half
       written

--json prints one JSON object on stdout and nothing else there. Files are never executed:
what a pickle wants to run is listed by `fastrnn inspect`, not run.

examples:
  fastrnn inspect model.pt
  fastrnn convert checkpoint.pt encoder.safetensors model.encoder
  fastrnn verify model.pt && echo same answers
  fastrnn bench model.pt encoder.lstm --html report.html
  fastrnn trace model.pt --input x.npy --png gates.png
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors quote the command line without driving the terminal."""

    def error(self, message: str) -> NoReturn:
        """Print usage and the error on stderr, and exit with 2."""
        super().error(printable(message))


def make_parser() -> Parser:
    """Return the parser of the whole command line; `run` of what it parses is the command."""
    parser = Parser(
        prog="fastrnn",
        description="Run LSTM, GRU and RNN models trained in PyTorch, on CPUs, without PyTorch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (inspect, convert, verify, bench, trace, serve, demo, info):
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (sys.argv if None) says, and return its exit code."""
    with ended_by_signals():
        code, message = _outcome(argv)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where an error can still be told
    except OSError as error:
        drop(sys.stdout)
        code, message = _told(error)
    if message:
        complain(message)
    try:
        if sys.stderr is not None:
            sys.stderr.flush()  # what argparse said, too
    except OSError:
        drop(sys.stderr)
    return code


def _outcome(argv: Sequence[str] | None) -> tuple[int, str]:
    """Run the command, and return its exit code and what to complain of, if anything."""
    try:
        return _run(argv), ""
    except KeyboardInterrupt:
        return INTERRUPTED, ""
    except CommandError as error:
        return error.code, str(error)
    except FormatError as error:
        return NO, str(error)
    except MemoryError as error:
        return NO, f"not enough memory{f': {error}' if str(error) else ''}"
    except OSError as error:
        return _told(error)


def _told(error: OSError) -> tuple[int, str]:
    if isinstance(error, BrokenPipeError):  # the reader has what it wanted
        return PIPE_CLOSED, ""
    where = f"{error.filename}: " if error.filename is not None else ""
    return USAGE, f"{where}{error.strerror or error}"


def _run(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    try:
        args, rest = parser.parse_known_args(argv)
        if len(rest) == 1 and not rest[0].startswith("-") and getattr(args, "prefix", None) == "":
            # FILE --option PREFIX: argparse before Python 3.13 takes PREFIX beside FILE only
            args.prefix = rest.pop()
        settle_prefix(parser, args)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
    except SystemExit as done:  # --help, --version, or usage, which argparse has told
        return int(done.code or 0)
    if not hasattr(args, "run"):
        parser.print_help(sys.stderr)
        return USAGE
    try:
        choose_isa(None)
    except ValueError as error:  # of the environment variable FASTRNN_ISA
        raise CommandError(str(error), USAGE) from None
    return int(args.run(args))
