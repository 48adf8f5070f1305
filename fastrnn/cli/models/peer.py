"""The same file in ONNX Runtime, where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NAME = "ONNX Runtime"


class Peer:
    """A session on one thread."""

    def __init__(self, path: str, fixed: Mapping[str, Any]) -> None:
        """Raises ImportError where it is not installed, and its own errors for the file."""
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what it says goes past Python
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.version = str(runtime.__version__)
        self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.fixed = {
            value.name: np.asarray(fixed[value.name], _TYPES[value.type]).reshape(
                [1] * len(value.shape) if np.size(fixed[value.name]) == 1 else -1
            )
            for value in self.session.get_inputs()
            if value.name in fixed
        }

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name."""
        made = self.session.run(None, {**inputs, **self.fixed})
        return dict(zip(self.outputs, made, strict=True))


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


def open_peer(path: str, fixed: Mapping[str, Any]) -> tuple[Peer | None, str]:
    """Return a Peer; or None and the reason, in words for people."""
    try:
        return Peer(path, fixed), ""
    except ImportError:
        return None, f"{NAME} is not installed: not compared"
    except Exception as error:  # whatever it raises: for files that fastrnn runs, and it does not
        reason = " ".join(str(error).split())[:200]
        return None, f"{NAME} does not run the file: {reason}"
