"""`fastrnn demo`: a language model on real text, next to what PyTorch made of it."""

from __future__ import annotations

import argparse
import textwrap
import time
from typing import Any

from fastrnn.cli.output import NO, OK, CommandError, ProgressBar, plural, say, say_json
from fastrnn.demo import (
    STREAMS,
    TEXT,
    CharacterModel,
    Reference,
    Score,
    encode,
    read_reference,
    read_text,
    sample,
    score,
)
from fastrnn.version import __version__

PROMPTS = ("The ", "If the ", "A class ", "When a function ")
LENGTH = 240  # characters of each sample
TEMPERATURE = 0.6
AGREEMENT = 5e-5  # bits per character: equal to 4 decimals


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "demo",
        help="score a text with a small language model, next to PyTorch's figure",
        description="Run a character-level GRU, trained in PyTorch on Python's documentation and "
        f"shipped with fastrnn: score a text as {STREAMS} streams stepped together, compare bits "
        f"per character with PyTorch's figure, then write {len(PROMPTS)} texts as live streams.",
        epilog="Exit code 1: the figure is not PyTorch's, or FILE is empty or not UTF-8.",
    )
    parser.add_argument("--text", metavar="FILE", help="score this UTF-8 text instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, compare and write; NO if the figure is not PyTorch's."""
    path = TEXT if args.text is None else args.text
    name = TEXT.name if args.text is None else str(args.text)
    reference = read_reference() if args.text is None else None
    try:
        text = read_text(path)
    except ValueError as error:
        raise CommandError(str(error)) from None
    model = CharacterModel()
    if not args.json:
        say(f"a character model of {model.parameters:,} parameters, read without PyTorch")
        say(str(model.gru))
        say(f"scoring {name}: {plural(len(text), 'character')}, {STREAMS} streams, one step a call")
        say()
    with ProgressBar("scoring", wanted=not args.json) as progress:
        result = score(model, encode(text), progress=progress)
    equal = reference is None or agrees(result, reference)
    if not args.json:
        _print_score(result, reference)
    begin = time.perf_counter()
    samples = sample(model, PROMPTS, range(len(PROMPTS)), LENGTH, TEMPERATURE)
    seconds = time.perf_counter() - begin
    if args.json:
        say_json(_as_json(name, model, result, reference, samples))
    else:
        _print_samples(samples, seconds)
    return OK if equal else NO


def agrees(result: Score, reference: Reference) -> bool:
    """Whether both figures are of the same text and equal to 4 decimals."""
    return (
        result.characters == reference.characters
        and abs(result.bits_per_character - reference.bits_per_character) < AGREEMENT
    )


def _print_score(result: Score, reference: Reference | None) -> None:
    say(f"bits per character     {result.bits_per_character:.4f}")
    if reference is not None:
        verdict = "equal" if agrees(result, reference) else "NOT EQUAL"
        say(
            f"in PyTorch {reference.torch:<11} {reference.bits_per_character:.4f}"
            f"  {verdict} to 4 decimals"
        )
    say(f"time per step          {result.step_seconds * 1e6:.0f} us, median, {STREAMS} streams")
    say(f"characters per second  {result.characters / result.seconds:,.0f}, output layer included")


def _print_samples(samples: list[str], seconds: float) -> None:
    say()
    say(
        f"{len(samples)} live streams, written together, {LENGTH} characters each "
        f"at temperature {TEMPERATURE} in {seconds:.2f} s:"
    )
    for number, written in enumerate(samples, start=1):
        say()
        for line in textwrap.wrap(
            " ".join(written.split()) + "...",
            width=80,
            initial_indent=f"  {number}  ",
            subsequent_indent="     ",
        ):
            say(line)


def _as_json(
    name: str,
    model: CharacterModel,
    result: Score,
    reference: Reference | None,
    samples: list[str],
) -> dict[str, Any]:
    return {
        "version": __version__,
        "text": name,
        "characters": result.characters,
        "streams": result.streams,
        "parameters": model.parameters,
        "engine": model.gru.engine,
        "isa": model.gru.isa,
        "bits_per_character": result.bits_per_character,
        "torch": None if reference is None else reference.torch,
        "torch_bits_per_character": None if reference is None else reference.bits_per_character,
        "equal": None if reference is None else agrees(result, reference),
        "seconds_per_step": result.step_seconds,
        "characters_per_second": result.characters / result.seconds,
        "samples": [
            {"prompt": prompt, "text": written}
            for prompt, written in zip(PROMPTS, samples, strict=True)
        ],
    }
