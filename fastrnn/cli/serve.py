"""`fastrnn serve`: a file's layer behind WebSockets, a stream per connection."""

from __future__ import annotations

import argparse
import re
import resource
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.cli.extras import without_extra
from fastrnn.cli.models.options import add_frame_shape, add_options, as_typed, is_model
from fastrnn.cli.models.options import load as load_whole
from fastrnn.cli.output import USAGE, CommandError
from fastrnn.cli.prefix import add_prefix
from fastrnn.cli.serving import serve
from fastrnn.cli.unsaid import add_unsaid, add_weight_dtype, load_stack
from fastrnn.cli.where import Where, add_where, check_where
from fastrnn.errors import FormatError
from fastrnn.formats import read
from fastrnn.models import Model

if TYPE_CHECKING:
    from fastrnn.serve.limits import Limits


_EPILOG = """\
protocol: connect to ws://HOST:PORT/stream. The first message is the hello, JSON in text, with
input_size, output_size and the limits. Then each binary message of k frames, little-endian
float32 (k, input_size), is answered by one of (k, output_size). In text, at any time:
  {"op": "save"}                    answered by {"op": "save", "state": BASE64}
  {"op": "load", "state": BASE64}   go on from a saved state, of this server or another;
                                    answered by {"op": "load"}
  {"op": "reset"}                   begin anew; answered by {"op": "reset"}
GET /health answers "ok"; GET /metrics is for Prometheus: of all workers together; with --page,
GET / is a page that feeds a stream and draws what comes back, to which the server's own address may
connect.

SIGTERM or SIGINT drains: what was received is answered, each client is sent {"op": "drain",
"state": BASE64}, the state after its last answer, and the connection is closed with 1001. SIGHUP
reads --tls-cert, --tls-key and --token-file anew, for connections to come; without them it drains.

tokens: Authorization: Bearer TOKEN, or in a browser the subprotocols "fastrnn" and "bearer.TOKEN".
A request without one that is in the file gets HTTP 401, but for /health.

A worker that ends is replaced; its clients lose the connection (1006), and go on elsewhere from
the last state that they asked for with save.

close codes:
  1001  the server drains              1003  a text message that is no command
  1007  not whole frames               1008  idle for too long
  1009  message or answer too big      1011  the server failed
  1013  no stream is free (HTTP 503)   4000  a state that is damaged or of another model

Whoever reaches it may use it, unless there are tokens; who is on the way can read and change what
is said, unless there is TLS. So it binds to the loopback unless told.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a layer over WebSockets, a stream per connection",
        description="Serve the recurrent layer in FILE: each WebSocket is a stream, and whatever "
        "frames\nare ready are stepped together. Needs: pip install 'fastrnn[serve]'",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="weights, as fastrnn.load takes them")
    add_prefix(parser)
    parser.add_argument(
        "--initial-state", metavar="NAME",
        help="the tensor of FILE with which streams begin, and to which a reset goes back: "
        "(num_layers, hidden_size); of an LSTM h=NAME,c=NAME, or one that holds both: (2, ...)",
    )  # fmt: skip
    add_where(parser)
    add_unsaid(parser)
    add_weight_dtype(parser)
    add_frame_shape(add_options(parser))
    limits = parser.add_argument_group("limits")
    limits.add_argument("--threads", type=int, default=1, help="for one kernel call (%(default)s)")
    for name, kind, default, text in (
        ("streams", int, 1000, "connections at once, of each worker"),
        ("batch", int, 256, "streams in one kernel call"),
        ("wait-ms", float, 0.0, "how long a frame may wait for others when the CPU is idle"),
        ("message", int, 262144, "bytes of one message, or its answer"),
        (
            "rate",
            float,
            0.0,
            "frames a second of one client, a command or ping counting as one; a "
            "faster one is slowed; 0: any",
        ),
    ):
        limits.add_argument(
            f"--max-{name}", type=kind, default=default, metavar="N", help=f"{text} (%(default)s)"
        )
    limits.add_argument(
        "--idle-seconds", type=float, default=300.0, metavar="S",
        help="a client that sends nothing, or takes no answer, for so long is closed (%(default)s)",
    )  # fmt: skip
    limits.add_argument(
        "--drain-seconds", type=float, default=10.0, metavar="S",
        help="the longest a drain may take (%(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    from fastrnn.serve.limits import SPARE_FILES, Limits

    with without_extra("serve", "serve"):
        import fastrnn.serve.server  # noqa: F401 - what the extra has is missed here
    for name in ("max_wait_ms", "max_rate", "idle_seconds", "drain_seconds"):
        if not 0 <= getattr(args, name) < float("inf"):
            raise CommandError(f"--{name.replace('_', '-')}: expected 0 or more", USAGE)
    where = check_where(args)
    limits = Limits(**{name: getattr(args, name) for name in Limits.__dataclass_fields__})
    _allow_files(limits.max_streams + SPARE_FILES)
    layer = _load(args)
    begin = _initial_state(args, layer)
    with where:
        return _serve(layer, limits, begin, where, args)


def _load(args: argparse.Namespace) -> Any:
    if is_model(args.file):
        if args.initial_state is not None:
            raise CommandError("--initial-state is for weights, not for a whole model", USAGE)
        return load_whole(args, threads=args.threads, shapes=dict(args.shape))
    try:
        return load_stack(args, args.prefix, dtype=np.float32, threads=args.threads)
    except FormatError:
        raise
    except ValueError as error:  # of threads
        raise CommandError(str(error), USAGE) from None


def _initial_state(args: argparse.Namespace, layer: Any) -> Any:
    """Return what `layer.pool` takes, from the tensors that --initial-state names.

    Raises
    ------
    CommandError
        If the file has no such tensor, or the cell has another number of states.
    """
    if args.initial_state is None:
        return None
    weights = read(args.file)

    def tensor(name: str) -> Any:
        if name not in weights:
            raise CommandError(f"--initial-state {args.initial_state}: no tensor {name!r}")
        return weights[name]

    both = re.fullmatch("h=(.+),c=(.+)", args.initial_state)
    if not layer._packed.has_cell_state:
        if both:
            raise CommandError(f"--initial-state: a {type(layer).__name__} has no c", USAGE)
        return tensor(args.initial_state.removeprefix("h="))
    if both:
        return tensor(both[1]), tensor(both[2])
    state = tensor(args.initial_state)
    if state.ndim < 3 or len(state) != 2:
        raise CommandError(
            f"--initial-state {args.initial_state}: {state.shape}, expected (2, num_layers, "
            "hidden_size), or two tensors: h=NAME,c=NAME",
            USAGE,
        )
    return state[0], state[1]


def _allow_files(files: int) -> None:
    """Let this process have so many files open: a connection is one.

    Raises
    ------
    CommandError
        If the system's limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or files <= soft:
        return
    if hard != resource.RLIM_INFINITY and files > hard:
        raise CommandError(
            f"--max-streams: needs {files} open files, but the limit is {hard} (ulimit -Hn)", USAGE
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _about(layer: Any) -> dict[str, str | int]:
    """What the hello says of a layer, or of a model: one frame's shape and that of its answer."""
    if not isinstance(layer, Model):
        return {
            "cell": type(layer).__name__,
            "num_layers": layer.num_layers,
            "hidden_size": layer.hidden_size,
        }
    try:
        pool = layer.pool(1)
        shapes = [",".join(map(str, shape)) for shape in (pool.input_shape, pool.output_shape)]
    except ValueError as error:
        raise CommandError(as_typed(error), USAGE) from None
    return {"cell": "Model", "input_shape": shapes[0], "output_shape": shapes[1]}


def _serve(
    layer: Any, limits: Limits, initial_state: Any, where: Where, args: argparse.Namespace
) -> int:
    from fastrnn.serve.page import Page
    from fastrnn.serve.server import Server

    try:
        server = Server(
            layer,
            limits,
            args.origin,
            args.metrics_host,
            _about(layer),
            initial_state=initial_state,
            tokens=where.tokens,
            board=where.board,
            page=Page(args.origin, token=where.tokens is not None) if args.page else None,
        )
    except ValueError as error:  # a bidirectional layer, or options that do not fit it
        raise CommandError(str(error), USAGE) from None
    return serve(server, where, f"{layer}".partition("\n")[0])
