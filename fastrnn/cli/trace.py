"""`fastrnn trace`: what a model's gates do on an input, in figures and as heat maps."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.extras import with_suffix, without_extra
from fastrnn.cli.models.options import add_options, is_model
from fastrnn.cli.models.trace import traced as trace_model
from fastrnn.cli.output import OK, USAGE, CommandError, plural, say, say_json, say_table
from fastrnn.cli.prefix import add_prefix
from fastrnn.cli.trace_input import read_sequence
from fastrnn.cli.unsaid import add_unsaid, add_weight_dtype, load_stack
from fastrnn.formats.text import read_text
from fastrnn.layers.retention import ORDERS, RETAINING_GATE, half_lives

Array = npt.NDArray[Any]

SHUT, OPEN = 0.1, 0.9  # a gate below, above
LONGEST = 5  # units named
_STATES = ("h", "c")


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "trace",
        help="show what a model's gates and states do on an input",
        description="Run a recurrent stack of FILE over one sequence and show every gate and state "
        "of every layer and direction: as figures, and with --png as heat maps over one time axis. "
        "Of a whole model (.onnx): of a recurrent node, or a stack of nodes, while the model runs.",
        epilog="Half-life: how many steps it takes until half of a unit's state is left, were "
        "nothing added to it; by the geometric mean of the gate that multiplies the state, over "
        "the steps shown: LSTM's forget gate, GRU's update gate. Where it is longer than those "
        "steps it is an extrapolation. "
        "Units are sorted, alike in all maps of a layer and direction, by that gate (--sort "
        "retention, the longest half-life at the top), by the step at which the state is farthest "
        "from 0 (peak; also an RNN's, and an h that proj_size mixes), or not at all (index).",
    )
    parser.add_argument(
        "file", metavar="FILE", help="weights, as fastrnn.load takes them, or a whole model (.onnx)"
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="X.npy",
        help="x: (T, I) or (T, B, I), numpy.save's; of a whole model, its input",
    )
    add_prefix(
        parser,
        "which stack, if FILE has several; of a whole model, the name of a recurrent node",
    )
    parser.add_argument(
        "--batch-first", action="store_true", help="x is (B, T, I), as where the file says so"
    )
    parser.add_argument("--row", type=int, metavar="N", help="which of x's B rows, from 0")
    parser.add_argument(
        "--lengths", type=_integers, metavar="N,N,...", help="steps of each of x's rows, if ragged"
    )
    parser.add_argument(
        "--steps",
        type=_window,
        default=(0, None),
        metavar="A:B",
        help="show steps A up to B only; the model runs from step 0 all the same",
    )
    parser.add_argument("--layer", type=int, metavar="N", help="show this layer only, from 0")
    add_unsaid(parser)
    add_options(parser)
    add_weight_dtype(parser)
    parser.add_argument("--png", metavar="OUT.png", type=with_suffix(".png"), help="heat maps")
    parser.add_argument(
        "--show",
        metavar="NAME,...",
        type=lambda names: names.split(","),
        default=[],
        help="gates and states to draw, such as forget,c (default all)",
    )
    parser.add_argument("--sort", choices=ORDERS, default=ORDERS[0], help="units in the heat maps")
    parser.add_argument(
        "--labels", metavar="TEXT", help="a UTF-8 text file: a character for each step of x"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trace `args.file` on `args.input`, and say and draw what was found."""
    if args.png:
        with without_extra("--png", "plots"):
            from fastrnn.plots.gates import draw_trace
            from fastrnn.plots.style import write_png
    if is_model(args.file):
        cell, traced = trace_model(args)
        what = f"{cell} {args.prefix}".rstrip()
    else:
        layer = load_stack(args, args.prefix)
        traced = layer.trace(read_sequence(args, layer))
        cell, what = type(layer).__name__, str(layer)
    num_layers, _, steps, _ = traced["h"].shape
    text = _labels(args, steps)
    layers = _layers(args, num_layers)
    begin, end = _bounds(args.steps, steps)
    traced = {name: values[layers, :, begin:end] for name, values in traced.items()}
    for name in args.show:
        if name not in traced:
            raise CommandError(f"--show {name}: expected some of {', '.join(traced)}", USAGE)
    if args.png:
        row = "" if args.row is None else f", row {args.row}"
        where = f"{Path(args.file).name} {args.prefix}".rstrip()
        figure = draw_trace(
            traced,
            cell,
            title=f"{where} on {Path(args.input).name}{row}",
            sort=args.sort,
            first_step=begin,
            layer_numbers=layers,
            labels=text[begin:end],
            show=args.show,
        )
        write_png(figure, args.png)
    parts = [
        {"layer": layers[i], "direction": ("forward", "reverse")[d], **_summary(traced, i, d, cell)}
        for i in range(len(layers))
        for d in range(traced["h"].shape[1])
    ]
    if args.json:
        head = {"file": args.file, "stack": args.prefix, "input": args.input, "row": args.row}
        shown = {"cell": cell, "steps": steps, "first_step": begin, "end_step": end}
        say_json({**head, **shown, "png": args.png, "parts": parts})
        return OK
    say(f"{args.file}: {what}")
    say(f"{args.input}: {plural(steps, 'step')}, shown are {begin} to {end - 1}")
    for part in parts:
        _print_part(part, cell, end - begin)
    if args.png:
        say()
        say(f"{args.png}: heat maps")
    return OK


