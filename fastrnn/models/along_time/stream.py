"""`TimeStream`: a model whose frames come one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.errors import BusyError
from fastrnn.models.along_time.unrolled import Unrolled
from fastrnn.models.ops.table import Array

NAME = "model stream"


class TimeStream:
    """B streams through a model without states, along time; made by `model.stream(batch)`.

    What `run` and `finish` return is, put together, what the whole call returns, bit for bit.
    """

    def __init__(self, unrolled: Unrolled, batch: int | None) -> None:
        self.batch = batch
        self._unrolled = unrolled
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._phase = 0
        self._kept = self._unrolled.begin(self.batch or 1)
        self._finished = False

    def run(self, x) -> Any:
        return self._turn(np.asarray(x), False)

    def finish(self):
        return self._turn(None, True)

    def _turn(self, x, last):
        u = self._unrolled
        rows = self.batch or 1
        value = u.graph.inputs[0]
        t = u.axes.time[value.name]; b = u.axes.batch[value.name]
        frames = 0 if x is None else x.shape[t]
        turn = u.turn(self._phase, frames, last, rows)
        inputs = []
        if turn.takes:
            inputs.append(np.moveaxis(x, b, 0) if b is not None else x[None])
        inputs += [self._kept[k.key] for k in turn.before]
        run = turn.runner.take(rows, inputs)
        for buf, a in zip(run.inputs, inputs): np.copyto(buf, a)
        run.run()
        outs = run.outputs
        made = dict(zip(turn.made, [o.copy() for o in outs]))
        for k, o in zip(turn.after, outs[len(turn.made):]):
            self._kept[k.key] = o.copy()
        turn.runner.give(run)
        self._phase = turn.phase
        res = {}
        for name, fact in u.outputs.items():
            if name in made:
                a = made[name]
                res[name] = np.moveaxis(a, 0, fact.batch) if fact.batch is not None else a[0]
            else:
                res[name] = np.empty(fact.shape(rows, 0), fact.dtype)
        return res if len(res) > 1 else next(iter(res.values()))
