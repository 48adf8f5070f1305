from typing import final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from fastrnn._kernels.core import WEIGHTS as WEIGHTS
from fastrnn._kernels.simd import ENGINES as ENGINES

ACTIVATIONS: dict[str, int]
REDUCTIONS: dict[str, int]

@final
class Over:
    relu: bool
    def __call__(self) -> None: ...

@final
class Activation:
    def __call__(self) -> None: ...

@final
class Reduction:
    def __call__(self) -> None: ...

@final
class Product:
    inputs: int
    outputs: int
    @property
    def packed_bytes(self) -> int: ...
    def __new__(
        cls,
        isa: str,
        weight: npt.ArrayLike,
        bias: npt.ArrayLike | None = None,
        threads: int = 1,
        scale: npt.ArrayLike | None = None,
    ) -> Self: ...
    def run(
        self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]: ...
    def over(
        self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32], axes: int = 1
    ) -> Over: ...

def activation_over(
    isa: str, name: str, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> Activation: ...
def rows_over(name: str, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> Reduction: ...
def is_dense(x: npt.NDArray[np.float32]) -> bool: ...
