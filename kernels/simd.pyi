from typing import Any

import numpy as np
import numpy.typing as npt

ISAS: tuple[str, ...]
BEST: str
ENGINES: dict[str, Any]

def multiply_adds(isa: str, rounds: int, weights: str = "float32") -> float: ...
def read_memory(
    isa: str, memory: npt.NDArray[np.float32], streams: int = 1, repeats: int = 1
) -> None: ...
