"""What README shows runs, block by block, in the order in which a reader would type it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from serving import ServerProcess

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_python_block(torch, tmp_path, monkeypatch, capsys):
    """One namespace for all; the first block saves the model, which a server then serves."""
    monkeypatch.chdir(tmp_path)
    model = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict({"lstm": torch.nn.LSTM(40, 256, num_layers=3)}),
            "head": torch.nn.Linear(256, 10),
        }
    )
    names = {"model": model, "torch": torch}
    assert len(BLOCKS) >= 8
    exec(BLOCKS[0], names)
    with ServerProcess("model.pt", "encoder.lstm") as server:
        for block in BLOCKS[1:]:
            exec(compile(block.replace("8765", str(server.port)), "README.md", "exec"), names)
    assert "'frames': 600" in capsys.readouterr().out
    assert names["hello"]["fingerprint"] == names["lstm"].fingerprint
    x = names["x"].astype(np.float32)
    expected, _ = model["encoder"]["lstm"](torch.from_numpy(x))
    np.testing.assert_allclose(names["lstm"](x)[0], expected.detach().numpy(), 1e-4, 1e-5)
