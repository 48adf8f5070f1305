"""The worker's thread: whatever happens to it, nobody waits for ever and no step is denied."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time

import numpy as np
import pytest
from serving import GatedLayer, in_loop, make_layer

from fastrnn.serve import Batcher, ClosedError
from fastrnn.serve import batcher as batcher_module
from fastrnn.serve import worker as worker_module
from fastrnn.serve.stats import WINDOW, Window


@pytest.fixture(autouse=True)
def _all_in_the_thread(monkeypatch):
    monkeypatch.setattr(batcher_module, "HERE_WORK", 0)


def workers():
    return [t for t in threading.enumerate() if t.name == "fastrnn-batcher"]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@in_loop
async def test_a_thread_that_cannot_start_fails_the_call_and_is_tried_again(monkeypatch, error):
    layer = make_layer()
    x = np.ones(layer.input_size, np.float32)

    class NoThread(threading.Thread):
        def start(self):
            raise error

    async with (
        Batcher(layer, 2, 2) as batcher,
        batcher.session() as one,
        batcher.session() as two,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(worker_module, "Thread", NoThread)
            for _ in range(2):
                results = await asyncio.gather(one.step(x), two.step(x), return_exceptions=True)
                for result in results:
                    assert isinstance(result, RuntimeError)
                    assert str(result) == f"LSTM batcher: the kernel call failed: {error}"
            await two.save()
        y = await asyncio.gather(one.step(x), two.step(x))  # nothing was stepped before
        np.testing.assert_array_equal(y, [layer.stream().step(x)] * 2)


@in_loop
async def test_a_drain_with_a_thread_that_cannot_start(monkeypatch):
    layer = make_layer()
    batcher = Batcher(layer, 1, 1)
    session = await batcher.open()
    monkeypatch.setattr(worker_module, "Thread", lambda **_: 1 / 0)
    call = asyncio.ensure_future(session.step(np.ones(layer.input_size)))
    await asyncio.sleep(0)
    await batcher.drain()
    with pytest.raises(RuntimeError, match="the kernel call failed: division by zero"):
        await call


def kill(thread):
    """Raise SystemExit in a thread, at its next bytecode."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("moment", ["idle", "in the kernel", "sent ahead"])
@in_loop
async def test_a_thread_that_is_ended_from_outside(rng, moment):
    """It fails at most the calls that were with it; the next call has another thread."""
    gated = GatedLayer(make_layer())
    x = rng.standard_normal((3, gated.input_size)).astype(np.float32)
    async with (
        Batcher(gated, 2, 1) as batcher,
        batcher.session() as one,
        batcher.session() as two,
    ):
        gated.let()
        await one.step(x[0])
        (thread,) = workers()
        calls = []
        if moment != "idle":
            calls.append(asyncio.ensure_future(one.step(x[1])))
            await gated.begun(2)
        if moment == "sent ahead":
            calls.append(asyncio.ensure_future(two.step(x[1])))
            await asyncio.sleep(0.01)
        kill(thread)  # while it waits for a lock: it sees that when it has it
        gated.let(10)
        if moment == "idle":
            calls.append(asyncio.ensure_future(one.step(x[1])))
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            assert isinstance(result, (np.ndarray, RuntimeError))
        for session in (one, two):
            await session.reset()
            np.testing.assert_array_equal(await session.run(x), gated.layer.stream().run(x))
    assert workers() == []


@in_loop
async def test_no_memory_to_hand_a_batch_on_is_waited_out(monkeypatch):
    layer = make_layer()
    x = np.ones(layer.input_size, np.float32)
    async with Batcher(layer, 1, 1) as batcher, batcher.session() as session:
        done, failures = batcher._worker._done, [MemoryError(), MemoryError()]

        def scarce(batch):
            if failures:
                raise failures.pop()
            return done(batch)

        monkeypatch.setattr(batcher._worker, "_done", scarce)
        np.testing.assert_array_equal(await session.step(x), layer.stream().step(x))
        assert failures == []


@in_loop
async def test_figures_that_cannot_be_taken_fail_no_step(rng, monkeypatch):
    layer = make_layer()
    x = rng.standard_normal((6, layer.input_size)).astype(np.float32)
    async with Batcher(layer, 1, 1) as batcher, batcher.session() as session:
        with monkeypatch.context() as patch:
            patch.setattr(Window, "add", lambda *_: 1 / 0)
            y = [*await session.run(x[:3]), await session.step(x[3])]
        y.extend(await session.run(x[4:]))
        np.testing.assert_array_equal(y, layer.stream().run(x))
        stats = batcher.stats.as_dict()
    assert stats["unmeasured"] == 2
    assert stats["errors"] == 0


@in_loop
async def test_more_rows_in_a_kernel_call_than_a_window_has_samples():
    most = WINDOW + 100
    layer = make_layer(input_size=1, hidden_size=1, num_layers=1)
    x, twin = np.ones(1, np.float32), layer.stream()
    async with Batcher(layer, most, most) as batcher:
        sessions = [await batcher.open() for _ in range(most)]
        for _ in range(2):
            y = await asyncio.gather(*(session.step(x) for session in sessions))
            np.testing.assert_array_equal(y, [twin.step(x)] * most)
        assert batcher.stats.batch_size.quantiles()["max"] == most
        assert batcher.stats.errors == batcher.stats.unmeasured == 0


@in_loop
async def test_an_error_in_a_step_of_several_frames(rng):
    """What was stepped before has advanced the state, the rest of the call is dropped."""
    gated = GatedLayer(make_layer())
    x = rng.standard_normal((5, gated.input_size)).astype(np.float32)
    async with Batcher(gated, 1, 1, max_steps=2) as batcher, batcher.session() as session:
        call = asyncio.ensure_future(session.run(x[:4]))
        gated.let()
        await gated.begun(2)
        gated.error = MemoryError("for the test")
        gated.let(2)
        with pytest.raises(RuntimeError, match="the kernel call failed: for the test"):
            await call
        y = await session.step(x[4])
        np.testing.assert_array_equal(y, gated.layer.stream().run(x[[0, 1, 4]])[-1])


@in_loop
async def test_a_close_waits_for_the_kernel_and_the_drain_for_the_close(rng):
    gated = GatedLayer(make_layer())
    batcher = Batcher(gated, 1, 1)
    session = await batcher.open()
    call = asyncio.ensure_future(session.step(np.ones(gated.input_size)))
    await gated.begun(1)
    closes = [asyncio.ensure_future(session.close()) for _ in range(3)]
    drains = [asyncio.ensure_future(batcher.drain()) for _ in range(3)]
    await asyncio.sleep(0.01)
    closes[0].cancel()
    drains[0].cancel()
    gated.let()
    await asyncio.gather(*closes[1:], *drains[1:])
    with pytest.raises(ClosedError):
        await call
    deadline = time.monotonic() + 10
    while workers() and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    assert workers() == []
    assert len(gated) == 0
