"""`Batcher`: order, company, cancellation, back-pressure, drain, and the bits of a lone stream."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from serving import GatedLayer, in_loop, make_layer

import fastrnn
from fastrnn.serve import Batcher, ClosedError
from fastrnn.serve import batcher as batcher_module


def frames(rng, k, layer):
    return rng.standard_normal((k, layer.input_size)).astype(np.float32)


@in_loop
async def test_sessions_begin_with_the_initial_state_and_reset_goes_back_to_it(rng):
    layer = make_layer("GRU")
    initial = rng.standard_normal((2, 7)).astype(np.float32)
    x = frames(rng, 4, layer)
    expected = layer.stream(initial_state=initial).run(x)
    batcher = Batcher(layer, 4, 4, initial_state=initial)
    async with batcher, batcher.session() as session:
        for _ in range(2):
            np.testing.assert_array_equal(await session.run(x), expected)
            await session.reset()


@pytest.mark.parametrize("here", [0, 12_288, 2**20], ids=["thread", "either", "loop"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("max_batch", "max_wait_ms"), [(1, 0), (3, 0), (16, 0), (16, 2)])
@in_loop
async def test_many_tasks_get_the_bits_of_lone_streams(
    rng, monkeypatch, cell, batch_first, max_batch, max_wait_ms, here
):
    """Whichever thread makes the calls: the worker's, the loop's, or the loop's those of 4 frames."""
    monkeypatch.setattr(batcher_module, "HERE_WORK", here)
    layer = make_layer(cell, batch_first=batch_first)
    inputs = [frames(rng, 40, layer) for _ in range(16)]

    async def client(i):
        cut = np.random.default_rng(i)
        y, at = [], 0
        async with batcher.session() as session:
            while at < 40:
                k = int(cut.integers(0, 6))
                if k == 1:
                    y.append((await session.step(inputs[i][at]))[None])
                else:
                    y.append(await session.run(inputs[i][at : at + k]))
                at += k
                if cut.random() < 0.2:
                    await asyncio.sleep(0.001)
        return np.concatenate(y)

    async with Batcher(layer, 16, max_batch, max_wait_ms) as batcher:
        results = await asyncio.gather(*map(client, range(16)))
    for x, y in zip(inputs, results, strict=True):
        np.testing.assert_array_equal(y, layer.stream().run(x))


@in_loop
async def test_short_calls_are_made_in_the_event_loops_thread_and_long_ones_are_not(rng):
    layer, threads = make_layer(), set()
    pool = layer.pool(capacity=9)

    class Watched:
        work = pool.work

        def __getattr__(self, name):
            return getattr(pool, name)

        def step(self, ids, x, out):
            threads.add((threading.current_thread().name, len(ids)))
            return pool.step(ids, x, out=out)

        def run(self, ids, x):
            threads.add((threading.current_thread().name, x.shape[0] * x.shape[1]))
            return pool.run(ids, x)

    few = batcher_module.HERE_WORK // (pool.work + batcher_module.FRAME_WORK)
    layer_of_pool = SimpleNamespace(pool=lambda capacity: Watched(), batch_first=False)
    async with Batcher(layer_of_pool, 8, 8, max_steps=few + 1) as batcher:
        sessions = [await batcher.open() for _ in range(8)]
        x = frames(rng, few + 1, layer)
        await asyncio.gather(*(session.step(x[0]) for session in sessions))
        await sessions[0].run(x[:few])
        await sessions[0].run(x)
        for session in sessions:
            await session.close()
    here = threading.current_thread().name
    assert threads == {(here, 8), (here, few), ("fastrnn-batcher", few + 1)}


@in_loop
async def test_others_have_their_turn_between_the_short_calls_of_a_long_message(rng):
    layer = make_layer()
    x = frames(rng, 200, layer)
    async with Batcher(layer, 2, 2, max_steps=1) as batcher:
        one, two = await batcher.open(), await batcher.open()
        turns = 0
        long = asyncio.ensure_future(one.run(x))
        while not long.done():
            await two.step(x[0])
            turns += 1
        np.testing.assert_array_equal(await long, layer.stream().run(x))
    assert 100 <= turns <= 400


