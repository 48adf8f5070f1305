"""What tests of the command share: recurrent stacks with random values, packages that are not."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

from fastrnn.layers.weights import StackConfig


def stack_weights(prefix: str, config: StackConfig, dtype: str = "float32") -> dict[str, Any]:
    """The state dict of a stack under `prefix`, drawn as torch's layers are initialised."""
    random = np.random.default_rng(0)
    bound = config.hidden_size**-0.5
    dot = "." if prefix else ""
    return {
        f"{prefix}{dot}{name}": random.uniform(-bound, bound, shape).astype(dtype)
        for name, shape in config.shapes().items()
    }


def block_imports(monkeypatch: pytest.MonkeyPatch, blocked: str) -> None:
    """As if the package `blocked` were not installed."""
    for name in [*sys.modules]:
        if name.partition(".")[0] == blocked or name.startswith("fastrnn.plots"):
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == blocked:
            raise ModuleNotFoundError(f"No module named {blocked!r}", name=blocked)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
