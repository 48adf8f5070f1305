"""`Runner`: one way to use one runtime; and ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.layers import LAYERS
from fastrnn.measure.cases import Case, Weights

Array = npt.NDArray[np.float32]


class Runner:
    """One way to use one runtime. `call(x)` advances the state by the case's steps.

    It carries its own state from call to call, where the case does, gets x in its own form of
    array (`convert`, which is not timed), and leaves y in its own form (`to_numpy`). As NumPy, x
    and y have the case's shapes.
    """

    name = ""
    call: Callable[[Any], Any]  # x to y, both in its own form; the next call may overwrite y

    def __init__(self, case: Case) -> None:
        self.case = case
        self.sequence_shape = (case.steps, case.batch, case.input_size)

    def convert(self, x: Array) -> Any:
        """Return x in this runtime's own form."""
        return x.reshape(self.sequence_shape)

    def enter(self) -> None:
        """Before some calls: sets what is global in the runtime."""

    def to_numpy(self, y: Any) -> Array:
        """Return a copy."""
        return np.array(y, np.float32).reshape(self.case.y_shape)


# Of h, which is below 1, with weights in 8 bits, and then in 13: what it may be off by, as RMS.
COMPACT_RMS = {"int8": 0.05, "int16": 0.005}


class Fastrnn(Runner):
    """Ours: a stream, or whole sequences if the stack is bidirectional."""

    def __init__(self, case: Case, weights: Weights, **options: Any) -> None:
        """`options` are the layer's: engine, isa, threads, weight_dtype."""
        super().__init__(case)
        self.layer = LAYERS[case.cell].from_state_dict(weights, **options)
        engine = self.layer.engine
        self.how: dict[str, Any] = {
            "engine": engine,
            "isa": self.layer.isa,
            "threads": self.layer.threads,
            "weight_dtype": self.layer.weight_dtype,
        }
        self.rms = COMPACT_RMS.get(self.layer.weight_dtype)  # None: floats, nearly the same
        isa = f" {self.layer.isa}" if self.layer.isa else ""
        stored = f" {self.layer.weight_dtype}" if self.rms else ""
        self.name = f"{engine}{isa}{stored} threads={self.layer.threads}"
        if not case.carries_state:
            self.call = self._sequence
            return
        self.stream = self.layer.stream(case.batch)
        self.out = np.empty(case.y_shape, np.float32)
        self.call = self._step if case.is_step else self.stream.run

    def convert(self, x: Array) -> Array:
        """Return x as it is."""
        return x

    def _step(self, x: Array) -> Array:
        y: Array = self.stream.step(x, out=self.out)
        return y

    def _sequence(self, x: Array) -> Array:
        y: Array = self.layer(x)[0]
        return y