@in_loop
async def test_an_error_in_a_short_call_reaches_its_callers_and_no_others(rng, monkeypatch):
    layer = make_layer()
    x = frames(rng, 2, layer)
    async with Batcher(layer, 2, 2) as batcher:
        one, two = await batcher.open(), await batcher.open()
        with monkeypatch.context() as patch:
            patch.setattr(type(batcher.pool), "step", lambda *_, **__: 1 / 0)
            with pytest.raises(RuntimeError, match="the kernel call failed: division by zero"):
                await one.step(x[0])
        y = await asyncio.gather(one.step(x[1]), two.step(x[1]))
        np.testing.assert_array_equal(y, [layer.stream().step(x[1])] * 2)
        assert batcher.stats.errors == 1


def test_an_interrupt_in_a_short_call_ends_the_loop_and_is_told_to_its_caller(rng, monkeypatch):
    layer, told = make_layer(), []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    async def main():
        async with Batcher(layer, 1, 1) as batcher, batcher.session() as session:
            monkeypatch.setattr(type(batcher.pool), "step", interrupted)
            try:
                await session.step(frames(rng, 1, layer)[0])
            except BaseException as error:
                told.append(error)
                raise

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert len(told) == 1


@in_loop
async def test_what_is_ready_goes_into_the_next_call_and_nobody_waits_for_the_late(rng):
    gated = GatedLayer(make_layer())
    async with Batcher(gated, 4, 4) as batcher:
        sessions = [await batcher.session().__aenter__() for _ in range(4)]
        ids = [session.id for session in sessions]
        x = frames(rng, 1, gated)[0]
        first = [asyncio.ensure_future(sessions[i].step(x)) for i in (0, 1)]
        await gated.begun(1)
        late = [asyncio.ensure_future(sessions[i].step(x)) for i in (3, 2)]
        await asyncio.sleep(0)
        gated.let()
        await asyncio.gather(*first)  # not held up by the late ones, whose call is still held
        await gated.begun(2)
        assert not any(future.done() for future in late)
        gated.let()
        await asyncio.gather(*late)
        assert gated.calls == [[ids[0], ids[1]], [ids[3], ids[2]]]


@in_loop
async def test_frames_of_one_session_keep_their_order_and_never_share_a_call(rng):
    gated = GatedLayer(make_layer())
    gated.let(1000)
    x = frames(rng, 12, gated)
    async with Batcher(gated, 2, 8, max_pending=4) as batcher, batcher.session() as session:
        y = await asyncio.gather(*(session.step(row) for row in x))  # more than max_pending
        np.testing.assert_array_equal(np.stack(y), gated.layer.stream().run(x))
    assert all(len(call) == 1 for call in gated.calls)


@in_loop
async def test_calls_that_wait_are_cancelled_without_losing_order(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 8, gated)
    async with Batcher(gated, 1, 1, max_pending=2) as batcher, batcher.session() as session:
        calls = [asyncio.ensure_future(session.step(row)) for row in x]
        await gated.begun(1)
        calls[3].cancel()
        gated.let()
        while not calls[0].done():
            await asyncio.sleep(0)
        calls[4].cancel()
        gated.let(10)
        results = await asyncio.gather(*calls, return_exceptions=True)
    kept = [0, 1, 2, 5, 6, 7]
    expected = gated.layer.stream().run(x[kept])
    for row, i in zip(expected, kept, strict=True):
        np.testing.assert_array_equal(results[i], row)
    assert all(isinstance(results[i], asyncio.CancelledError) for i in (3, 4))


