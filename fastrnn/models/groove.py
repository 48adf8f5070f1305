"""`Groove`: a run that a stream has for itself, whose states go round in its own arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from operator import setitem
from typing import Any

import numpy as np

from fastrnn.models.ops.table import Array
from fastrnn.models.runner import Run


class Groove:
    """One call after another with inputs of the same types and shapes: nothing is looked up again.

    Parameters
    ----------
    given : views of the run's inputs as a caller has them
    made : views of its outputs as a caller wants them
    states, news : where the run reads each state, and where it leaves the next one

    Attributes
    ----------
    states : where the states are between two calls
    """

    def __init__(
        self,
        run: Run,
        given: Sequence[Array],
        made: Sequence[Array],
        states: Sequence[Array],
        news: Sequence[Array],
    ) -> None:
        assert run.bound is not None
        self.run = run
        self._given, self._made = tuple(given), tuple(made)
        self._types = [(view.shape, view.dtype) for view in given]
        # One state may become another, or an output be a state.
        mixed = any(np.may_share_memory(a, b) for a in run.inputs for b in news)
        calls = None if mixed else run.bound.without_copies(list(zip(states, news, strict=True)))
        self._news: Sequence[Array]
        self._compute: Callable[[], Any]
        if calls is not None:  # what comes is left where it is read
            _copy_all(news, states)
            self.states, self._news = list(news), ()
            self._compute = partial(_call_all, calls)
        else:
            self.states, self._news = list(states), tuple(news)
            self._compute = run.bound
        self._mixed = mixed

    def fits(self, args: Sequence[Any]) -> bool:
        """Whether these are arrays of the same types and shapes as before."""
        if len(args) != len(self._types):
            return False
        for array, (shape, dtype) in zip(args, self._types, strict=True):
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
        return True

    def __call__(self, args: Sequence[Array], out: Array | None = None) -> list[Array]:
        """The outputs, copied; the states are advanced when nothing more can fail.

        Raises
        ------
        ValueError, TypeError
            A node cannot be computed, or `out` does not fit the only output.
        """
        if out is not None:
            check_out(out, self._made)
        for view, array in zip(self._given, args, strict=True):
            view[...] = array
        self._compute()
        if out is None:
            made = [array.copy() for array in self._made]
        else:
            out[...] = self._made[0]
            made = [out]
        if self._news:
            _copy_all(self.states, [n.copy() for n in self._news] if self._mixed else self._news)
        return made


def _copy_all(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """All or, where a signal's handler raises, none: no line of Python is between them."""
    assign: Any = setitem  # whose overloads know no ellipsis
    deque(map(assign, targets, repeat(...), sources), maxlen=0)


def _call_all(calls: Sequence[Callable[[], Any]]) -> None:
    for call in calls:
        call()


def check_out(out: Any, made: Sequence[Array]) -> None:
    """ValueError or TypeError unless `out` can take the only output."""
    if len(made) != 1:
        raise ValueError(f"out is for models with one output, this has {len(made)}")
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is {type(out).__name__}, expected an array")
    if out.dtype != made[0].dtype or not out.flags.writeable:
        raise TypeError(f"out is not a writeable array of {made[0].dtype}")
    if out.shape != made[0].shape:
        raise ValueError(f"out is {out.shape}, expected {made[0].shape}")
