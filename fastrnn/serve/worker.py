"""`Worker`: the thread in which a `Batcher` calls the kernels, and what is handed to it."""

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

from fastrnn._kernels.request import Request, gather, least_steps, scatter, waits
from fastrnn.serve.served import Pool
from fastrnn.serve.session import Session
from fastrnn.serve.stats import Stats

Array = npt.NDArray[Any]

RETRY_SECONDS = 0.01  # where there is no memory to say that a batch is done
ENDED = "the worker's thread was ended from outside"


class Batch:
    """What goes through one kernel call: a session, its stream's id and its request per row.

    It is filled and emptied in the event loop's thread, whose core has the requests in its cache;
    the thread that makes the call finds the frames side by side.
    """

    __slots__ = (
        "began", "buffers", "error", "ids", "nans", "requests", "seconds", "sessions", "steps",
        "x", "y",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.ids: list[int | None] = []
        self.requests: list[Request] = []
        self.steps = 0  # of the call; each request has as many left
        self.buffers: tuple[Array, Array] | None = None  # which x and y are the beginnings of
        self.x: Any = None  # of one step (rows, *input_shape); else as the pool's `run` takes it
        self.y: Any = None
        self.nans = 0  # frames that have one
        self.began = self.seconds = 0.0  # of the call, by perf_counter
        self.error: BaseException | None = None

    def failure(self, name: str) -> RuntimeError:
        """Return an exception for one caller: each has its own traceback."""
        error = RuntimeError(f"{name}: the kernel call failed: {self.error}")
        error.__cause__ = self.error
        return error


class Worker:
    """One thread that steps filled batches in the order they are put, and hands each to `done`.

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
        self._max_batch = max_batch
        self._rows_first = batch_first  # in the pool's runs
        self._stats = stats
        self._done = done
        self._buffers = [self._new_buffers(), self._new_buffers()]  # for batches of one step
        self._batches: deque[Batch] = deque()
        self._wakings: SimpleQueue[bool] = SimpleQueue()  # one for each batch; False: the end
        self._thread: Thread | None = None
        self._serves = False  # whether the thread still looks at what is put

    def fill(self, batch: Batch) -> None:
        """Copy the next frames of its requests to `batch`."""
        requests, rows_first = batch.requests, self._rows_first
        rows, steps = len(requests), min(self._max_steps, least_steps(requests))
        batch.steps = steps
        if steps == 1:
            batch.buffers = x, y = self._buffers.pop() if self._buffers else self._new_buffers()
            batch.x, batch.y = x[:rows], y[:rows]
        else:
            shape = (rows, steps) if rows_first else (steps, rows)
            batch.x = np.empty((*shape, *self._pool.input_shape), self._pool.dtype)
        batch.nans = gather(requests, batch.x, steps, rows_first)

    def empty(self, batch: Batch) -> None:
        """Copy the answers of `batch` to its requests, if it was stepped, and take its figures."""
        requests, steps, stats = batch.requests, batch.steps, self._stats
        if batch.error is None:
            try:
                scatter(requests, batch.y, steps, self._rows_first)
            except ValueError as error:  # what is served has pools that answer other shapes
                batch.error = error
                stats.errors += 1
        if batch.error is None:
            rows = len(requests)
            try:
                waited = waits(requests, steps, batch.began)
                stats.add(rows, rows * steps, batch.nans, 1e3 * batch.seconds, waited)
            except Exception:  # of memory: the step was made, and is answered
                stats.unmeasured += 1
        if batch.buffers is not None:
            self._buffers.append(batch.buffers)

    def step(self, batch: Batch) -> None:
        """Step `batch` in the caller's thread, while nothing else is put."""
        try:
            self._step(batch)
        except Exception as error:  # the callers' to handle
            batch.error = error
            self._stats.errors += 1

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
        begin = perf_counter()
        if batch.steps == 1:
            self._pool.step(batch.ids, batch.x, out=batch.y)
        else:
            y = self._pool.run(batch.ids, batch.x)
            batch.y = np.ascontiguousarray(y, self._pool.dtype)
        batch.began, batch.seconds = begin, perf_counter() - begin

    def _new_buffers(self) -> tuple[Array, Array]:
        """Return x and y of as many rows as a call may have."""
        rows, pool = self._max_batch, self._pool
        x = np.empty((rows, *pool.input_shape), pool.dtype)
        return x, np.empty((rows, *pool.output_shape), pool.dtype)
