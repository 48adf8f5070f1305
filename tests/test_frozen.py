"""Frozen TorchScript: the constants of its code that are a stack's weights get their names back."""

from __future__ import annotations

import time
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn import formats
from fastrnn.formats.torch.frozen import MAX_LINE

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")

# By the name that its stack has: of a module with a list of weights the module's, else the call's.
MODULES = {
    "enc": torch.nn.GRU(3, 4, 2, bidirectional=True),
    "lstm": torch.nn.LSTM(8, 4, bias=False),
    "rec": torch.nn.RNN(4, 5),
    "lstm_1": torch.nn.LSTMCell(5, 5),
    "proj": torch.nn.LSTM(5, 6, proj_size=2),
    "gru": torch.nn.GRUCell(2, 3),
    "relu": torch.nn.RNN(3, 2, nonlinearity="relu"),
}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec, self.rec, self.cell, self.proj, self.last, self.relu = MODULES.values()
        self.head = torch.nn.Linear(2, 2)

    def forward(self, x):
        y, _ = self.enc(x)
        y, _ = self.dec(y)
        y, _ = self.rec(y)
        h, _ = self.cell(y[0])
        y, _ = self.proj(h[None])
        y, _ = self.relu(self.last(y[0])[None])
        return self.head(y)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    path = tmp_path_factory.mktemp("frozen") / "frozen.pt"
    torch.jit.save(torch.jit.freeze(torch.jit.script(Net().eval())), path)
    return path


@pytest.mark.parametrize("name", MODULES)
def test_every_kind_of_stack_is_found(frozen, name):
    theirs = MODULES[name].state_dict()
    layer = fastrnn.load(frozen, name)
    for ours, value in layer.state_dict().items():
        want = theirs.get(ours, theirs.get(ours.removesuffix("_l0")))
        np.testing.assert_array_equal(value, want.numpy())
    assert len(layer.state_dict()) == len(theirs)
    assert set(layer.folded.values()) == {"constant of a frozen module"}


def test_what_else_is_constant_keeps_its_number(frozen):
    weights = formats.read(frozen)
    stacks = {name.partition(".")[0] for name in weights}
    assert stacks == {*MODULES, "CONSTANTS"}
    assert sum(name.startswith("CONSTANTS.c") for name in weights) == 2


def rewritten(frozen, path, change):
    with zipfile.ZipFile(frozen) as old, zipfile.ZipFile(path, "w") as new:
        for record in old.infolist():
            data = old.read(record)
            new.writestr(record, change(data) if record.filename.endswith(".py") else data)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda code: code.replace(b"False, True, False)", b"False, maybe, False)"),
        lambda code: code.replace(b"True, 2, 0.", b"True, 3, 0."),
        lambda code: code.replace(b"enc__flat_weights = [CONSTANTS.c0, ", b"enc__flat_weights = ["),
        lambda code: code.replace(b"CONSTANTS.c0, ", b"x, "),
        lambda code: code.replace(b"torch.gru(", b"torch.gru(" + b" " * MAX_LINE),
        lambda code: b"\n" * (5 << 20) + code,
    ],
)
def test_a_call_that_looks_otherwise_leaves_constants_as_they_are(frozen, change, tmp_path):
    path = rewritten(frozen, tmp_path / "changed.pt", change)
    assert "enc.weight_ih_l0" not in formats.read(path)
    with pytest.raises(fastrnn.FormatError, match="no recurrent stack"):
        fastrnn.load(path, "enc")


def test_a_file_without_names_says_that_it_is_frozen(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2)).eval()
    torch.jit.save(torch.jit.freeze(torch.jit.script(net)), tmp_path / "a.pt")
    with pytest.raises(fastrnn.FormatError, match="a frozen TorchScript module has its weights as"):
        fastrnn.load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "line",
    [
        " " * 19_000 + "x",
        "x = torch.lstm_cell(" + ", CONSTANTS.c0" * 1_300 + "x)",
        "x = torch.lstm(" + ", a, True, 1, 0." * 1_200,
    ],
)
def test_code_that_matches_nearly_takes_no_longer_than_other_code(line, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\2}.")
        archive.writestr("a/constants.pkl", b"\x80\2).")
        archive.writestr("a/code/a.py", f"{line}\n" * 10)
    start = time.perf_counter()
    with pytest.raises(fastrnn.FormatError, match="no readable tensor"):
        fastrnn.read(path)
    assert time.perf_counter() - start < 10  # seconds; it was 9 for each line
