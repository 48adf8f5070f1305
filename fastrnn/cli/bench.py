"""`fastrnn bench`: how fast a model steps on this machine, beside the machine's own limit."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from typing import Any

from fastrnn.cli.extras import with_suffix, without_extra
from fastrnn.cli.models.options import add_options, add_shape, is_model
from fastrnn.cli.output import (
    NO,
    OK,
    USAGE,
    CommandError,
    ProgressBar,
    note,
    say,
    say_json,
    say_table,
)
from fastrnn.cli.prefix import add_prefix
from fastrnn.cli.unsaid import add_weight_dtype
from fastrnn.formats.replacing import replacing
from fastrnn.layers.engines import available_isas, choose_isa

DEFAULTS = {"cell": "LSTM", "input_size": 128, "hidden_size": 256, "num_layers": 1}
SECONDS, QUICK_SECONDS = 1.5, 0.3
MOST = 1 << 20  # of any number on the command line


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    sizes = DEFAULTS
    parser = subparsers.add_parser(
        "bench",
        help="time a model, or a cell of given sizes, on this machine",
        description="Time a recurrent stack of FILE, or one of given sizes with random weights, on "
        "this machine: every engine and instruction set, batch sizes, steps per call, threads and "
        "other hidden sizes, beside what one core could do at best, and other runtimes with "
        "--peers. Takes under a minute, and more with --peers. A whole model (.onnx) is timed "
        "beside ONNX Runtime on the same file: 100 frames in a call, and a step where the file has "
        "states.",
        epilog="Times are microseconds per time step of all rows of the batch: medians of "
        "interleaved rounds in one process, CPU time; wall time where there is more than one "
        "thread, and for latency. The limit: the weights read once at the bandwidth of their size, "
        "or all multiply-adds at peak rate, whichever takes longer, on one core. float32, inputs "
        "random. Tensors do not say all: an RNN is timed with tanh, a GRU in torch's form. "
        "Outputs of every engine and peer are compared before anything is timed; one that differs "
        "is left out and named, and the exit code is 1, unless it is torch int8, whose outputs are "
        "coarse. --json prints the benchmark record from which --html is made.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="weights, as fastrnn.load takes them, or a whole model (.onnx)",
    )
    add_prefix(parser)
    parser.add_argument(
        "--cell", choices=("LSTM", "GRU", "RNN"), help=f"without FILE (default {sizes['cell']})"
    )
    for option in ("input_size", "hidden_size", "num_layers"):
        name = f"--{option.replace('_', '-')}"
        text = f"without FILE (default {sizes[option]})"
        parser.add_argument(name, type=_number, metavar="N", help=text)
    parser.add_argument(
        "--batch", type=_numbers, metavar="N,N,...", help="batch sizes (default 1,4,16,64)"
    )
    parser.add_argument(
        "--steps", type=_numbers, metavar="N,N,...", help="steps per call (default 1,100)"
    )
    parser.add_argument(
        "--threads", type=_numbers, metavar="N,N,...", help="threads (default 1, and 2 if it can)"
    )
    parser.add_argument(
        "--peers", action="store_true", help="other runtimes too, those that are installed"
    )
    parser.add_argument(
        "--peer", action="append", metavar="NAME", help="this one only; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help=f"for the rounds of one case (default {SECONDS}, quick {QUICK_SECONDS})",
    )
    parser.add_argument(
        "--limits",
        action="store_true",
        help="only measure what one core can do: multiply-adds, and reads by working-set size",
    )
    parser.add_argument(
        "--html", metavar="OUT.html", type=with_suffix(".html", ".htm"), help="a page with plots"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_weight_dtype(parser)
    add_shape(add_options(parser))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and write the page."""
    # One thread each, or BLAS and peers would wait for one another. They are not loaded yet.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Only here: the other commands need none of it.
    from fastrnn.cli import bench_plan as plan
    from fastrnn.cli import bench_tables as tables
    from fastrnn.plots.tables import ROUGH

    if args.limits:
        return _limits(args)
    seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
    if args.file is not None and is_model(args.file):
        from fastrnn.cli.models.bench import run as bench_model

        return bench_model(args, seconds)
    if args.html:
        with without_extra("--html", "plots"):
            from fastrnn.plots.page import make_page
    stack = _stack(args)
    peers, missing = plan.choose_peers(args.peers, args.peer)
    work = plan.make_plan(
        stack,
        batches=args.batch,
        steps=args.steps,
        threads=args.threads,
        weight_dtype=args.weight_dtype,
        peers=peers,
        quick=args.quick,
    )
    for name, packages in missing.items():
        note(f"fastrnn: {name}: left out, not installed: {', '.join(packages)}")
    # The page is begun before the measurement: one that cannot be written is told at once.
    with replacing(args.html) if args.html else nullcontext() as file:
        with ProgressBar("measuring", wanted=not args.json) as progress:
            record = plan.measure(work, seconds, progress)
        if file is not None:
            page = make_page(record, title=f"{stack.title} on {record['machine']['cpu']}")
            file.write(page.encode())
    for entry in record["differing"]:
        note(f"fastrnn: {entry['runner']}: left out, not the same outputs: {entry['reason']}")
    code = NO if any(entry["runner"] not in ROUGH for entry in record["differing"]) else OK
    if args.json:
        say_json(record)
        return code
    tables.say_record(stack.title, record)
    if args.html:
        say()
        say(f"{args.html}: the page")
    return code


def _limits(args: argparse.Namespace) -> int:
    from fastrnn.measure.limits import as_json, measure_limits
    from fastrnn.plots.tables import limits_table

    isas = sorted(available_isas(), key=lambda isa: isa != choose_isa(None))
    found = {}
    with ProgressBar("measuring", wanted=not args.json) as progress:
        for done, isa in enumerate(isas):
            progress(done, len(isas))
            found[isa] = as_json(measure_limits(isa, quick=args.quick))
    if args.json:
        say_json({"limits": found})
        return OK
    say("what one core can do, with the vectors of each instruction set:")
    header, lines = limits_table(found)
    say_table([tuple(header), *map(tuple, lines)])
    return OK


def _stack(args: argparse.Namespace) -> Any:
    """Return the BenchedStack that is asked for, by file or by sizes."""
    from fastrnn.cli.bench_plan import BenchedStack

    given = [name for name in DEFAULTS if getattr(args, name) is not None]
    if args.file is None:
        sizes: dict[str, Any] = {
            name: getattr(args, name) or default for name, default in DEFAULTS.items()
        }
        return BenchedStack.of_sizes(**sizes)
    if given:
        option = given[0].replace("_", "-")
        raise CommandError(f"--{option} is for a cell without FILE: {args.file} has its own", USAGE)
    return BenchedStack.of_file(args.file, args.prefix)


def _number(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to {MOST}")
    return value


def _numbers(text: str) -> list[int]:
    return sorted({_number(part) for part in text.split(",")})


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{value}, expected more than 0 and at most 3600")
    return value
