from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

CELLS: dict[str, int]

def as_array(value: Any, dtype: Any, what: str) -> npt.NDArray[Any]: ...

@final
class Stack:
    dtype: np.dtype[Any]
    num_layers: int
    directions: int
    input_size: int
    hidden_size: int
    output_size: int
    has_cell_state: bool
    @property
    def packed_bytes(self) -> int: ...
    def __new__(
        cls,
        engine: Any,
        cell: str,
        weights: Sequence[tuple[npt.NDArray[Any] | None, ...]],
        *,
        bidirectional: bool = False,
        reset_after: bool = True,
        relu: bool = False,
        threads: int = 1,
    ) -> Self: ...
    def run(
        self,
        x: npt.NDArray[Any],
        h: npt.NDArray[Any],
        c: npt.NDArray[Any] | None = None,
        y: npt.NDArray[Any] | None = None,
        rows: npt.NDArray[np.intp] | None = None,
        gates: npt.NDArray[Any] | None = None,
    ) -> None: ...

@final
class Stepper:
    stack: Stack
    batch: int
    def __new__(cls, stack: Stack, name: str, batch: int | None) -> Self: ...
    def step(self, x: Any, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]: ...
    def run(self, x: Any) -> npt.NDArray[Any]: ...
    def get_state(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]: ...
    def set_state(self, h: Any, c: Any) -> None: ...
    def reset(self, rows: Any = None) -> None: ...