@pytest.mark.parametrize("drains", [False, True])
@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("cancelled", [0, 1, 2])
@in_loop
async def test_a_call_that_is_cancelled_at_any_moment_holds_up_nobody(
    rng, cancelled, turns, drains
):
    """Of three calls one is cancelled some turns after the first kernel call was let go."""
    gated = GatedLayer(make_layer())
    x = frames(rng, 3, gated)
    batcher = Batcher(gated, 1, 1, max_pending=1)
    session = await batcher.open()
    calls = [asyncio.ensure_future(session.step(row)) for row in x]
    await gated.begun(1)
    drain = asyncio.ensure_future(batcher.drain()) if drains else None
    gated.let(3)
    for _ in range(turns):
        await asyncio.sleep(0)
    calls[cancelled].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    others = [i for i in range(3) if i != cancelled]
    rows = [results[i] for i in others]
    stepped, withdrawn = (gated.layer.stream().run(x[which]) for which in ([0, 1, 2], others))
    assert np.array_equal(rows, stepped[others]) or np.array_equal(rows, withdrawn)
    await (drain or batcher.drain())
    assert len(gated) == 0


@in_loop
async def test_a_call_that_may_not_wait_is_told_that_the_session_is_in_use(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 4, gated)
    async with Batcher(gated, 1, 1, max_pending=2) as batcher, batcher.session() as session:
        calls = [asyncio.ensure_future(session.step(row, wait=False)) for row in x[:2]]
        await gated.begun(1)
        for refused in (
            session.step(x[0], wait=False),
            session.run(x, wait=False),
            session.save(wait=False),
            session.load(b"", wait=False),
            session.reset(wait=False),
        ):
            with pytest.raises(
                fastrnn.BusyError, match="the session is in use, with max_pending=2 of its calls"
            ):
                await refused
        calls.append(asyncio.ensure_future(session.step(x[2])))  # may wait
        gated.let(4)
        y = [*await asyncio.gather(*calls), await session.step(x[3], wait=False)]
        np.testing.assert_array_equal(y, gated.layer.stream().run(x))


@in_loop
async def test_a_session_that_outlives_a_task(rng):
    layer = make_layer()
    x = frames(rng, 6, layer)
    expected = layer.stream().run(x)
    async with Batcher(layer, 2, 2) as batcher:
        session = await asyncio.create_task(batcher.open())
        np.testing.assert_array_equal(await asyncio.create_task(session.run(x[:3])), expected[:3])
        other = await batcher.open(state=await session.save())
        with pytest.raises(fastrnn.PoolFullError):
            await batcher.open()
        await asyncio.create_task(session.close())
        with pytest.raises(ClosedError, match="the session is not open"):
            await session.step(x[0])
        await session.close()
        with pytest.raises(fastrnn.StateError):
            await batcher.open(state=b"no state")
        np.testing.assert_array_equal(await other.run(x[3:]), expected[3:])
        assert len(batcher) == 1
    with pytest.raises(ClosedError, match="not open"):  # the drain closed it
        await other.step(x[0])


@in_loop
async def test_a_cancelled_frame_that_waits_is_withdrawn(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 3, gated)
    async with Batcher(gated, 1, 1) as batcher, batcher.session() as session:
        calls = [asyncio.ensure_future(session.step(row)) for row in x]
        await gated.begun(1)
        calls[1].cancel()
        gated.let(3)
        results = await asyncio.gather(*calls, return_exceptions=True)
        np.testing.assert_array_equal([results[0], results[2]], gated.layer.stream().run(x[[0, 2]]))


@in_loop
async def test_a_cancelled_frame_in_the_kernel_has_advanced_the_state(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 2, gated)
    async with Batcher(gated, 1, 1) as batcher, batcher.session() as session:
        call = asyncio.ensure_future(session.step(x[0]))
        await gated.begun(1)
        call.cancel()
        gated.let(2)
        y = await session.step(x[1])
        np.testing.assert_array_equal(y, gated.layer.stream().run(x)[1])


