"""The fingerprint of a layer, which saved states carry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from fastrnn.layers.weights import StackConfig

Array = npt.NDArray[Any]


def model_fingerprint(
    config: StackConfig, weights: Mapping[str, Array], cell_options: Mapping[str, Any]
) -> bytes:
    """SHA-256 of what a model computes: cell, sizes, options, dtype and weights.

    Not of how: engine, ISA, threads and the layout of batches do not matter. What is hashed is
    spelled out, and must stay: states are kept for longer than versions.
    """
    sizes = (config.input_size, config.hidden_size, config.num_layers, config.proj_size)
    flags = (f"bias={config.bias}", f"bidirectional={config.bidirectional}")
    options = sorted(f"{name}={value}" for name, value in cell_options.items())
    digest = hashlib.sha256(" ".join(map(str, (config.cell, *sizes, *flags, *options))).encode())
    for name, value in weights.items():
        digest.update(f"{name} {value.dtype.name} {value.shape}".encode())
        digest.update(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()
