"""What Ray Serve costs a frame, beside `fastrnn serve`: the same sessions, a frame each under way.

    python bench/ray_cost.py --json bench/results/ray-<cpu>.json

Needs `.[ray]`. Sessions are asyncio tasks of one process; one replica, and one worker, each on this
machine. The time of a frame is wall time over frames, clients and server together, turn by turn.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from served import ROWS, TABLE, Server
from websockets.asyncio.client import connect

from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record


async def through_ray(example: Any, handle: Any, turn: int, args: argparse.Namespace) -> float:
    clients = [example.Client(handle, f"{turn} {i}") for i in range(args.sessions)]
    for client in clients:
        await client.step(TABLE[0])

    async def go(client: Any) -> None:
        for i in range(args.frames):
            await client.step(TABLE[i])

    begin = time.perf_counter()
    await asyncio.gather(*map(go, clients))
    taken = time.perf_counter() - begin
    await asyncio.gather(*(client.handle.close.remote(client.id) for client in clients))
    return taken / (args.sessions * args.frames)


async def through_websockets(url: str, args: argparse.Namespace) -> float:
    sockets = [await connect(url, proxy=None, compression=None) for _ in range(args.sessions)]
    for websocket in sockets:
        await websocket.recv()  # the hello

    async def go(websocket: Any) -> None:
        for i in range(args.frames):
            await websocket.send(ROWS[i])
            await websocket.recv()

    begin = time.perf_counter()
    await asyncio.gather(*map(go, sockets))
    taken = time.perf_counter() - begin
    for websocket in sockets:
        await websocket.close()
    return taken / (args.sessions * args.frames)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--frames", type=int, default=100, help="of each session in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write a record here")
    args = parser.parse_args()
    path = Path(__file__).parent.parent / "examples" / "ray_serve.py"
    spec = importlib.util.spec_from_file_location("ray_serve_example", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules["ray_serve_example"] = example
    spec.loader.exec_module(example)
    ray.cloudpickle.register_pickle_by_value(example)
    case = Case("LSTM", TABLE.shape[1], 128)
    times: dict[str, list[float]] = {"ray": [], "server": []}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.npz")
        np.savez(model, **random_weights(case))
        ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        server = Server(model, drain_seconds=1)
        try:
            handle = example.deploy(
                str(model), 1, every=args.frames, ray_actor_options={"num_cpus": 0.5}
            )
            for turn in range(args.rounds + 1):  # the first is not counted
                times["ray"].append(asyncio.run(through_ray(example, handle, turn, args)))
                times["server"].append(asyncio.run(through_websockets(server.url, args)))
        finally:
            server.stop()
            serve.shutdown()
            ray.shutdown()
    found = {f"{name}_us_per_frame": 1e6 * float(np.median(t[1:])) for name, t in times.items()}
    ratios = np.array(times["ray"][1:]) / np.array(times["server"][1:])
    result = {"sessions": args.sessions, **found, "ray_over_server": float(np.median(ratios))}
    print(json.dumps(result, indent=1))
    if args.json is not None:
        record = new_record(Path(__file__).parent)
        write_record({**record, "case": case.id, "ray": result}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