@in_loop
async def test_a_cancelled_run_drops_the_frames_behind_the_one_in_the_kernel(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 7, gated)
    async with Batcher(gated, 1, 1, max_steps=2) as batcher, batcher.session() as session:
        call = asyncio.ensure_future(session.run(x[:6]))
        gated.let()
        await gated.begun(2)  # steps 2 and 3
        call.cancel()
        gated.let(2)
        y = await session.step(x[6])
        np.testing.assert_array_equal(y, gated.layer.stream().run(x[[0, 1, 2, 3, 6]])[-1])
        assert len(gated.calls) == 3


@pytest.mark.parametrize("moment", ["resting", "queued", "sent ahead", "in the kernel", "waiting"])
@in_loop
async def test_a_client_that_vanishes_frees_its_stream_once(rng, moment):
    gated = GatedLayer(make_layer())
    x = frames(rng, 1, gated)[0]
    max_batch = 1 if moment == "sent ahead" else 2
    async with Batcher(gated, 2, max_batch, max_pending=1) as batcher:

        async def other():
            async with batcher.session() as session:
                return await session.step(x)

        async def client():
            async with batcher.session() as session:
                calls = {"resting": 0, "waiting": 2}.get(moment, 1)
                await asyncio.gather(*(session.step(x) for _ in range(calls)))
                await asyncio.sleep(10)

        if moment in ("queued", "sent ahead"):
            neighbour = asyncio.create_task(other())
            await gated.begun(1)
            task = asyncio.create_task(client())
        else:
            task = asyncio.create_task(client())
            if moment != "resting":
                await gated.begun(1)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        if moment in ("in the kernel", "waiting", "sent ahead"):
            assert not task.done()  # leaves only when its stream is free
            assert len(batcher) == (2 if moment == "sent ahead" else 1)
        gated.let(2 if moment == "sent ahead" else 1)
        with pytest.raises(asyncio.CancelledError):
            await task
        if moment in ("queued", "sent ahead"):
            np.testing.assert_array_equal(await neighbour, gated.layer.stream().step(x))
        assert len(batcher) == 0
        assert len(gated) == 0
        gated.let(2)
        async with batcher.session() as one, batcher.session() as two:
            y = await asyncio.gather(one.step(x), two.step(x))
        np.testing.assert_array_equal(y, [gated.layer.stream().step(x)] * 2)


@in_loop
async def test_cancelling_the_leave_frees_the_stream_when_its_call_ends(rng):
    gated = GatedLayer(make_layer())
    async with Batcher(gated, 1, 1) as batcher:
        session = await batcher.session().__aenter__()
        step = asyncio.ensure_future(session.step(frames(rng, 1, gated)[0]))
        await gated.begun(1)
        leave = asyncio.ensure_future(session.close())
        await asyncio.sleep(0.001)
        leave.cancel()
        with pytest.raises(ClosedError, match="session was closed"):
            await step
        assert len(batcher) == 1
        gated.let()
        await session.close()
        assert len(batcher) == len(gated) == 0


@in_loop
async def test_a_kernel_error_reaches_those_whose_frames_were_in_it(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 2, gated)
    async with (
        Batcher(gated, 3, 2) as batcher,
        batcher.session() as one,
        batcher.session() as two,
        batcher.session() as three,
    ):
        gated.error = MemoryError("no memory for the test")
        calls = [asyncio.ensure_future(s.step(x[0])) for s in (one, two, three)]
        gated.let(9)
        results = await asyncio.gather(*calls, return_exceptions=True)
        for error in results[:2]:
            assert isinstance(error, RuntimeError)
            assert (
                str(error) == "GatedLayer batcher: the kernel call failed: no memory for the test"
            )
            assert isinstance(error.__cause__, MemoryError)
        assert results[0] is not results[1]
        lone = gated.layer.stream().run(x)
        np.testing.assert_array_equal(results[2], lone[0])
        np.testing.assert_array_equal(await three.step(x[1]), lone[1])
        np.testing.assert_array_equal(await one.run(x), lone)  # its state was as before
        assert batcher.stats.errors == 1


