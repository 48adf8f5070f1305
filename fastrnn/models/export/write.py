"""`export`: from a torch module to an ONNX file that answers as the module does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastrnn.formats.replacing import replacing
from fastrnn.models.example import KEY, TOLERANCE, Example, largest
from fastrnn.models.export.calls import AxisOption, Call
from fastrnn.models.export.exporters import EXPORTERS, quiet, reason
from fastrnn.models.export.runs import Runs
from fastrnn.models.model import Model


def export(
    module: Any,
    args: Any,
    path: str | os.PathLike[str],
    *,
    batch_axis: AxisOption = 0,
    time_axis: AxisOption = 1,
    states: Sequence[str] = (),
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int | None = None,
    exporter: str | None = None,
) -> None:
    """Write a torch module to an ONNX file, and check that the file answers as the module does.

    torch's newer exporter is tried first, in which recurrent layers become one node each, then the
    older one. The file is run by fastrnn on the example, and on more and fewer rows and frames made
    of it; each output's largest absolute difference to the module's may be 2e-5 of that output's
    largest absolute value. Example and answer go into the file, for `fastrnn verify` (cut to what
    256 KiB hold). It is written beside `path` and takes its place when all is well.

    Parameters
    ----------
    module : torch.nn.Module
        Exported as in eval mode; its own modes are as before afterwards.
    args : tuple
        forward's positional arguments, as an example: tensors, or tuples, lists and dicts of them.
        What is no tensor is written into the file as a constant.
    path : str or path
        Such as "model.onnx".
    batch_axis : int, mapping of input name to int, or None
        As time_axis.
    time_axis : int, mapping of input name to int, or None
        The axes of the inputs whose length may change, in the file "batch" and "time". An int holds
        for every input (but no state has a time axis), a mapping for those that it names; None:
        there is none, as in a model of which one call is one step.
    states : sequence of str
        The inputs that carry state from call to call. forward returns the next values of them as
        the last of its outputs, in this order; in the file the output of state "h" is "h_out",
        by which `load_model` finds the pair.
    input_names, output_names : sequence of str, optional
        Names in the file. Otherwise inputs are called as forward's parameters ("hx_0" and "hx_1"
        where one is a tuple), outputs by the keys of the dict or the fields of the named tuple that
        forward returns, else "output", or "output_0" and so on. States' outputs are not listed.
    opset : int, optional
        The version of ONNX's operators; otherwise the exporter's own.
    exporter : {"dynamo", "torchscript"}, optional
        Use only the newer, or the older one.

    Raises
    ------
    ImportError
        If torch, onnx or onnxscript are not installed: they come with `fastrnn[export]`.
    ValueError
        For an axis or a name that does not fit the inputs, for a module that refuses another batch
        or length, or whose answers change from call to call.
    RuntimeError
        If neither exporter makes a file that answers as the module does; the message has both
        reasons.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh())
    >>> fastrnn.export(net, (torch.zeros(2, 50, 8),), "net.onnx", batch_axis=0, time_axis=1)
    >>> fastrnn.load_model("net.onnx").stream(batch=3).run(np.zeros((3, 7, 8), np.float32)).shape
    (3, 7, 16)
    """
    _check_installed()
    import torch

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"export: module is {type(module).__name__}, expected a torch.nn.Module")
    if exporter is not None and exporter not in EXPORTERS:
        raise ValueError(f"export: exporter={exporter!r}, expected one of {', '.join(EXPORTERS)}")
    args = args if isinstance(args, tuple) else (args,)
    call = Call(module, args, batch_axis, time_axis, states, input_names)
    with _in_eval(module), torch.no_grad():
        runs = Runs(module, call, states, output_names)
        request = runs.request(opset)
        reasons = []
        for name in [exporter] if exporter else EXPORTERS:
            try:
                with quiet():
                    proto = EXPORTERS[name](request)
                _write(path, proto, runs)
            except OSError:
                raise
            except Exception as error:  # whatever torch raises
                reasons.append(f"by {name}: {reason(error)}")
            else:
                return
    raise RuntimeError(f"export: {type(module).__name__}: {'; '.join(reasons)}") from None


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"export needs {error.name}: pip install 'fastrnn[export]'", name=error.name
        ) from error


@contextmanager
def _in_eval(module: Any) -> Iterator[None]:
    """Set every part of `module` to eval mode, and then back to its own."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _write(path: str | os.PathLike[str], proto: Any, runs: Runs) -> None:
    """Write the file, once what it answers has been checked."""
    del proto.graph.value_info[:]  # the exporters' guesses, some wrong at other lengths
    for value in proto.graph.output:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for length in runs.shapes(value.name):
            key = "dim_param" if isinstance(length, str) else "dim_value"
            shape.dim.add(**{key: length})
    if (example := runs.recorded()) is not None:
        proto.metadata_props.add(key=KEY, value=example.as_text())
    data = proto.SerializeToString()
    model = Model._from_file(data, {}, {"engine": "auto", "isa": None, "threads": 1})
    for run in runs.all:
        _compare(model, run.example)
    with replacing(path) as file:
        file.write(data)


def _compare(model: Model, example: Example) -> None:
    """Raise RuntimeError unless `model` gives the outputs of `example`."""
    if (names := list(model.inputs)) != list(example.inputs):
        raise RuntimeError(
            f"the file takes {', '.join(names)}, the module {', '.join(example.inputs)}"
        )
    got = model(**example.inputs)
    outputs = got if isinstance(got, Mapping) else dict(zip(model.outputs, [got], strict=True))
    off, name = largest(outputs, example.outputs)
    if not off <= TOLERANCE:
        sizes = ", ".join(f"{name} {value.shape}" for name, value in example.inputs.items())
        raise RuntimeError(
            f"the file's {name!r} is {off:.1e} off the module's for {sizes}, expected {TOLERANCE}"
        )
