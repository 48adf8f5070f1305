"""What the tests of `fastrnn.serve` share: a small layer, a pool whose kernel waits for the test."""

from __future__ import annotations

import asyncio
import functools
import threading

import numpy as np

import fastrnn
from fastrnn.weights import StackConfig


def make_layer(cell="LSTM", input_size=5, hidden_size=7, num_layers=2, seed=0, **options):
    """Return a layer with random weights."""
    rng = np.random.default_rng(seed)
    config = StackConfig(cell, input_size, hidden_size, num_layers)
    weights = {name: rng.uniform(-0.5, 0.5, shape) for name, shape in config.shapes().items()}
    return getattr(fastrnn, cell).from_state_dict(weights, dtype="float32", **options)


def in_loop(test):
    """Run an async test function in a new event loop, at most 30 seconds."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def bounded():
            await asyncio.wait_for(test(*args, **kwargs), 30)

        asyncio.run(bounded())

    return run


class GatedLayer:
    """A layer whose pool's kernel calls wait until the test lets them go, and can be made to fail.

    `calls` holds the ids of each kernel call, once it has begun.
    """

    def __init__(self, layer):
        self.layer = layer
        self.batch_first = layer.batch_first
        self.input_size = layer.input_size
        self.output_size = layer.hidden_size
        self.dtype = layer.dtype
        self.calls = []
        self.gate = threading.Semaphore(0)
        self.error = None

    def pool(self, capacity):
        self.inner = self.layer.pool(capacity=capacity)
        return self

    def __len__(self):
        return len(self.inner)

    def open(self):
        return self.inner.open()

    def close(self, stream):
        self.inner.close(stream)

    def let(self, calls=1):
        self.gate.release(calls)

    def step(self, ids, x, out=None):
        self._wait(ids)
        return self.inner.step(ids, x, out=out)

    def run(self, ids, x, lengths=None):
        self._wait(ids)
        return self.inner.run(ids, x, lengths)

    def _wait(self, ids):
        self.calls.append(list(ids))
        assert self.gate.acquire(timeout=20)
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    async def begun(self, calls):
        """Wait until so many kernel calls have begun."""
        while len(self.calls) < calls:
            await asyncio.sleep(0.001)