@in_loop
async def test_drain_finishes_what_was_called_and_refuses_more(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 6, gated)
    batcher = Batcher(gated, 2, 1, max_pending=2)
    async with batcher.session() as one, batcher.session() as two:
        calls = [asyncio.ensure_future(one.step(row)) for row in x]
        calls.append(asyncio.ensure_future(two.run(x)))
        await gated.begun(1)
        drain = asyncio.ensure_future(batcher.drain())
        await asyncio.sleep(0.001)
        for refused in (one.step(x[0]), two.run(x[:0]), two.save(), batcher.session().__aenter__()):
            with pytest.raises(ClosedError, match="draining, no new frames are taken"):
                await refused
        assert not drain.done()
        gated.let(100)
        *rows, y = await asyncio.gather(*calls)
        np.testing.assert_array_equal(y, gated.layer.stream().run(x))
        np.testing.assert_array_equal(np.stack(rows), y)
        await drain
        assert len(batcher) == len(gated) == 0
        await batcher.drain()
    assert not [t for t in threading.enumerate() if t.name == "fastrnn-batcher"]


@in_loop
async def test_the_event_loop_goes_on_while_the_kernel_works(rng):
    gated = GatedLayer(make_layer())
    async with Batcher(gated, 1, 1) as batcher, batcher.session() as session:
        call = asyncio.ensure_future(session.step(frames(rng, 1, gated)[0]))
        await gated.begun(1)
        begin = time.perf_counter()
        for _ in range(100):
            await asyncio.sleep(0)
        assert time.perf_counter() - begin < 1
        assert not call.done()
        gated.let()
        await call


@in_loop
async def test_max_wait_gathers_a_fuller_batch(rng):
    gated = GatedLayer(make_layer())
    gated.let(100)
    x = frames(rng, 1, gated)[0]
    async with (
        Batcher(gated, 3, 3, max_wait_ms=60_000) as batcher,
        batcher.session() as one,
        batcher.session() as two,
    ):
        first = asyncio.ensure_future(one.step(x))
        await asyncio.sleep(0.02)
        assert gated.calls == []
        await two.step(x)  # all open sessions are ready: no further wait
        await first
        assert gated.calls == [[one.id, two.id]]


@in_loop
async def test_max_wait_ends_for_a_lone_frame(rng):
    layer = make_layer()
    x = frames(rng, 1, layer)[0]
    async with (
        Batcher(layer, 2, 2, max_wait_ms=20) as batcher,
        batcher.session() as one,
        batcher.session(),
    ):
        begin = time.perf_counter()
        await one.step(x)
        assert 0.015 < time.perf_counter() - begin < 5


@in_loop
async def test_a_saved_state_goes_on_elsewhere(rng):
    layer = make_layer()
    x = frames(rng, 9, layer)
    expected = layer.stream().run(x)
    async with Batcher(layer, 2, 2) as here, here.session() as session:
        calls = asyncio.gather(session.run(x[:3]), session.save(), session.step(x[3]))
        y, state, row = await calls  # the state is that between the two
        np.testing.assert_array_equal(y, expected[:3])
        np.testing.assert_array_equal(row, expected[3])
        async with here.session(state=state) as same:
            np.testing.assert_array_equal(await same.run(x[3:]), expected[3:])
    async with Batcher(layer, 1, 1) as there, there.session() as session:
        await session.step(x[0])
        await session.load(state)
        np.testing.assert_array_equal(await session.run(x[3:]), expected[3:])
        await session.reset()
        np.testing.assert_array_equal(await session.run(x), expected)


@in_loop
async def test_a_bad_state_is_refused_and_changes_nothing(rng):
    layer = make_layer()
    x = frames(rng, 2, layer)
    async with Batcher(layer, 1, 1) as batcher:
        with pytest.raises(fastrnn.StateError):
            async with batcher.session(state=b"not a state"):
                pass
        assert len(batcher) == 0
        async with batcher.session() as session:
            first = await session.step(x[0])
            with pytest.raises(fastrnn.StateError):
                await session.load(b"not a state")
            y = [first, await session.step(x[1])]
        np.testing.assert_array_equal(y, layer.stream().run(x))


