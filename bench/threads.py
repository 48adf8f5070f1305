"""Time one thread beside two: sequences and steps of one layer, turn by turn, wall time.

The ratio is the median over the rounds of one thread's time over two threads' in the same round.
It needs two cores that nobody else uses: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np

import fastrnn
from fastrnn.weights import StackConfig

ROUNDS = 15
CASES = [  # cell, H = I, B, T
    *product(["LSTM", "GRU"], [512, 1024], [1, 32], [100]),
    *product(["LSTM", "GRU"], [256, 512, 1024], [1, 16], [1]),
]


def make(cell: str, size: int, threads: int) -> fastrnn.LSTM | fastrnn.GRU:
    rng = np.random.default_rng(0)
    bound = size**-0.5
    weights = {
        name: rng.uniform(-bound, bound, shape).astype(np.float32)
        for name, shape in StackConfig(cell, size, size).shapes().items()
    }
    return getattr(fastrnn, cell).from_state_dict(weights, threads=threads)


def measure(cell: str, size: int, batch: int, steps: int) -> dict[str, object]:
    x = np.random.default_rng(1).standard_normal((steps, batch, size)).astype(np.float32)
    layers = [make(cell, size, threads) for threads in (1, 2)]
    if not np.array_equal(layers[0](x)[0], layers[1](x)[0]):
        raise SystemExit(f"{cell} H={size} B={batch}: two threads give other bits than one")
    streams = [layer.stream(batch) for layer in layers]
    calls = 1 if steps > 1 else 50
    seconds = np.empty((ROUNDS, 2))
    for row in seconds:
        for i, (layer, stream) in enumerate(zip(layers, streams, strict=True)):
            begin = perf_counter()
            for _ in range(calls):
                layer(x) if steps > 1 else stream.step(x[0])
            row[i] = (perf_counter() - begin) / calls
    one, two = np.median(seconds, axis=0)
    ratio = float(np.median(seconds[:, 0] / seconds[:, 1]))
    return {
        "cell": cell, "size": size, "batch": batch, "steps": steps,
        "us_1": round(one * 1e6, 1), "us_2": round(two * 1e6, 1), "ratio": round(ratio, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write JSON here")
    args = parser.parse_args()
    results = []
    for case in CASES:
        result = measure(*case)
        results.append(result)
        print(
            "{cell} H={size} B={batch} T={steps}: {us_1} us, {us_2} us, {ratio} x".format(**result)
        )
        sys.stdout.flush()
    if args.out:
        report = {"machine": fastrnn.info(), "rounds": ROUNDS, "cases": results}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
