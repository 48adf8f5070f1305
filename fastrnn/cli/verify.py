"""`fastrnn verify`: the same answers from every engine, and from torch where it is installed."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.inspect import FoundStack, find_stacks, stack_as_json
from fastrnn.cli.models.options import add_options, add_shape, is_model
from fastrnn.cli.models.verify import run as verify_model
from fastrnn.cli.output import NO, OK, USAGE, CommandError, plural, say, say_json, say_table
from fastrnn.cli.prefix import add_prefix
from fastrnn.cli.verify_compact import (
    Error,
    add_compact,
    errors_as_json,
    output_layers,
    say_errors,
    stack_errors,
)
from fastrnn.errors import FormatError
from fastrnn.formats import opened
from fastrnn.layers import LAYERS
from fastrnn.layers.engines import available_engines, available_isas
from fastrnn.layers.statedict import StateDict
from fastrnn.layers.weights import StackConfig

Array = npt.NDArray[Any]

STEPS, ROWS, SEED = 50, 4, 0
# What engines may differ by, for values up to 1: rounding, which a trained model can magnify on its
# way through STEPS steps. The demo's GRU makes 4e-6 of it in float32, here and in torch alike;
# approximated gates cost 1e-3.
TOLERANCES = {"float32": 1e-4, "float64": 1e-10}


@dataclass(frozen=True)
class Difference:
    """How far one way of running a stack is from the reference."""

    engine: str  # "simd avx2": of an engine with several instruction sets, which
    dtype: str
    mode: str  # "whole" or "stream"
    largest: float  # absolute, over y and the final state
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within tolerance; NaN is not."""
        return self.largest <= self.tolerance