@in_loop
async def test_a_full_batcher_says_so_and_a_closed_session_makes_room():
    async with Batcher(make_layer(), 1, 1) as batcher:
        async with batcher.session():
            with pytest.raises(
                fastrnn.PoolFullError, match="LSTM batcher: all 1 streams are in use"
            ):
                await batcher.session().__aenter__()
        async with batcher.session() as session:
            pass
        with pytest.raises(ClosedError, match="the session is not open"):
            await session.step(np.zeros(5))
        with pytest.raises(RuntimeError, match="entered once"):
            await session.__aenter__()


@in_loop
async def test_what_does_not_fit_is_refused_before_the_kernel():
    async with Batcher(make_layer(), 1, 1) as batcher, batcher.session() as session:
        with pytest.raises(ValueError, match=r"LSTM batcher: x is \(4,\), expected \(5,\)"):
            await session.step(np.zeros(4))
        with pytest.raises(ValueError, match=r"LSTM batcher: x is \(5,\), expected \(k, 5\)"):
            await session.run(np.zeros(5))
        with pytest.raises(TypeError, match=r"LSTM batcher: x has dtype complex128"):
            await session.step(np.zeros(5, complex))
        assert (await session.run(np.zeros((0, 5)))).shape == (0, 7)
        assert batcher.stats.batches == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_streams", 0), ("max_batch", 1.5), ("max_pending", True), ("max_steps", -1)],
)
@in_loop
async def test_bad_options_are_refused(name, value):
    options = {"max_streams": 1, "max_batch": 1, name: value}
    with pytest.raises(ValueError, match=f"LSTM batcher: {name}={value!r}, expected an integer"):
        Batcher(make_layer(), **options)
    with pytest.raises(ValueError, match="max_wait_ms=nan, expected 0 or more"):
        Batcher(make_layer(), 1, 1, float("nan"))


@in_loop
async def test_the_callers_array_may_change_after_the_call(rng):
    gated = GatedLayer(make_layer())
    x = frames(rng, 1, gated)[0]
    expected = gated.layer.stream().step(x)
    async with Batcher(gated, 1, 1) as batcher, batcher.session() as session:
        call = asyncio.ensure_future(session.step(x))
        await gated.begun(1)
        x[:] = np.nan
        gated.let()
        np.testing.assert_array_equal(await call, expected)


@in_loop
async def test_one_sessions_nan_stays_its_own_and_is_counted(rng):
    layer = make_layer()
    x = frames(rng, 5, layer)
    bad = x.copy()
    bad[1, 2] = np.nan
    async with Batcher(layer, 2, 2) as batcher, batcher.session() as a, batcher.session() as b:
        one, two = await asyncio.gather(a.run(x), b.run(bad))
        assert batcher.stats.nan_frames == 1
    np.testing.assert_array_equal(one, layer.stream().run(x))
    assert np.isnan(two[1:]).all()


@in_loop
async def test_a_session_that_is_closed_is_kept_by_nobody(rng):
    layer = make_layer()
    async with Batcher(layer, 1, 1) as batcher, batcher.session() as session:
        await session.step(frames(rng, 1, layer)[0])
        gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None


@in_loop
async def test_statistics(rng):
    layer = make_layer()
    async with Batcher(layer, 3, 3) as batcher:

        async def client():
            async with batcher.session() as session:
                for _ in range(10):
                    await session.step(np.zeros(5))

        await asyncio.gather(*(client() for _ in range(3)))
        stats = batcher.stats.as_dict()
    assert stats["frames"] == 30
    assert 10 <= stats["batches"] <= 30
    for name in ("batch_size", "queue_ms", "step_ms"):
        values = stats[name]
        assert 0 < values["p50"] <= values["p99"] <= values["p99.9"] <= values["max"]
        assert 0 < values["mean"] <= values["max"]
    assert stats["batch_size"]["max"] <= 3
