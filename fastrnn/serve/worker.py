"""`Worker`: the thread in which a `Batcher` calls the kernels."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.serve.session import Request, Session
from fastrnn.serve.stats import Stats

Array = npt.NDArray[Any]


class Batch:
    """What goes through one kernel call: a session, its stream's id and its request per row."""

    __slots__ = ("error", "ids", "requests", "rows", "sessions")

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.ids: list[int | None] = []
        self.requests: list[Request] = []
        self.rows: list[Array | None] = []  # (P,) of each request of one frame
        self.error: BaseException | None = None


class Worker:
    """One thread that steps batches in the order they are put, and hands each to `done`.

    A request is touched by this thread only while it is in a batch here. The thread starts with the
    first batch.
    """

    def __init__(
        self,
        pool: Any,
        max_batch: int,
        max_steps: int,
        batch_first: bool,
        stats: Stats,
        done: Callable[[Batch], object],
    ) -> None:
        self._pool = pool
        self._max_steps = max_steps
        self._batch_first = batch_first
        self._stats = stats
        self._done = done
        self._x = np.empty((max_batch, pool.input_size), pool.dtype)
        self._y = np.empty((max_batch, pool.output_size), pool.dtype)
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread: Thread | None = None

    def put(self, batch: Batch) -> None:
        """Have `batch` stepped."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="fastrnn-batcher", daemon=True)
            self._thread.start()
        self._batches.put(batch)

    def stop(self) -> None:
        """End the thread, which has nothing left to do, and wait for its end."""
        if self._thread is not None:
            self._batches.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._step(batch)
            except BaseException as error:  # the callers' to handle; this thread goes on
                batch.error = error
                self._stats.errors += 1
            try:
                self._done(batch)
            except RuntimeError:  # the event loop is closed, and nobody waits
                return
            del batch  # nothing of it is kept until the next one comes

    def _step(self, batch: Batch) -> None:
        """Advance each request of `batch` by as many steps as all of them have, up to max_steps."""
        requests = batch.requests
        steps = min(self._max_steps, min(len(r.frames) - r.done for r in requests))
        begin = perf_counter()
        if steps == 1:
            x, y = self._x[: len(requests)], self._y[: len(requests)]
            np.concatenate(
                [r.frames if r.output is None else r.frames[r.done : r.done + 1] for r in requests],
                out=x,
            )
            self._pool.step(batch.ids, x, out=y)
            end = perf_counter()
            for request, row in zip(requests, y, strict=True):
                if request.output is None:
                    batch.rows.append(row.copy())
                else:
                    request.output[request.done] = row
                    batch.rows.append(None)
        else:
            axis = 0 if self._batch_first else 1  # of the rows
            x = np.stack([r.frames[r.done : r.done + steps] for r in requests], axis=axis)
            y = self._pool.run(batch.ids, x)
            end = perf_counter()
            for request, row in zip(requests, np.moveaxis(y, axis, 0), strict=True):
                assert request.output is not None  # it has more than one frame
                request.output[request.done : request.done + steps] = row
                batch.rows.append(None)
        self._count(requests, x, steps, begin, end)
        for request in requests:
            request.done += steps

    def _count(
        self, requests: list[Request], x: Array, steps: int, begin: float, end: float
    ) -> None:
        stats = self._stats
        stats.frames += len(requests) * steps
        stats.batches += 1
        stats.nan_frames += int(np.count_nonzero(np.isnan(x).any(axis=-1)))
        stats.batch_size.add((len(requests),))
        stats.step_ms.add(((end - begin) * 1e3,))
        stats.queue_ms.add([(begin - r.since) * 1e3 for r in requests if r.done == 0])
