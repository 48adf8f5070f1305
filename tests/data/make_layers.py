"""Write layers.npz: what torch says of small layers with every option, for where torch is absent.

    python tests/data/make_layers.py

Keys are "<case>/<array>"; the array "case" holds the case's options as JSON.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch

LENGTHS = [3, 7, 1, 5]


def cases():
    for dtype, bidirectional in product(["float32", "float64"], [False, True]):
        common = {"num_layers": 2, "bidirectional": bidirectional}
        yield "LSTM", dtype, common
        yield "LSTM", dtype, {**common, "proj_size": 3, "bias": False}
        yield "GRU", dtype, common
        yield "RNN", dtype, {**common, "nonlinearity": "relu"}
        yield "RNN", dtype, {"num_layers": 1, "bidirectional": bidirectional, "batch_first": True}


def main():
    torch.manual_seed(0)
    arrays = {}
    for index, (cell, dtype, options) in enumerate(cases()):
        module = getattr(torch.nn, cell)(5, 9, **options).to(getattr(torch, dtype)).eval()
        batch_first = options.get("batch_first", False)
        x = torch.randn((4, 7, 5) if batch_first else (7, 4, 5), dtype=module.weight_ih_l0.dtype)
        rnn = torch.nn.utils.rnn
        with torch.no_grad():
            y, state = module(x)
            packed = rnn.pack_padded_sequence(
                x, torch.tensor(LENGTHS), batch_first, enforce_sorted=False
            )
            ragged, ragged_state = module(packed)
            ragged, _ = rnn.pad_packed_sequence(ragged, batch_first, total_length=7)
        case = {"cell": cell, "dtype": dtype, "lengths": LENGTHS, "options": options}
        values = {
            "case": np.array(json.dumps(case)),
            "x": x.numpy(),
            "y": y.numpy(),
            "ragged": ragged.numpy(),
        }
        for name, s in (("state", state), ("ragged_state", ragged_state)):
            values |= {f"{name}{i}": t.numpy() for i, t in enumerate(s if cell == "LSTM" else (s,))}
        values |= {f"weights.{k}": v.numpy() for k, v in module.state_dict().items()}
        arrays |= {f"{index}/{name}": value for name, value in values.items()}
    np.savez_compressed(Path(__file__).with_name("layers.npz"), **arrays)


if __name__ == "__main__":
    main()
