"""How long units remember, by the gate that keeps their state from one step to the next.

Shapes: T steps, H units.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# What a unit's state is multiplied by at each step: c = f*c + i*g, h = (1 - z)*n + z*h.
RETAINING_GATE = {"LSTM": "forget", "GRU": "update"}

ORDERS = ("retention", "peak", "index")


def half_lives(gate: Array) -> Array:
    """After how many steps half of a unit's state is left, by the gate's geometric mean.

    A state that nothing is added to is multiplied by the gate g at each step, so that T steps leave
    the product of g over T, and half is left after log(1/2) / mean(log(g)) steps.

    Parameters
    ----------
    gate : array (T, H), values from 0 to 1

    Returns
    -------
    float64 (H,)
        In steps. 0 for a unit whose gate was shut at some step, infinite where it was always open.
    """
    with np.errstate(divide="ignore"):
        mean_log = np.log(gate, dtype=np.float64).mean(axis=0)
        steps: Array = np.abs(math.log(2) / mean_log)
    return steps


def unit_order(values: Array, how: str) -> Array:
    """Return unit numbers in the order in which a heat map of them shows structure.

    Parameters
    ----------
    values : array (T, H)
        The retaining gate for "retention", a state for "peak".
    how : str
        "retention": the longest half-life first; "peak": by the step at which the unit is farthest
        from 0; "index": as they are.

    Returns
    -------
    intp (H,)
    """
    if how == "index":
        return np.arange(values.shape[1])
    key = -half_lives(values) if how == "retention" else np.abs(values).argmax(axis=0)
    return np.argsort(key, kind="stable")
