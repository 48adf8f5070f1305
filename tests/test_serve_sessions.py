"""Sessions that open, step, save, load, are cancelled and close at random, beside lone streams."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from serving import make_layer

import fastrnn
from fastrnn.serve import Batcher

LAYERS = [make_layer(cell, seed=1) for cell in ("LSTM", "GRU")]
MOST = 5

indices = st.integers(0, MOST - 1)
bursts = st.lists(
    st.tuples(
        indices, st.sampled_from(["step", "run", "save", "reset", "load"]), st.integers(0, 5)
    ),
    min_size=1,
    max_size=12,
)


class Sessions(RuleBasedStateMachine):
    """A batcher and, for each session, a stream of the same layer with nobody beside it."""

    @initialize(
        layer=st.sampled_from(LAYERS),
        max_batch=st.integers(1, MOST),
        max_pending=st.integers(1, 3),
        max_steps=st.integers(1, 3),
    )
    def start(self, layer, max_batch, max_pending, max_steps):
        self.loop = asyncio.new_event_loop()
        self.layer = layer
        self.rng = np.random.default_rng(0)
        self.sessions, self.twins, self.saved = [], [], []

        async def make():
            return Batcher(layer, MOST, max_batch, max_pending=max_pending, max_steps=max_steps)

        self.batcher = self.loop.run_until_complete(make())

    def frames(self, k):
        return self.rng.standard_normal((k, self.layer.input_size)).astype(np.float32)

    @rule(saved=indices)
    def open(self, saved):
        state, twin = None, self.layer.stream()
        if saved < len(self.saved):
            state, twin.state = self.saved[saved]
        session = self.batcher.session(state=state)
        if len(self.sessions) == MOST:
            with pytest.raises(fastrnn.PoolFullError):
                self.loop.run_until_complete(session.__aenter__())
        else:
            self.loop.run_until_complete(session.__aenter__())
            self.sessions.append(session)
            self.twins.append(twin)

    @precondition(lambda self: self.sessions)
    @rule(i=indices)
    def close(self, i):
        i %= len(self.sessions)
        self.loop.run_until_complete(self.sessions.pop(i).close())
        del self.twins[i]

    @precondition(lambda self: self.sessions)
    @rule(burst=bursts)
    def calls_at_once(self, burst):
        async def calls():
            made = [self.call(i % len(self.sessions), what, k) for i, what, k in burst]
            results = await asyncio.gather(*(call for call, _ in made))
            for result, (_, check) in zip(results, made, strict=True):
                check(result)

        self.loop.run_until_complete(calls())

    def call(self, i, what, k):
        """Return a call of session i, and what checks its result; its twin has made it already."""
        session, twin = self.sessions[i], self.twins[i]
        if what == "step":
            x = self.frames(1)[0]
            expected = twin.step(x)
            return session.step(x), lambda y: np.testing.assert_array_equal(y, expected)
        if what == "run":
            x = self.frames(k)
            expected = twin.run(x)
            return session.run(x), lambda y: np.testing.assert_array_equal(y, expected)
        if what == "save":
            state = twin.state
            return session.save(), lambda saved: self.keep(saved, state)
        if what == "load" and k < len(self.saved):
            state, twin.state = self.saved[k]
            return session.load(state), lambda _: None
        twin.reset()
        return session.reset(), lambda _: None

    def keep(self, saved, state):
        self.saved = [(saved, state), *self.saved[: MOST - 1]]

    @precondition(lambda self: self.sessions)
    @rule(i=indices, turns=st.integers(1, 7), others=bursts)
    def a_client_vanishes(self, i, turns, others):
        i %= len(self.sessions)
        gone = self.sessions.pop(i)
        del self.twins[i]

        async def client():
            try:
                await asyncio.gather(gone.step(self.frames(1)[0]), gone.run(self.frames(4)))
            finally:
                await gone.close()

        async def calls():
            task = asyncio.ensure_future(client())
            made = []
            if self.sessions:
                made = [self.call(j % len(self.sessions), what, k) for j, what, k in others]
            running = [asyncio.ensure_future(call) for call, _ in made]
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            results = await asyncio.gather(*running)
            await asyncio.gather(task, return_exceptions=True)
            for result, (_, check) in zip(results, made, strict=True):
                check(result)

        self.loop.run_until_complete(calls())

    @invariant()
    def as_many_streams_as_sessions(self):
        if hasattr(self, "batcher"):
            assert len(self.batcher) == len(self.batcher.pool) == len(self.sessions)

    def teardown(self):
        if hasattr(self, "batcher"):
            self.loop.run_until_complete(self.batcher.drain())
            assert len(self.batcher.pool) == 0
            self.loop.close()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=60, stateful_step_count=20)
