from typing import Any

import numpy as np
import numpy.typing as npt

def quantised(
    matrix: npt.NDArray[np.float32],
    codes: npt.NDArray[Any],
    scale: npt.NDArray[np.float32],
    largest: float,
) -> None: ...
