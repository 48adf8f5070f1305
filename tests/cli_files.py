"""Weights for the tests of the command: recurrent stacks with random values."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.weights import StackConfig


def stack_weights(prefix: str, config: StackConfig, dtype: str = "float32") -> dict[str, Any]:
    """The state dict of a stack under `prefix`, drawn as torch's layers are initialised."""
    random = np.random.default_rng(0)
    bound = config.hidden_size**-0.5
    dot = "." if prefix else ""
    return {
        f"{prefix}{dot}{name}": random.uniform(-bound, bound, shape).astype(dtype)
        for name, shape in config.shapes().items()
    }
