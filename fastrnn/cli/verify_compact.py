"""`fastrnn verify --weight-dtype`: what small integers for weights do to a stack's answers."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli.output import CommandError, say, say_table
from fastrnn.cli.trace_input import opened
from fastrnn.formats.arrays import View
from fastrnn.layers import LAYERS
from fastrnn.layers.compact import LARGEST
from fastrnn.layers.statedict import StackWeights
from fastrnn.layers.weights import StackConfig

Array = npt.NDArray[Any]

MOST_HEADS = 8  # output layers that are reported
STEPS, ROWS, SEED = 200, 4, 1


@dataclass(frozen=True)
class Error:
    """How far h is from that of float64, by one way of storing and computing."""

    way: str  # "float32", "int8", "torch int8"
    rms: float
    largest: float
    decisions: Mapping[str, float]  # by output layer, the share that is another one


def add_compact(parser: argparse.ArgumentParser) -> None:
    """Add --weight-dtype and --input."""
    parser.add_argument(
        "--weight-dtype",
        choices=sorted(LARGEST),
        help="report too how far h is from float64's with weights stored so, beside float32 and "
        "torch's dynamic int8, and which decisions of output layers in the file change",
    )
    parser.add_argument(
        "--input",
        metavar="X.npy",
        help="for that report: (T, I) or (T, B, I); without it, random numbers",
    )


def stack_errors(
    args: argparse.Namespace,
    weights: StackWeights,
    heads: Mapping[str, tuple[Any, Any]],
    torch: ModuleType | None,
) -> list[Error]:
    """Return the errors of `args.weight_dtype` on the input that `args` names.

    Raises
    ------
    CommandError
        If that is no input of the stack.
    """
    config = weights.config
    x = random_input(config)
    if args.input:
        x = _read_rows(args.input, config.input_size)
        if not np.isfinite(x).all():
            raise CommandError(f"{args.input}: holds NaN or infinite values, expected finite ones")
    layer = LAYERS[config.cell]._for_stack(weights, dtype=np.float32, engine="blas")
    layer._take(weights)
    return compact_errors(layer.state_dict(), config, args.weight_dtype, x, heads, torch)


def _read_rows(path: str, input_size: int) -> Array:
    """Return x (T, B, I), float32, of a file that holds it or (T, I)."""
    with opened(path) as file:
        view = file.view
        fits = len(view.shape) in (2, 3) and view.shape[-1] == input_size and 0 not in view.shape
        if not fits or np.dtype(view.dtype).kind not in "fiu":
            raise CommandError(
                f"{path}: {view.dtype} of shape {view.shape}, expected real numbers "
                f"(T, {input_size}) or (T, B, {input_size})"
            )
        if len(view.shape) == 2:
            return file.read(view)[:, None].astype(np.float32)
        steps, rows, _ = view.shape
        time, row, feature = view.strides
        views = [
            View(view.dtype, (steps, input_size), (time, feature), i * row) for i in range(rows)
        ]
        return np.stack([file.read(one) for one in views], axis=1).astype(np.float32)


def random_input(config: StackConfig) -> Array:
    """Return x (T, B, I), float32: the same for the same sizes."""
    shape = (STEPS, ROWS, config.input_size)
    return np.random.default_rng(SEED).standard_normal(shape, np.float32)


def output_layers(weights: Mapping[str, Any], config: StackConfig) -> dict[str, tuple[Any, Any]]:
    """The linear layers in a file that h could be the input of: (weight, bias or 0) by name."""
    width = config.output_size * config.directions
    heads = {}
    for name, value in weights.items():
        if not name.endswith("weight") or "weight_" in name.rpartition(".")[2]:
            continue
        if len(np.shape(value)) == 2 and np.shape(value)[1] == width:
            bias = weights.get(f"{name.removesuffix('weight')}bias")
            fits = bias is not None and np.shape(bias) == np.shape(value)[:1]
            heads[name] = (np.asarray(value), np.asarray(bias) if fits else np.float32(0))
    return dict(list(heads.items())[:MOST_HEADS])


def compact_errors(
    parameters: Mapping[str, Array],
    config: StackConfig,
    weight_dtype: str,
    x: Array,
    heads: Mapping[str, tuple[Any, Any]],
    torch: ModuleType | None,
) -> list[Error]:
    """Run x (T, B, I) from a state of zeros in every way, and compare y with float64's."""
    layer_type = LAYERS[config.cell]
    truth = layer_type.from_state_dict(parameters, dtype=np.float64, engine="blas")(x)[0]
    decided = {name: _decisions(truth, *head) for name, head in heads.items()}
    return [
        Error(
            way,
            float(np.sqrt(np.mean((y - truth) ** 2))),
            float(np.abs(y - truth).max()),
            {
                name: float(np.mean(_decisions(y, *head) != decided[name]))
                for name, head in heads.items()
            },
        )
        for way, y in _ways(parameters, config, weight_dtype, x, torch)
    ]


def say_errors(errors: list[Error], heads: Mapping[str, tuple[Any, Any]]) -> None:
    """Print a table of them, and what an output layer would decide otherwise."""
    say("  h against float64:")
    say_table([(e.way, f"rms {e.rms:.1e}", f"largest {e.largest:.1e}") for e in errors])
    if not heads:
        say("  no output layer of its width in the file: decisions are not compared")
    for name, (weight, _) in heads.items():
        kind = "sign" if len(weight) == 1 else f"largest of {len(weight)}"
        changed = ", ".join(f"{e.way} {e.decisions[name]:.2%}" for e in errors)
        say(f"  decisions of {name} ({kind}) that change: {changed}")


def errors_as_json(errors: list[Error]) -> list[dict[str, Any]]:
    """Return them as --json has them."""
    return [
        {"way": e.way, "rms": e.rms, "max_abs_diff": e.largest, "decisions": dict(e.decisions)}
        for e in errors
    ]


def _decisions(y: Array, weight: Array, bias: Any) -> Array:
    """What the output layer says of each step: its largest output, or the sign of its only one."""
    logits = y.astype(np.float64) @ weight.T.astype(np.float64) + bias
    decided: Array = logits[..., 0] > 0 if logits.shape[-1] == 1 else logits.argmax(-1)
    return decided


def _ways(
    parameters: Mapping[str, Array],
    config: StackConfig,
    weight_dtype: str,
    x: Array,
    torch: ModuleType | None,
) -> Iterator[tuple[str, Array]]:
    for way in dict.fromkeys(("float32", weight_dtype)):
        layer = LAYERS[config.cell].from_state_dict(
            parameters, dtype=np.float32, engine="simd", weight_dtype=way
        )
        yield way, layer(x)[0]
    if torch is not None and config.cell != "RNN" and not config.proj_size:
        yield "torch int8", _torch_int8(torch, parameters, config, x)


def _torch_int8(
    torch: ModuleType, parameters: Mapping[str, Array], config: StackConfig, x: Array
) -> Array:
    """Torch's dynamic quantization, each row by itself: its scale is that of the whole batch."""
    kind = getattr(torch.nn, config.cell)
    module = torch.nn.Sequential(
        kind(
            config.input_size,
            config.hidden_size,
            config.num_layers,
            bias=config.bias,
            bidirectional=config.bidirectional,
        )
    )
    module[0].load_state_dict({k: torch.tensor(np.array(v)) for k, v in parameters.items()})
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        dynamic = torch.ao.quantization.quantize_dynamic(module, {kind}, dtype=torch.qint8)[0]
        rows = [dynamic(torch.tensor(x[:, row : row + 1]))[0].numpy() for row in range(x.shape[1])]
    return np.concatenate(rows, axis=1)
