"""`fastrnn serve` with one worker and two, with TLS and without: frames a second.

    python bench/workers.py --json bench/results/workers-<cpu>.json

Clients of one process keep `--connections` WebSockets busy, each with a message of `--frames`
frames under way, against each server in turn, `--rounds` times. Clients and server share the
machine: the CPU seconds of both are told, per frame, and how many cores they had.
"""

from __future__ import annotations

import argparse
import json
import selectors
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from served import ROWS, TABLE, Server, masked, open_websocket

from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.record import new_record, write_record

SERVERS: dict[str, dict[str, Any]] = {
    "1 worker": {"workers": 1, "tls": False},
    "2 workers": {"workers": 2, "tls": False},
    "1 worker, TLS": {"workers": 1, "tls": True},
}


def drive(server: Server, size: int, args: argparse.Namespace) -> dict[str, float]:
    """Keep every connection busy for so long; return frames and CPU seconds."""
    message = masked(b"".join(ROWS[: args.frames]))
    answer = 4 * size * args.frames
    selector = selectors.DefaultSelector()
    for _ in range(args.connections):
        client = open_websocket(server.url)
        client.sendall(masked(b'{"op": "reset"}', opcode=1))
        said = b""
        while not said.endswith(b'{"op": "reset"}'):  # the hello may be there already
            said += client.recv(65536)
        client.setblocking(False)
        client.send(message)
        selector.register(client, selectors.EVENT_READ, [0])
    header = 2 if answer < 126 else 4 if answer < 65536 else 10
    frames, begin = 0, time.perf_counter()
    cpu, own = server.cpu_seconds(), time.process_time()
    while (now := time.perf_counter()) < begin + args.seconds:
        for key, _ in selector.select():
            client: Any = key.fileobj
            try:
                key.data[0] += len(client.recv(262144))
            except OSError:  # TLS: not a whole record yet
                continue
            if key.data[0] >= header + answer:
                key.data[0] = 0
                frames += args.frames
                client.send(message)
    cpu, own = server.cpu_seconds() - cpu, time.process_time() - own
    for key in [*selector.get_map().values()]:
        key.fileobj.close()  # type: ignore[union-attr]
    wall = now - begin
    return {
        "frames_per_second": frames / wall,
        "server_us_per_frame": 1e6 * cpu / frames,
        "client_us_per_frame": 1e6 * own / frames,
        "server_cores": cpu / wall,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--frames", type=int, default=1, help="in a message")
    parser.add_argument("--size", type=int, default=128, help="hidden size of the LSTM")
    parser.add_argument("--json", type=Path, help="write a record here")
    args = parser.parse_args()
    case = Case("LSTM", TABLE.shape[1], args.size)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.npz")
        np.savez(path, **random_weights(case))
        for _ in range(args.rounds):
            for name, options in SERVERS.items():
                server = Server(path, drain_seconds=0.5, **options)
                rounds[name].append(drive(server, args.size, args))
                server.stop()
    found = {
        name: {key: float(np.median([one[key] for one in many])) for key in many[0]}
        for name, many in rounds.items()
    }
    ratios = [
        two["frames_per_second"] / one["frames_per_second"]
        for one, two in zip(rounds["1 worker"], rounds["2 workers"], strict=True)
    ]
    result = {
        "connections": args.connections, "frames_in_a_message": args.frames, "servers": found,
        "two_over_one": float(np.median(ratios)),
        "tls_us_per_frame": found["1 worker, TLS"]["server_us_per_frame"]
        - found["1 worker"]["server_us_per_frame"],
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.json is not None:
        record = new_record(Path(__file__).parent)
        write_record({**record, "case": case.id, "workers": result}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
