"""`fastrnn bench` of a whole model, beside ONNX Runtime."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

from fastrnn.cli.models.given import described, open_axes, random_inputs
from fastrnn.cli.models.options import load
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
from fastrnn.formats import onnx
from fastrnn.layers.compact import LARGEST
from fastrnn.machine import info
from fastrnn.measure.sessions import NAME, open_session
from fastrnn.measure.whole_models import Row, measure_calls, measure_frames, measure_steps
from fastrnn.models import example

BATCHES, FRAMES = (1, 32), 100
OF_CELLS = ("cell", "input_size", "hidden_size", "num_layers", "steps", "threads", "peer", "html")


@dataclass(frozen=True)
class Case:
    """One way to call the model, and how long that takes: ours first."""

    mode: str  # "whole" or "step"
    batch: int
    given: str  # inputs, in words
    rows: list[Row]


def run(args: argparse.Namespace, seconds: float) -> int:
    """Measure and print; NO if ONNX Runtime's outputs are not the same."""
    for name in OF_CELLS:
        if getattr(args, name):
            option = name.replace("_", "-")
            raise CommandError(f"--{option} is for a stack, {args.file} is a whole model", USAGE)
    model = load(args, weight_dtype=None)
    compact = load(args) if args.weight_dtype in LARGEST else None
    session, missing = open_session(args.file, dict(args.fix))
    if missing:
        note(f"fastrnn: {missing}")
    recorded = example.read(onnx.read(args.file).metadata)
    like = None if recorded is None else recorded.inputs
    shapes = dict(args.shape)
    batches = args.batch or BATCHES
    if shapes:  # whoever says a shape says how many rows
        batches = [next(iter(shapes.values()))[0]]
    open_time = any(open_axes(model, name) for name in model.inputs if name not in shapes)
    work = [("whole", batch) for batch in batches if open_time]
    work += [("step", batch) for batch in batches]
    cases: list[Case] = []
    code = OK
    left_out = ""
    with ProgressBar("measuring", wanted=not args.json) as progress:
        for done, (mode, batch) in enumerate(work):
            progress(done, len(work))
            frames = FRAMES if mode == "whole" else 1
            inputs = random_inputs(model, batch, frames, shapes, like)
            try:
                if mode == "whole":
                    rows = measure_calls(model, session, inputs, seconds, compact)
                elif model.states:
                    rows = measure_steps(model, session, inputs, batch, seconds, compact)
                else:
                    rows = measure_frames(model, inputs, batch, seconds, compact)
            except AssertionError as error:
                note(f"fastrnn: {mode}, batch {batch}: not the same outputs: {error}")
                code = NO
            except ValueError as error:
                left_out = f"{mode}, batch {batch}: left out: {error}"
                note(f"fastrnn: {left_out}")
            else:
                cases.append(Case(mode, batch, described(inputs), rows))
    if left_out and not cases and code == OK:
        made_up = "" if shapes else "; the inputs are made up: --shape says what shapes they have"
        raise CommandError(f"{args.file}: nothing could be timed{made_up}", USAGE)
    version = session.version if session else None
    if args.json:
        say_json(
            {
                "file": args.file,
                "machine": info(),
                "onnxruntime": version,
                "cases": [asdict(case) for case in cases],
            }
        )
        return code
    _print(args.file, cases, version)
    return code


def _print(path: str, cases: list[Case], version: str | None) -> None:
    say(f"{path}: microseconds per call, one thread, CPU time")
    for case in cases:
        say()
        say(f"{case.mode}, batch {case.batch}: {case.given}")
        say_table([(row.runner, f"{row.us:.1f}", f"{row.ratio:.2f} x") for row in case.rows])
    if version:
        say()
        say(f"{NAME} {version}")
