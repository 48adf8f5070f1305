"""What a layer says of itself: its sizes, and how it computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.layers.habits import FromTorch
from fastrnn.layers.options import Computation
from fastrnn.layers.weights import StackConfig


class Described(FromTorch):
    """The properties of a layer, none of which can be set."""

    _config: StackConfig
    _computation: Computation
    _batch_first: bool
    _dropout: float
    _folded: dict[str, str]

    @property
    def input_size(self) -> int:
        """Features of one frame, I."""
        return self._config.input_size

    @property
    def hidden_size(self) -> int:
        """Units of each layer and direction, H."""
        return self._config.hidden_size

    @property
    def num_layers(self) -> int:
        """Layers on top of one another, L."""
        return self._config.num_layers

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return self._config.bias

    @property
    def bidirectional(self) -> bool:
        """Whether there is a reverse direction, which cannot be streamed."""
        return self._config.bidirectional

    @property
    def proj_size(self) -> int:
        """Features of an LSTM's projected h, P; 0 without a projection."""
        return self._config.proj_size

    @property
    def batch_first(self) -> bool:
        """Whether x and y are (B, T, ...) rather than (T, B, ...)."""
        return self._batch_first

    @property
    def dropout(self) -> float:
        """What the constructor was given; ignored, as in eval mode."""
        return self._dropout

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is computed in and returned: float32 or float64."""
        return self._computation.dtype

    @property
    def engine(self) -> str:
        """The engine that computes: "simd" or "blas"."""
        return self._computation.engine

    @property
    def isa(self) -> str | None:
        """The SIMD engine's instruction set; None on the BLAS engine."""
        return self._computation.isa

    @property
    def threads(self) -> int:
        """How many threads one call may take at most."""
        return self._computation.threads

    @property
    def weight_dtype(self) -> str:
        """What weights are stored as: "int8", "int16", or the dtype's name."""
        return self._computation.weight_dtype

    @property
    def folded(self) -> dict[str, str]:
        """Parameters that were kept in parts, and the form that each was folded from."""
        return dict(self._folded)
