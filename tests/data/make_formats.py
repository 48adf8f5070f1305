"""Writes tests/data/formats with PyTorch: files of every kind, and what PyTorch says is in them.

Run it once, from anywhere: `python tests/data/make_formats.py`. The files are committed, so that the
tests that read them need no PyTorch; `expected.npz` holds the truth as "FILE/NAME".
"""

from __future__ import annotations

import io
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "formats"


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.encoder = torch.nn.GRU(3, 2, bidirectional=True)
        self.head = torch.nn.Linear(4, 2)
        self.register_buffer("steps", torch.tensor(7))
        self.parent = [self]

    def forward(self, x):
        y, _ = self.encoder(self.embedding(x))
        return self.head(y)


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTMCell(3, 2)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 2)])

    def forward(self, x):
        h, _ = self.rnn(x)
        for head in self.heads:
            h = h + head(h).sum()
        return h * torch.tensor([2.0])  # traced, it becomes a constant of the code


def checkpoint() -> dict[str, object]:
    model = torch.nn.LSTM(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3))[0].sum().backward()
    optimizer.step()
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "epoch": 3,
        "model_state": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "views": {
            "base": base,
            "tied": base,
            "transposed": base.t(),
            "offset": base[1:, 2:4],
            "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
        },
        "types": [
            torch.tensor([0, 1, 2]).to(dtype)
            for dtype in (
                torch.float16,
                torch.bfloat16,
                torch.float32,
                torch.float64,
                torch.int8,
                torch.int16,
                torch.int32,
                torch.int64,
                torch.uint8,
                torch.bool,
            )
        ],
        "mean": np.arange(6.0).reshape(2, 3),
        "loss": np.float64(0.5),
    }


def flat(tree: object, name: str = "") -> dict[str, np.ndarray]:
    if isinstance(tree, torch.Tensor):
        tree = tree.detach()
        return {name: (tree.float() if tree.dtype == torch.bfloat16 else tree).numpy()}
    if isinstance(tree, np.ndarray):
        return {name: tree}
    if isinstance(tree, (dict, list)):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {
            key: array
            for child, value in pairs
            for key, array in flat(value, f"{name}.{child}" if name else str(child)).items()
        }
    return {}


def save_script(script: torch.jit.ScriptModule, path: Path) -> None:
    """As torch.jit.save, without the records that name source files of the machine it ran on."""
    written = io.BytesIO(script.save_to_buffer())
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                target.writestr(entry, source.read(entry))


def main() -> None:
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    module = types.ModuleType("mypkg.models")
    sys.modules["mypkg"], sys.modules["mypkg.models"] = types.ModuleType("mypkg"), module
    module.Tagger, Tagger.__module__ = Tagger, "mypkg.models"
    tagger, tree = Tagger().eval(), checkpoint()
    script = torch.jit.trace(Scripted().eval(), torch.ones(2, 3))
    quantized = {
        "weight": torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8),
        "sparse": torch.eye(3).to_sparse(),
        "bias": torch.ones(2),
    }
    old = {"_use_new_zipfile_serialization": False}

    torch.save(tagger.state_dict(), FOLDER / "state.pt")
    torch.save(tagger.state_dict(), FOLDER / "state_legacy.pt", **old)
    torch.save(tagger, FOLDER / "module.pt")
    torch.save(tree, FOLDER / "checkpoint.pt")
    torch.save(tree, FOLDER / "checkpoint_legacy.pt", **old)
    torch.save(quantized, FOLDER / "quantized.pt")
    save_script(script, FOLDER / "script.pt")

    truth = {}
    for suffix in ("", "_legacy"):
        truth[f"state{suffix}.pt"] = flat(tagger.state_dict())
        truth[f"checkpoint{suffix}.pt"] = flat(tree)
    truth["module.pt"] = truth["state.pt"]
    truth["quantized.pt"] = flat(
        {"weight": quantized["weight"].dequantize(), "bias": quantized["bias"]}
    )
    truth["script.pt"] = flat(script.state_dict())
    expected = {f"{file}/{name}": value for file in truth for name, value in truth[file].items()}
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
