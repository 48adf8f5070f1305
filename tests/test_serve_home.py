"""Which event loop a batcher belongs to, and what is left when one ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest
from serving import GatedLayer, in_loop, make_layer

import fastrnn
from fastrnn.serve import Batcher, ClosedError
from fastrnn.serve import batcher as batcher_module

LAYER = make_layer()
X = np.random.default_rng(0).standard_normal((4, LAYER.input_size)).astype(np.float32)
Y = LAYER.stream().run(X)
AT_IMPORT = Batcher(LAYER, 2, 2)


def workers():
    return [t for t in threading.enumerate() if t.name == "fastrnn-batcher"]


async def serve(batcher):
    async with batcher, batcher.session() as session:
        np.testing.assert_array_equal(await session.run(X), Y)


def test_a_batcher_is_made_at_import_and_entered_by_loop_after_loop():
    for _ in range(3):
        asyncio.run(serve(AT_IMPORT))
    assert workers() == []


def test_the_layer_is_checked_when_the_batcher_is_made():
    with pytest.raises(ValueError, match="bidirectional"):
        Batcher(make_both_ways(), 1, 1)
    with pytest.raises(RuntimeError, match="no weights yet"):
        Batcher(fastrnn.LSTM(3, 4), 1, 1)
    with pytest.raises(TypeError, match="a str has no pools, expected a layer"):
        Batcher("model.pt", 1, 1)


def make_both_ways():
    layer = fastrnn.LSTM(3, 4, bidirectional=True)
    layer.load_state_dict({name: np.zeros(shape) for name, shape in layer._config.shapes().items()})
    return layer


def test_a_drained_batcher_refuses_until_it_is_entered_again():
    batcher = Batcher(LAYER, 2, 2)

    async def twice():
        await serve(batcher)
        with pytest.raises(ClosedError, match="draining"):
            await batcher.open()
        await serve(batcher)
        await batcher.drain()

    asyncio.run(twice())


@in_loop
async def test_a_batcher_that_drains_is_not_entered():
    gated = GatedLayer(LAYER)
    batcher = Batcher(gated, 1, 1)
    session = await batcher.open()
    call = asyncio.ensure_future(session.step(X[0]))
    await gated.begun(1)
    drain = asyncio.ensure_future(batcher.drain())
    await asyncio.sleep(0)
    async with batcher:
        with pytest.raises(ClosedError, match="draining"):
            await batcher.open()
        gated.let()
    np.testing.assert_array_equal(await call, Y[0])
    await drain


def close_without_ceremony(main):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


ENDS = pytest.mark.parametrize("run", [asyncio.run, close_without_ceremony])


async def leave_open(batcher, sessions):
    for _ in range(2):
        sessions.append(await batcher.open())
    await asyncio.gather(*(session.step(X[0]) for session in sessions[-2:]))


def test_a_loop_that_ends_without_a_drain_leaves_no_thread_and_no_stream():
    batcher, sessions = Batcher(LAYER, 2, 2), []
    for _ in range(3):
        asyncio.run(leave_open(batcher, sessions))
        assert workers() == []
        assert len(batcher) == len(batcher.pool) == 0


@ENDS
def test_the_next_loop_finds_an_empty_batcher_and_closed_sessions(run):
    batcher, sessions = Batcher(LAYER, 2, 2), []

    async def next_loop():
        with pytest.raises(ClosedError, match="the session is not open"):
            await sessions[0].step(X[0])
        await sessions[1].close()
        assert len(batcher) == len(batcher.pool) == 0
        await leave_open(batcher, sessions)
        await batcher.drain()

    run(leave_open(batcher, sessions))
    run(next_loop())
    run(serve(batcher))
    assert workers() == []


def collect():
    """Wait until no worker is left; one that has just handed on a batch may still hold it."""
    deadline = time.monotonic() + 20
    while workers():
        assert time.monotonic() < deadline, "a thread is left"
        gc.collect()
        time.sleep(0.001)
    gc.collect()


@ENDS
def test_a_batcher_that_nobody_has_any_more_leaves_no_thread_and_no_pool(run):
    gone = []

    async def main():
        batcher = Batcher(LAYER, 2, 2)
        gone.append(weakref.ref(batcher.pool))
        await leave_open(batcher, [])

    for _ in range(5):
        run(main())
    collect()
    assert [ref() for ref in gone] == [None] * 5


@in_loop
async def test_a_forgotten_batcher_ends_its_thread_while_the_loop_goes_on(monkeypatch):
    monkeypatch.setattr(batcher_module, "HERE_WORK", 0)
    batcher = Batcher(LAYER, 1, 1)
    async with batcher.session() as session:
        await session.step(X[0])
    assert len(workers()) == 1
    del batcher, session
    await asyncio.to_thread(collect)


@ENDS
def test_a_loop_that_ends_amidst_a_kernel_call(run):
    gated = GatedLayer(LAYER)
    batcher = Batcher(gated, 2, 1)

    async def main():
        for _ in range(2):
            session = await batcher.open()
            asyncio.ensure_future(session.step(X[0])).add_done_callback(
                lambda call: call.cancelled() or call.exception()
            )
        await gated.begun(1)
        threading.Timer(0.05, gated.let, (2,)).start()

    if run is asyncio.run:
        run(main())
        assert workers() == []
        assert len(gated) == 0
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    gated.let(10)
    asyncio.run(serve(batcher))
    assert workers() == []
    assert len(gated) == 0


def test_two_loops_at_once_are_told():
    batcher = Batcher(LAYER, 2, 2)

    async def other():
        with pytest.raises(RuntimeError, match="belongs to another event loop, which has not end"):
            await batcher.open()
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await session.step(X[0])
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await session.close()
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            async with batcher:
                pass

    async def main():
        nonlocal session
        async with batcher, batcher.session() as session:
            await asyncio.to_thread(asyncio.run, other())
            np.testing.assert_array_equal(await session.run(X), Y)

    session = None
    asyncio.run(main())


def test_without_an_event_loop_it_says_so():
    with pytest.raises(RuntimeError, match="no running event loop"):
        Batcher(LAYER, 1, 1).open().send(None)
