from collections.abc import Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

CELLS: dict[str, int]
WEIGHTS: dict[np.dtype[Any], tuple[np.dtype[Any], int]]
PARAMETERS: tuple[str, ...]

def as_array(value: Any, dtype: Any, what: str) -> npt.NDArray[Any]: ...
def as_state(
    value: Any, dtype: Any, shape: tuple[int, int, int], what: str
) -> npt.NDArray[Any]: ...

@final
class Stack:
    dtype: np.dtype[Any]
    weight_dtype: np.dtype[Any]
    @property
    def num_layers(self) -> int: ...
    @property
    def directions(self) -> int: ...
    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...
    @property
    def has_cell_state(self) -> bool: ...
    @property
    def capsule(self) -> Any: ...
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
    def unpack(self, index: int) -> tuple[npt.NDArray[Any] | None, ...]: ...
    def run(
        self,
        x: npt.NDArray[Any],
        h: npt.NDArray[Any],
        c: npt.NDArray[Any] | None = None,
        y: npt.NDArray[Any] | None = None,
        rows: npt.NDArray[np.intp] | None = None,
        gates: npt.NDArray[Any] | None = None,
    ) -> None: ...
