from typing import Any, final

import numpy.typing as npt
from typing_extensions import Self

from fastrnn._kernels.core import Stack

@final
class Stepper:
    stack: Stack
    batch: int
    def __new__(
        cls, stack: Stack, name: str, batch: int | None, initial: tuple[Any, Any] | None = None
    ) -> Self: ...
    def step(self, x: Any, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]: ...
    def run(self, x: Any) -> npt.NDArray[Any]: ...
    def get_state(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]: ...
    def set_state(self, h: Any, c: Any) -> None: ...
    def reset(self, rows: Any = None) -> None: ...

@final
class Bound:
    def __new__(cls, stepper: Stepper, x: npt.NDArray[Any], out: npt.NDArray[Any]) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]: ...  # takes none

STREAMS: object
