"""What torch said, recorded by tests/data/make_layers.py, for machines without torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ENGINES, TOLERANCE

import fastrnn

GOLDEN = np.load(Path(__file__).parent / "data" / "layers.npz")
COUNT = len({name.partition("/")[0] for name in GOLDEN.files})
LAYERS = {"LSTM": fastrnn.LSTM, "GRU": fastrnn.GRU, "RNN": fastrnn.RNN}


def test_there_are_cases():
    assert COUNT == 20


@pytest.mark.parametrize(("how", "dtype"), ENGINES)
def test_layers_say_what_torch_said(how, dtype):
    for index in range(COUNT):
        values = {
            name.partition("/")[2]: GOLDEN[name]
            for name in GOLDEN.files
            if name.startswith(f"{index}/")
        }
        case = json.loads(str(values["case"]))
        if case["dtype"] != dtype:
            continue
        weights = {
            name.removeprefix("weights."): value
            for name, value in values.items()
            if name.startswith("weights.")
        }
        extra = {k: v for k, v in case["options"].items() if k in ("batch_first", "nonlinearity")}
        layer = LAYERS[case["cell"]].from_state_dict(weights, **how, **extra)
        for name, lengths in (("y", None), ("ragged", case["lengths"])):
            y, state = layer(values["x"], lengths=lengths)
            np.testing.assert_allclose(y, values[name], **TOLERANCE[dtype], err_msg=str(case))
            prefix = "state" if name == "y" else "ragged_state"
            for i, part in enumerate(state if case["cell"] == "LSTM" else (state,)):
                np.testing.assert_allclose(
                    part, values[f"{prefix}{i}"], **TOLERANCE[dtype], err_msg=str(case)
                )