def _labels(args: argparse.Namespace, steps: int) -> str:
    if args.labels is None:
        return ""
    text = read_text(args.labels, steps)
    if len(text) < steps:
        raise CommandError(
            f"{args.labels}: {plural(len(text), 'character')}, expected one for each of {steps} "
            "steps"
        )
    return text


def _layers(args: argparse.Namespace, num_layers: int) -> list[int]:
    if args.layer is None:
        return list(range(num_layers))
    if not 0 <= args.layer < num_layers:
        raise CommandError(f"--layer {args.layer}: expected 0 to {num_layers - 1}", USAGE)
    return [args.layer]


def _bounds(window: tuple[int, int | None], steps: int) -> tuple[int, int]:
    begin, end = window[0], steps if window[1] is None else window[1]
    if not 0 <= begin < end <= steps:
        raise CommandError(f"--steps {begin}:{end}: expected a part of 0:{steps}, not empty", USAGE)
    return begin, end


@np.errstate(over="ignore", invalid="ignore")  # states may grow out of their type
def _summary(traced: dict[str, Array], layer: int, direction: int, cell: str) -> dict[str, Any]:
    """Describe one layer and direction as plain data; half-lives may be infinite or NaN."""
    one = {name: values[layer, direction] for name, values in traced.items()}
    found: dict[str, Any] = {
        "gates": {
            name: {
                "mean": float(values.mean(dtype=np.float64)),
                "shut": float((values < SHUT).mean()),
                "open": float((values > OPEN).mean()),
            }
            for name, values in one.items()
            if name not in (*_STATES, "cell", "candidate")
        },
        "states": {},
    }
    for name in _STATES:
        if name in one:
            norm = np.linalg.norm(one[name].astype(np.float64), axis=1)
            found["states"][name] = {
                "norm_mean": float(norm.mean()),
                "norm_max": float(norm.max()),
                "largest": float(np.abs(one[name]).max()),
            }
    if cell in RETAINING_GATE:
        found["half_life_steps"] = half_lives(one[RETAINING_GATE[cell]]).tolist()
        found["nan_units"] = int(np.isnan(found["half_life_steps"]).sum())
    return found


def _print_part(part: dict[str, Any], cell: str, steps: int) -> None:
    say()
    say(f"layer {part['layer']}, {part['direction']}")
    rows = [
        (
            f"{name} gate",
            f"mean {gate['mean']:.2f}",
            f"below {SHUT}: {gate['shut']:.0%}",
            f"above {OPEN}: {gate['open']:.0%}",
        )
        for name, gate in part["gates"].items()
    ] + [
        (
            f"state {name}",
            f"norm {state['norm_mean']:.3g}",
            f"at most {state['norm_max']:.3g}",
            f"largest |{name}| {state['largest']:.3g}",
        )
        for name, state in part["states"].items()
    ]
    say_table(rows)
    if cell in RETAINING_GATE:
        _print_half_lives(part["half_life_steps"], RETAINING_GATE[cell], steps)


def _print_half_lives(half_lives: list[float], gate: str, steps: int) -> None:
    values = np.array(half_lives)
    numbers = np.flatnonzero(~np.isnan(values))
    nan = len(values) - len(numbers)
    if nan:
        say(f"  {plural(nan, 'unit')} whose {gate} gate is NaN, without a half-life")
    if not len(numbers):
        return
    values = values[numbers]
    quantiles = np.quantile(values, (0, 0.1, 0.5, 0.9, 1), method="nearest").tolist()
    say(f"  half-life of units in steps, by the {gate} gate:")
    names = ("shortest", "10 %", "median", "90 %", "longest")
    say_table([names, tuple(map(_steps, quantiles))], indent="    ")
    order = np.argsort(-values, kind="stable")[:LONGEST].tolist()
    longest = ", ".join(f"{numbers[i]} ({_steps(values[i])})" for i in order)
    say(f"    longest: unit {longest}")
    beyond = int((values > steps).sum())
    if beyond:
        say(f"    longer than the {plural(steps, 'step')} shown: {plural(beyond, 'unit')}")


def _steps(value: float) -> str:
    if value >= 1e6:
        return "over 1e6" if math.isfinite(value) else "endless"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _window(text: str) -> tuple[int, int | None]:
    """Parse "A:B", where either may be left out."""
    begin, colon, end = text.partition(":")
    try:
        if colon:
            return int(begin or 0), int(end) if end else None
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}, expected A:B")
