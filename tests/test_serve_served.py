"""A batcher and a server of what is no layer, but has pools: frames of any shape."""

from __future__ import annotations

import asyncio
import itertools
import json

import numpy as np
import pytest
from serving import in_loop, serving
from websockets.asyncio.client import connect

import fastrnn
from fastrnn.serve import Batcher

SHAPE, GIVES = (2, 3), (2,)


class Sums:
    """A model: frames (2, 3), each row of which is added to what came before."""

    fingerprint = "5" * 64

    def __init__(self, batch_first=False):
        self.batch_first = batch_first

    def pool(self, capacity):
        return SumsPool(self.batch_first)


class SumsPool:
    input_shape, output_shape, dtype = SHAPE, GIVES, np.dtype(np.float32)

    def __init__(self, batch_first):
        self.batch_first = batch_first
        self.states, self.ids = {}, itertools.count()

    def open(self):
        id = next(self.ids)
        self.states[id] = np.zeros(GIVES, np.float32)
        return id

    def close(self, id):
        del self.states[id]

    def step(self, ids, x, out):
        for id, frame, row in zip(ids, x, out, strict=True):
            self.states[id] += frame.sum(axis=1)
            row[...] = self.states[id]

    def run(self, ids, x):
        steps = x.swapaxes(0, 1) if self.batch_first else x
        y = np.empty((*steps.shape[:2], *GIVES), np.float32)
        for frames, out in zip(steps, y, strict=True):
            self.step(ids, frames, out)
        return y.swapaxes(0, 1) if self.batch_first else y

    def reset(self, ids):
        for id in ids:
            self.states[id][...] = 0

    def save(self, id):
        return self.states[id].tobytes()

    def load(self, data):
        if len(data) != 8:
            raise fastrnn.StateError("no sums")
        id = self.open()
        self.states[id][...] = np.frombuffer(data, np.float32)
        return id


def frames(rng, k):
    return rng.integers(-9, 9, (k, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("batch_first", [False, True])
@in_loop
async def test_sessions_of_frames_of_any_shape(rng, batch_first):
    x = frames(rng, 40)
    expected = x.sum(axis=2).cumsum(axis=0)
    async with Batcher(Sums(batch_first), 3, 3) as batcher:

        async def client():
            async with batcher.session() as session:
                y = [await session.step(x[0]), *await session.run(x[1:30])]
                async with batcher.session(state=await session.save()) as other:
                    return [*y, *await other.run(x[30:])]

        for y in (await client(), await asyncio.wait_for(client(), 10)):
            np.testing.assert_array_equal(y, expected)
        async with batcher.session() as session:
            assert (await session.run(x[:0])).shape == (0, *GIVES)
            for bad in (x[0, 0], x):
                with pytest.raises(ValueError, match=r"Sums batcher: x is \(.*, expected \(2, 3\)"):
                    await session.step(bad)
            with pytest.raises(ValueError, match=r"Sums batcher: x is .*, expected \(k, 2, 3\)"):
                await session.run(x[0])
            bad = x[:2].copy()
            bad[1, 0, 1] = np.nan
            await session.run(bad)
        assert batcher.stats.nan_frames == 1
        assert batcher.stats.errors == batcher.stats.unmeasured == 0


@in_loop
async def test_a_server_of_such_frames(rng):
    x = frames(rng, 9)
    async with serving(Sums()) as (_, port):
        url = f"ws://127.0.0.1:{port}/stream"
        async with connect(url, proxy=None, compression=None) as websocket:
            hello = json.loads(await websocket.recv())
            assert (hello["input_size"], hello["output_size"]) == (6, 2)
            assert hello["fingerprint"] == "5" * 64
            await websocket.send(x.astype("<f4").tobytes())
            y = np.frombuffer(await websocket.recv(), "<f4").reshape(9, *GIVES)
    np.testing.assert_array_equal(y, x.sum(axis=2).cumsum(axis=0))
