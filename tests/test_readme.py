"""What README shows runs, block by block, in the order in which a reader would type it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_python_block(torch, tmp_path, monkeypatch):
    """One namespace for all; the first block saves the model that the others load."""
    monkeypatch.chdir(tmp_path)
    model = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict({"lstm": torch.nn.LSTM(40, 256, num_layers=3)}),
            "head": torch.nn.Linear(256, 10),
        }
    )
    namespace = {"model": model, "torch": torch}
    assert len(BLOCKS) >= 6
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), namespace)
    expected, _ = model["encoder"]["lstm"](torch.from_numpy(namespace["x"].astype(np.float32)))
    np.testing.assert_allclose(
        namespace["lstm"](namespace["x"])[0], expected.detach().numpy(), 1e-4, 1e-5
    )