def add_parser(subparsers: Any) -> None:
    """Add the command to `subparsers`."""
    tolerances = ", ".join(f"{value:g} in {dtype}" for dtype, value in TOLERANCES.items())
    parser = subparsers.add_parser(
        "verify",
        help="run a file's stacks through every engine and compare",
        description=f"Run every recurrent stack of FILE on {STEPS} steps of {ROWS} random rows "
        f"(seed {SEED}), whole and streamed, through every engine and through torch where it is "
        "installed, and print the largest absolute difference of output and final state to the "
        "BLAS engine in float64, on the weights as rounded to float32. Tensors do not say all: an "
        "RNN is run with tanh, a GRU in torch's form. A whole model (.onnx) is run on the example "
        "that fastrnn.export recorded in it and on random inputs, through every engine and ONNX "
        "Runtime where it is installed.",
        epilog=f"tolerance: {tolerances}, times the largest value where that is above 1. "
        "Exit code 0: all within; 1: not, or a stack that cannot be loaded, or none in the file.",
    )
    parser.add_argument(
        "file", metavar="FILE", help="weights, as fastrnn.load takes them, or a whole model (.onnx)"
    )
    add_prefix(parser, "only this stack")
    add_compact(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_shape(add_options(parser))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare the engines on `args.file`; NO if they differ."""
    # Small products: BLAS threads would only wait for one another. SciPy is not loaded yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if is_model(args.file):
        return verify_model(args)
    if args.input and not args.weight_dtype:
        raise CommandError("--input is for the report of --weight-dtype", USAGE)
    torch = import_torch()
    report = []
    compact: dict[str, list[Error]] = {}
    with opened(args.file) as file:
        state = StateDict(file.weights)
        prefixes = state.prefixes
        if args.prefix or not prefixes:
            try:
                prefixes = [state.resolve(args.prefix)]
            except ValueError as error:
                raise FormatError(str(error)) from None
        if not args.json:
            say(f"{args.file}: largest absolute difference to the BLAS engine in float64")
        for found in find_stacks(state, prefixes):
            stack, differences = verify_stack(found, torch)
            report.append((stack, differences))
            if not args.json:
                _print_stack(stack, differences)
            if args.weight_dtype and stack.weights is not None:
                heads = output_layers(file.weights, stack.weights.config)
                errors = stack_errors(args, stack.weights, heads, torch)
                compact[stack.prefix] = errors
                if not args.json:
                    say_errors(errors, heads)
    ok = all(_agree(*entry) for entry in report)
    if args.json:
        say_json(_as_json(args.file, torch, report, ok, compact))
    else:
        say()
        say(f"torch {torch.__version__}" if torch else "torch is not installed: not compared")
        say(_verdict(report))
    return OK if ok else NO


def import_torch() -> ModuleType | None:
    """Return torch, or None where it is not installed."""
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError):  # OSError: a shared library of it is missing
        return None


def verify_stack(
    stack: FoundStack, torch: ModuleType | None
) -> tuple[FoundStack, list[Difference]]:
    """Run `stack` of an open file in every way and compare each with the reference.

    For a stack that cannot be loaded: the stack with its problem, and no differences.
    """
    if stack.weights is None or stack.config is None:
        return stack, []
    layer_type = LAYERS[stack.config.cell]
    try:
        layer = layer_type._for_stack(stack.weights, dtype=np.float32, engine="blas")
        layer._take(stack.weights)
    except (ValueError, TypeError) as error:
        return FoundStack(stack.prefix, None, str(error)), []
    rounded = layer.state_dict()
    x, hx = _random_input(stack.config)
    reference = layer_type.from_state_dict(rounded, dtype=np.float64, engine="blas")
    expected = _arrays(*reference(x, hx))
    scale = max(1.0, *(float(np.max(np.abs(array))) for array in expected))
    differences = []
    for dtype, tolerance in TOLERANCES.items():
        runs = _runs(rounded, stack.config, dtype, x, hx)
        if torch is not None:
            runs = chain(runs, _torch_runs(torch, rounded, stack.config, dtype, x, hx))
        for engine, mode, arrays in runs:
            largest = _largest_difference(arrays, expected)
            differences.append(Difference(engine, dtype, mode, largest, tolerance * scale))
    return stack, differences


def _random_input(config: StackConfig) -> tuple[Array, Any]:
    """Return x (T, B, I) and hx, float32: the same for the same sizes."""
    random = np.random.default_rng(SEED)
    states = config.num_layers * config.directions
    x = random.standard_normal((STEPS, ROWS, config.input_size), np.float32)
    h = random.uniform(-1, 1, (states, ROWS, config.output_size)).astype(np.float32)
    c = random.uniform(-1, 1, (states, ROWS, config.hidden_size)).astype(np.float32)
    return x, (h, c) if config.cell == "LSTM" else h


def _runs(
    weights: Mapping[str, Array], config: StackConfig, dtype: str, x: Array, hx: Any
) -> Iterator[tuple[str, str, list[Array]]]:
    """Yield (engine, mode, arrays) for every engine of this package."""
    for engine in available_engines(dtype):
        for isa in available_isas() if engine == "simd" else (None,):
            layer = LAYERS[config.cell].from_state_dict(
                weights, dtype=dtype, engine=engine, isa=isa
            )
            name = f"{engine} {isa}" if isa else engine
            if (engine, dtype) != ("blas", "float64"):  # that is the reference
                yield name, "whole", _arrays(*layer(x, hx))
            if not config.bidirectional:
                stream = layer.stream(batch=ROWS)
                stream.state = hx
                y = np.stack([stream.step(x_t) for x_t in x])
                yield name, "stream", _arrays(y, stream.state)


def _torch_runs(
    torch: ModuleType,
    weights: Mapping[str, Array],
    config: StackConfig,
    dtype: str,
    x: Array,
    hx: Any,
) -> Iterator[tuple[str, str, list[Array]]]:
    """Yield ("torch", mode, arrays) as `_runs` does."""

    def tensor(array: Array) -> Any:
        return torch.tensor(array, dtype=getattr(torch, dtype))

    proj = {"proj_size": config.proj_size} if config.proj_size else {}
    layer = getattr(torch.nn, config.cell)(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        bias=config.bias,
        bidirectional=config.bidirectional,
        dtype=getattr(torch, dtype),
        **proj,
    )
    layer.load_state_dict({name: tensor(array) for name, array in weights.items()})
    state = tuple(map(tensor, hx)) if isinstance(hx, tuple) else tensor(hx)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own slow paths
        y, state = layer(tensor(x), state)
    yield "torch", "whole", [array.numpy() for array in _arrays(y, state)]


def _arrays(y: Any, state: Any) -> list[Any]:
    return [y, *state] if isinstance(state, tuple) else [y, state]


def _largest_difference(arrays: list[Array], expected: list[Array]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.max([np.max(np.abs(a - b)) for a, b in zip(arrays, expected, strict=True)]))


def _agree(stack: FoundStack, differences: list[Difference]) -> bool:
    return stack.config is not None and all(difference.ok for difference in differences)


def _verdict(report: list[tuple[FoundStack, list[Difference]]]) -> str:
    """Say in one line how many stacks give the same answers."""
    broken = sum(stack.config is None for stack, _ in report)
    same = sum(_agree(*entry) for entry in report)
    counts = {
        "the same answers within tolerance": same,
        "different answers": len(report) - broken - same,
        "cannot be loaded": broken,
    }
    return "; ".join(f"{plural(n, 'stack')}: {what}" for what, n in counts.items() if n)


def _print_stack(stack: FoundStack, differences: list[Difference]) -> None:
    say()
    if stack.config is None:
        say(f"{stack.title}: cannot be loaded: {stack.problem}")
        return
    say(f"{stack.title}: {stack.config}")
    say_table(
        [
            (d.engine, d.dtype, d.mode, f"{d.largest:.1e}", "ok" if d.ok else "DIFFERS",
             f"(tolerance {d.tolerance:.1e})")
            for d in differences
        ]
    )  # fmt: skip
    if stack.config.bidirectional:
        say("  bidirectional: not streamed")
    if stack.config.cell == "RNN":
        say("  run with tanh: tensors do not say whether the model has relu (nonlinearity=)")


def _as_json(
    path: str,
    torch: ModuleType | None,
    report: list[tuple[FoundStack, list[Difference]]],
    ok: bool,
    compact: Mapping[str, list[Error]],
) -> dict[str, Any]:
    return {
        "file": path,
        "ok": ok,
        "torch": str(torch.__version__) if torch else None,
        "steps": STEPS,
        "rows": ROWS,
        "seed": SEED,
        "stacks": [
            {
                **stack_as_json(stack),
                "ok": _agree(stack, differences),
                **(
                    {"compact": errors_as_json(compact[stack.prefix])}
                    if stack.prefix in compact
                    else {}
                ),
                "differences": [
                    {
                        "engine": d.engine,
                        "dtype": d.dtype,
                        "mode": d.mode,
                        "max_abs_diff": d.largest if math.isfinite(d.largest) else None,
                        "tolerance": d.tolerance,
                        "ok": d.ok,
                    }
                    for d in differences
                ],
            }
            for stack, differences in report
        ],
    }
