"""What README shows runs, block by block, in the order in which a reader would type it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
from serving import ServerProcess
from test_models import SILERO

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


SAVES = "torch.save(net.state_dict()"


def test_every_python_block(torch, tmp_path, monkeypatch, capsys):
    """One namespace for all; a server has the weights that one of the first blocks saves."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SILERO / "silero_vad.onnx", tmp_path)
    net = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.ModuleDict({"lstm": torch.nn.LSTM(40, 256, num_layers=3)}),
            "head": torch.nn.Linear(256, 10),
        }
    )
    names = {"net": net, "torch": torch, "__name__": "readme"}
    (saves,) = [n for n, block in enumerate(BLOCKS) if block.startswith(SAVES)]
    for block in BLOCKS[: saves + 1]:
        exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out == "1\n"  # the delay
    with ServerProcess("model.pt", "encoder.lstm") as server:
        for block in BLOCKS[saves + 1 :]:
            exec(compile(block.replace("8765", str(server.port)), "README.md", "exec"), names)
    assert "'frames': 600" in capsys.readouterr().out
    assert names["hello"]["fingerprint"] == names["lstm"].fingerprint
    x = np.ascontiguousarray(names["x"], np.float32)
    expected, _ = net["encoder"]["lstm"](torch.from_numpy(x))
    np.testing.assert_allclose(names["lstm"](x)[0], expected.detach().numpy(), 1e-4, 1e-5)
