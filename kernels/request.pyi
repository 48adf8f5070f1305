from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

@final
class Request:
    future: Any
    frames: Any
    output: Any
    steps: int
    done: int
    since: float
    action: Any
    def __new__(
        cls, future: Any, frames: Any, output: Any, steps: int, since: float, action: Any = None
    ) -> Self: ...

def least_steps(requests: list[Request]) -> int: ...
def gather(requests: list[Request], x: npt.NDArray[Any], steps: int, rows_first: bool) -> int: ...
def scatter(requests: list[Request], y: npt.NDArray[Any], steps: int, rows_first: bool) -> None: ...
def waits(requests: list[Request], steps: int, begin: float) -> npt.NDArray[np.float64]: ...
