"""`Worker`: the thread in which a `Batcher` calls the kernels."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.serve.request import Request
from fastrnn.serve.served import Pool
from fastrnn.serve.session import Session
from fastrnn.serve.stats import Stats

Array = npt.NDArray[Any]

RETRY_SECONDS = 0.01  # where there is no memory to say that a batch is done
ENDED = "the worker's thread was ended from outside"


class Batch:
    """What goes through one kernel call: a session, its stream's id and its request per row."""

    __slots__ = ("error", "ids", "requests", "sessions")

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.ids: list[int | None] = []
        self.requests: list[Request] = []
        self.error: BaseException | None = None

    def failure(self, name: str) -> RuntimeError:
        """Return an exception for one caller: each has its own traceback."""
        error = RuntimeError(f"{name}: the kernel call failed: {self.error}")
        error.__cause__ = self.error
        return error


class Worker:
    """One thread that steps batches in the order they are put, and hands each to `done`.

    Each batch that is put is handed on, whatever happens: where no thread can be had, and where one
    is ended from outside, with the error that says so. `done` is called in the thread, or in that
    of the caller, and may get a batch twice then.

    A request is touched by the thread only while it is in a batch here. The thread starts with the
    first batch.
    """

    def __init__(
        self,
        pool: Pool,
        max_batch: int,
        max_steps: int,
        batch_first: bool,
        stats: Stats,
        done: Callable[[Batch], object],
    ) -> None:
        self._pool = pool
        self._max_steps = max_steps
        self._axis = 0 if batch_first else 1  # of the rows, in the pool's runs
        self._stats = stats
        self._done = done
        self._x = np.empty((max_batch, *pool.input_shape), pool.dtype)
        self._y = np.empty((max_batch, *pool.output_shape), pool.dtype)
        self._frame_axes = tuple(range(-len(pool.input_shape), 0))
        self._batches: deque[Batch] = deque()
        self._wakings: SimpleQueue[bool] = SimpleQueue()  # one for each batch; False: the end
        self._thread: Thread | None = None
        self._serves = False  # whether the thread still looks at what is put

    def put(self, batch: Batch) -> None:
        """Have `batch` stepped."""
        if self._thread is None or not self._serves or not self._thread.is_alive():
            try:
                self._start()
            except Exception as error:  # the system has no more threads, or no memory for one
                self._thread = None
                batch.error = error
                self._hand_on(batch)
                return
        self._batches.append(batch)
        self._wakings.put(True)
        if not self._serves:  # ended from outside, perhaps before it saw this batch
            self._fail_rest()

    def end(self) -> None:
        """Have the thread end when it has stepped what was put."""
        self._wakings.put(False)

    def stop(self) -> None:
        """End the thread, and wait for its end."""
        if self._thread is not None:
            self._wakings.put(False)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        if self._thread is not None:
            self._thread.join()  # it is ending
        self._wakings = SimpleQueue()
        self._thread = Thread(
            target=self._work, args=(self._wakings,), name="fastrnn-batcher", daemon=True
        )
        self._serves = True
        self._thread.start()

    def _work(self, wakings: SimpleQueue[bool]) -> None:
        try:
            while wakings.get():
                self._step_first()
        finally:
            self._serves = False
            self._fail_rest()

    def _step_first(self) -> None:
        """Step the first batch. It is dropped when it was handed on, and not before."""
        batch = self._batches[0]
        try:
            self._step(batch)
        except BaseException as error:  # the callers' to handle; this thread goes on
            batch.error = error
            self._stats.errors += 1
        self._hand_on(batch)
        self._batches.popleft()

    def _hand_on(self, batch: Batch) -> None:
        while True:
            try:
                self._done(batch)
                return
            except MemoryError:
                time.sleep(RETRY_SECONDS)

    def _fail_rest(self) -> None:
        """Hand on what was put and will not be stepped."""
        while self._batches:
            with contextlib.suppress(IndexError):  # the other thread was faster
                batch = self._batches.popleft()
                batch.error = RuntimeError(ENDED)
                self._hand_on(batch)

    def _step(self, batch: Batch) -> None:
        """Advance each request of `batch` by as many steps as all of them have, up to max_steps."""
        requests = batch.requests
        steps = min(self._max_steps, min(len(r.frames) - r.done for r in requests))
        begin = perf_counter()
        if steps == 1:
            x, y = self._x[: len(requests)], self._y[: len(requests)]
            frames = [
                r.frames if len(r.frames) == 1 else r.frames[r.done : r.done + 1] for r in requests
            ]
            np.concatenate(frames, out=x)
            self._pool.step(batch.ids, x, out=y)
            end = perf_counter()
            for request, row in zip(requests, y, strict=True):
                request.output[request.done] = row
        else:
            x = np.stack([r.frames[r.done : r.done + steps] for r in requests], axis=self._axis)
            y = self._pool.run(batch.ids, x)
            end = perf_counter()
            for request, rows in zip(requests, np.moveaxis(y, self._axis, 0), strict=True):
                request.output[request.done : request.done + steps] = rows
        first = [r.since for r in requests if r.done == 0]
        for request in requests:
            request.done += steps
        try:
            self._measure(x, len(requests), steps, begin, end, first)
        except Exception:  # of memory: the step was made, and is answered
            self._stats.unmeasured += 1

    def _measure(
        self, x: Array, rows: int, steps: int, begin: float, end: float, since: list[float]
    ) -> None:
        stats = self._stats
        stats.frames += rows * steps
        stats.batches += 1
        stats.nan_frames += int(np.count_nonzero(np.isnan(x).any(axis=self._frame_axes)))
        stats.batch_size.add((rows,))
        stats.step_ms.add(((end - begin) * 1e3,))
        stats.queue_ms.add([(begin - moment) * 1e3 for moment in since])
