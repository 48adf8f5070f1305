"""The Ray example on a cluster of two nodes, of which one is removed in the middle."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from serving import make_layer

ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")
from ray.cluster_utils import Cluster  # noqa: E402

EXAMPLE = Path(__file__).parent.parent / "examples" / "ray_serve.py"
CLIENTS, FRAMES = 20, 60


@pytest.fixture
def example(monkeypatch):
    spec = importlib.util.spec_from_file_location("ray_serve_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ray_serve_example", module)
    spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)  # the nodes need no copy of the file
    yield module
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.filterwarnings("ignore")
def test_a_node_removed_in_the_middle_loses_no_frame(example, tmp_path, rng):
    layer = make_layer()
    path = tmp_path / "model.npz"
    np.savez(path, **layer.state_dict())
    x = rng.standard_normal((CLIENTS, FRAMES, layer.input_size)).astype(np.float32)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": {"a": 9}})
    other = cluster.add_node(num_cpus=2, resources={"b": 9})
    moved = 0
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        handle = example.deploy(
            str(path), 2, every=7, max_replicas_per_node=1, ray_actor_options={"num_cpus": 0.5}
        )

        async def client(number, half, gone):
            one = example.Client(handle, f"session-{number}")
            y = [await one.step(frame) for frame in x[number, : FRAMES // 2]]
            half.release()
            await gone.wait()
            y += [await one.step(frame) for frame in x[number, FRAMES // 2 :]]
            return np.stack(y), one.moved

        async def run():
            half, gone = asyncio.Semaphore(0), asyncio.Event()
            tasks = [asyncio.create_task(client(i, half, gone)) for i in range(CLIENTS)]
            for _ in range(CLIENTS):
                await half.acquire()
            await asyncio.get_running_loop().run_in_executor(
                None, lambda: cluster.remove_node(other, allow_graceful=False)
            )
            gone.set()
            return await asyncio.gather(*tasks)

        for number, (y, moves) in enumerate(asyncio.run(asyncio.wait_for(run(), 150))):
            np.testing.assert_array_equal(y, layer.stream().run(x[number]))
            moved += moves
        assert moved > 0
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
