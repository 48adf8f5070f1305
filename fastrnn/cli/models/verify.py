"""`fastrnn verify` of a whole model: the recorded answer, from every engine and ONNX Runtime."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from fastrnn.cli.models.given import call, described, random_inputs
from fastrnn.cli.models.options import load
from fastrnn.cli.output import NO, OK, CommandError, say, say_json, say_table
from fastrnn.formats import onnx
from fastrnn.layers.compact import LARGEST
from fastrnn.layers.engines import available_isas
from fastrnn.measure.sessions import NAME, Session, open_session
from fastrnn.models import Model, example
from fastrnn.models.example import TOLERANCE

Array = npt.NDArray[Any]

SIZES = ((1, 25), (3, 50))  # rows and frames of random inputs


@dataclass(frozen=True)
class Difference:
    """How far one way of running the model is from what is expected."""

    runner: str
    given: str  # "the recorded example", or the inputs' shapes
    output: str  # whose difference is the largest
    largest: float  # as a part of the output's largest value
    judged: bool = True  # weights of integers change answers, which is what is asked

    @property
    def ok(self) -> bool:
        """Whether it is within tolerance, or not held to it; NaN is not."""
        return self.largest <= (TOLERANCE if self.judged else math.inf)

    @property
    def verdict(self) -> str:
        """In a word."""
        return ("ok" if self.judged else "") if self.ok else "DIFFERS"


def run(args: argparse.Namespace) -> int:
    """Compare; NO if answers differ."""
    model = load(args, weight_dtype=None)
    recorded = example.read(onnx.read(args.file).metadata)
    session, missing = open_session(args.file, dict(args.fix))
    version = session.version if session else None
    found = list(_compare(args, model, recorded, session))
    ok = all(difference.ok for difference in found)
    if args.json:
        say_json(_as_json(args.file, recorded is not None, version, found, ok))
        return OK if ok else NO
    say(f"{args.file}: largest difference, as a part of the output's largest value")
    for given in dict.fromkeys(difference.given for difference in found):
        say()
        say(f"{given}:")
        say_table(
            [(d.runner, d.output, f"{d.largest:.1e}", d.verdict) for d in found if d.given == given]
        )
    say()
    if recorded is None:
        say("no example is recorded in the file (fastrnn.export records one)")
    say(missing or f"{NAME} {version}")
    say(f"{'the same answers' if ok else 'different answers'} (tolerance {TOLERANCE:g})")
    return OK if ok else NO


def _compare(
    args: argparse.Namespace,
    model: Model,
    recorded: example.Example | None,
    session: Session | None,
) -> Iterator[Difference]:
    ways = {f"simd {isa}": load(args, isa=isa, weight_dtype=None) for isa in available_isas()}
    ways["blas"] = load(args, engine="blas", weight_dtype=None)
    compact = {}
    if args.weight_dtype in LARGEST:
        compact = {f"{args.weight_dtype} {isa}": load(args, isa=isa) for isa in available_isas()}
    given: list[tuple[str, dict[str, Array], Mapping[str, Array]]] = []
    if recorded is not None:
        missing = [name for name in model.inputs if name not in recorded.inputs]
        if missing:
            raise CommandError(f"{args.file}: the recorded example has no {', '.join(missing)}")
        inputs = {name: recorded.inputs[name] for name in model.inputs}
        given.append(("the recorded example", inputs, recorded.outputs))
    shapes = dict(args.shape)
    # Whoever says a shape says how many rows: as many as the first axis has, most often.
    sizes = [(next(iter(shapes.values()))[0], SIZES[0][1])] if shapes else SIZES
    for rows, frames in sizes:
        like = None if recorded is None else recorded.inputs
        inputs = random_inputs(model, rows, frames, shapes, like)
        given.append((f"random {described(inputs)}", inputs, call(model, inputs)))
    for title, inputs, expected in given:
        for name, way in ways.items():
            yield _difference(name, title, call(way, inputs), expected)
        for name, way in compact.items():
            found = _difference(name, title, call(way, inputs), expected)
            yield replace(found, judged=False)
        if session is not None:
            yield _difference(NAME, title, session(inputs), expected)


def _difference(
    runner: str, given: str, got: Mapping[str, Array], expected: Mapping[str, Array]
) -> Difference:
    largest, output = example.largest(got, expected)
    return Difference(runner, given, output, largest)


def _as_json(
    path: str, recorded: bool, version: str | None, found: list[Difference], ok: bool
) -> dict[str, Any]:
    return {
        "file": path,
        "ok": ok,
        "example": recorded,
        "onnxruntime": version,
        "tolerance": TOLERANCE,
        "differences": [
            {
                "runner": d.runner,
                "given": d.given,
                "output": d.output,
                "judged": d.judged,
                "difference": d.largest if math.isfinite(d.largest) else None,
                "ok": d.ok,
            }
            for d in found
        ],
    }
