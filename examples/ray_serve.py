"""A model on a Ray cluster: one `Batcher` in each replica, sessions that outlive the replica.

    pip install 'fastrnn[ray]' && python examples/ray_serve.py model.pt

A session's calls go to one replica, by consistent hashing of its id, whose batcher holds its
stream. Every `every` frames the replica puts the state and its frame number into a store. When the
replica is gone, calls go to another, which takes the state from the store and says from which frame
on it wants the session's frames again: a client keeps those since the last saved state.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.config import RequestRouterConfig

import fastrnn
from fastrnn.serve import Batcher, Session

ROUTER = RequestRouterConfig(
    request_router_class="ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
    request_router_kwargs={"num_fallback_replicas": 0},  # no other replica has the stream
)


@ray.remote(num_cpus=0, max_concurrency=1000)
class Store:
    """States by session, with the number of frames behind them. A database, in earnest."""

    def __init__(self) -> None:
        self.saved: dict[str, tuple[int, bytes]] = {}

    async def put(self, id: str, frames: int, state: bytes) -> None:
        """Keep the state of a session after so many frames."""
        self.saved[id] = frames, state

    async def get(self, id: str) -> tuple[int, bytes | None]:
        """Return the frames behind a session's state, and the state; (0, None) if there is none."""
        return self.saved.get(id, (0, None))


@serve.deployment(max_ongoing_requests=1000, request_router_config=ROUTER)
class Recurrent:
    """A replica: its own layer, batcher, and the sessions that were sent here."""

    def __init__(self, path: str, store: Any, every: int) -> None:
        self.batcher = Batcher(fastrnn.load(path), max_streams=1000, max_batch=256)
        self.store, self.every = store, every
        self.sessions: dict[str, list[Any]] = {}  # Session, its frames, those saved

    async def step(self, id: str, number: int, x: Any) -> tuple[int, int, Any]:
        """Advance session `id` by frames x (k, I), of which the first is its frame `number`.

        Returns the number of the frame wanted next, how many are saved, and y (k, P): None if x
        does not go on where the session is.
        """
        if id not in self.sessions or self.sessions[id][1] != number:
            await self.take_up(id)
        held = self.sessions[id]
        if held[1] != number:
            return held[1], held[2], None
        session: Session = held[0]
        y = await session.run(x)
        held[1] += len(x)
        if held[1] - held[2] >= self.every:
            state, frames = await session.save(), held[1]
            await self.store.put.remote(id, frames, state)
            held[2] = frames
        return held[1], held[2], y

    async def take_up(self, id: str) -> None:
        """Go on from the state in the store: after a crash, or a call whose answer was lost."""
        frames, state = await self.store.get.remote(id)
        if id in self.sessions:
            await self.sessions.pop(id)[0].close()
        self.sessions[id] = [await self.batcher.open(state=state), frames, frames]

    async def close(self, id: str) -> None:
        """Free the stream of a session."""
        if id in self.sessions:
            await self.sessions.pop(id)[0].close()


class Client:
    """One session: sends frames one by one, and again those that a new replica wants."""

    def __init__(self, handle: Any, id: str) -> None:
        self.handle, self.id = handle.options(session_id=id), id
        self.number = self.saved = self.moved = 0
        self.kept: list[Any] = []  # frames since `saved`

    async def step(self, x: Any) -> Any:
        """Return y (P,) of frame x (I,)."""
        self.kept.append(x)
        at = self.number
        while True:
            frames = np.stack(self.kept[at - self.saved :])
            try:
                wanted, saved, y = await self.handle.step.remote(self.id, at, frames)
            except (ray.exceptions.RayError, asyncio.TimeoutError):  # the replica is gone
                await asyncio.sleep(0.2)
                continue
            if y is None:
                at, self.moved = wanted, self.moved + 1
                continue
            self.number += 1
            del self.kept[: saved - self.saved]
            self.saved = saved
            return y[-1]


def deploy(path: str, replicas: int = 2, every: int = 10, **options: Any) -> Any:
    """Return a handle of the deployment, on the cluster that `ray.init` found."""
    store = Store.options(name="states", get_if_exists=True).remote()
    app = Recurrent.options(num_replicas=replicas, **options).bind(path, store, every)
    return serve.run(app, name="recurrent", route_prefix=None)


async def main(path: str) -> None:
    """Deploy a file's layer, and run a session of a hundred frames through it."""
    handle = deploy(path)
    size = fastrnn.load(path).input_size
    client = Client(handle, "session-1")
    for _ in range(100):
        y = await client.step(np.random.default_rng(0).standard_normal(size).astype(np.float32))
    print(y)


if __name__ == "__main__":
    ray.init()
    asyncio.run(main(sys.argv[1]))
