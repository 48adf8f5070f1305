"""A model's file in ONNX Runtime, on one thread, with the settings that are best for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

NAME = "ONNX Runtime"

_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class Session:
    """A file, and values for those of its inputs that are always the same."""

    def __init__(self, path: str, fixed: Mapping[str, Any]) -> None:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what it says goes past Python
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.version = str(runtime.__version__)
        self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.fixed = {}
        for value in self.session.get_inputs():
            if value.name in fixed:
                array = np.asarray(fixed[value.name], _TYPES[value.type])
                one = array.size == 1
                self.fixed[value.name] = array.reshape([1] * len(value.shape)) if one else array

    def __call__(self, inputs: Arrays) -> dict[str, Array]:
        """Return the outputs by name; ValueError where it cannot compute them from `inputs`."""
        try:
            made = self.session.run(None, {**inputs, **self.fixed})
        except Exception as error:  # its own types, which have no base but Exception
            raise ValueError(f"{NAME}: {_reason(error)}") from error
        return dict(zip(self.outputs, made, strict=True))


def open_session(path: str, fixed: Mapping[str, Any]) -> tuple[Session | None, str]:
    """Return a Session; or None and the reason, in words for people."""
    try:
        return Session(path, fixed), ""
    except ImportError:
        return None, f"{NAME} is not installed: not compared"
    except Exception as error:  # whatever it raises: for files that fastrnn runs, and it does not
        return None, f"{NAME} does not run the file: {_reason(error)}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


class Run:
    """Plain `run`, which allocates its outputs; those that are states are the next call's inputs.

    states: input -> output.
    """

    name = f"{NAME} run"

    def __init__(self, session: Session, inputs: Arrays, states: Mapping[str, str]) -> None:
        self.session, self.feed = session.session, {**inputs, **session.fixed}
        self.outputs = session.outputs
        self.carried = [(name, self.outputs.index(after)) for name, after in states.items()]

    def __call__(self, given: Arrays) -> dict[str, Array]:
        """Return the outputs by name, for inputs that are no states."""
        self.feed.update(given)
        made = self.session.run(None, self.feed)
        for name, place in self.carried:
            self.feed[name] = made[place]
        return dict(zip(self.outputs, made, strict=True))


class Bound:
    """I/O binding to buffers that stay; states have two, which take turns."""

    name = f"{NAME} binding"

    def __init__(self, session: Session, inputs: Arrays, states: Mapping[str, str]) -> None:
        made = session(inputs)
        self.given = {n: np.array(a, order="C") for n, a in inputs.items() if n not in states}
        pairs = [{n: np.array(inputs[n], order="C") for n in states} for _ in range(2)]
        self.session = session.session
        self.turns = []
        for old, new in (pairs, pairs[::-1]):
            outputs = {n: np.empty_like(a, order="C") for n, a in made.items()}
            outputs |= {states[n]: a for n, a in new.items()}
            binding = self.session.io_binding()
            for name, array in {**self.given, **old, **session.fixed}.items():
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            self.turns.append((binding, outputs))
        self.fixed = session.fixed  # bound by address

    def __call__(self, given: Arrays) -> dict[str, Array]:
        """Return the outputs by name, in buffers that the call after the next writes to."""
        for name, array in given.items():
            self.given[name][...] = array
        binding, outputs = self.turns[0]
        self.session.run_with_iobinding(binding)
        self.turns.reverse()
        return outputs
