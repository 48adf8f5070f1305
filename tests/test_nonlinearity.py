"""An RNN is run with the nonlinearity that its file says, where it says one."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main
from fastrnn.formats import Weights
from fastrnn.formats.scriptcode import with_relu
from fastrnn.formats.source import Budget, Source
from fastrnn.formats.ziparchive import ZipArchive

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(torch.nn.Module):
    def __init__(self, nonlinearity, other):
        super().__init__()
        self.layer = torch.nn.RNN(3, 4, nonlinearity=nonlinearity)
        self.cell = torch.nn.RNNCell(4, 3, nonlinearity=other)

    def forward(self, x):
        y, _ = self.layer(x)
        return self.cell(y[0])


def saved(net, how, path):
    example = torch.ones(2, 1, 3)
    if how == "script":
        torch.jit.save(torch.jit.script(net), path)
    elif how == "trace":
        torch.jit.save(torch.jit.trace(net, example), path)
    elif how == "frozen":
        torch.jit.save(torch.jit.freeze(torch.jit.script(net)), path)
    elif how == "frozen trace":
        torch.jit.save(torch.jit.freeze(torch.jit.trace(net, example)), path)
    else:
        torch.save(net, path, _use_new_zipfile_serialization=how == "pickle")
    return path


@pytest.mark.parametrize("how", ["pickle", "legacy", "script", "trace", "frozen", "frozen trace"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_module_that_is_saved_whole_says_it(how, nonlinearity, tmp_path):
    net = Net(nonlinearity, "tanh" if nonlinearity == "relu" else "relu").eval()
    path = saved(net, how, tmp_path / "a.pt")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = net.layer(x)[0].numpy()
        h = net.cell(torch.from_numpy(want[0])).numpy()
    name = "rnn" if how == "frozen trace" else "layer"  # the weights' list has no name of its own
    layer = fastrnn.load(path, name)
    assert layer.nonlinearity == nonlinearity
    np.testing.assert_allclose(layer(x.numpy())[0], want, rtol=0, atol=1e-6)
    read = fastrnn.RNN.from_state_dict(fastrnn.read(path), name)
    assert read.nonlinearity == nonlinearity
    if not how.startswith("frozen"):  # there the cell has another name, or is products and sums
        cell = fastrnn.RNNCell.from_state_dict(fastrnn.read(path), "cell")
        np.testing.assert_allclose(cell(want[0]), h, rtol=0, atol=1e-6)


def test_what_the_caller_says_stands(tmp_path):
    path = saved(Net("relu", "relu"), "pickle", tmp_path / "a.pt")
    assert fastrnn.load(path, "layer", nonlinearity="tanh").nonlinearity == "tanh"


def test_a_state_dict_does_not_say(tmp_path):
    torch.save(Net("relu", "relu").state_dict(), tmp_path / "a.pt")
    assert fastrnn.load(tmp_path / "a.pt", "layer").nonlinearity == "tanh"
    assert fastrnn.load(tmp_path / "a.pt", "layer", nonlinearity="relu").nonlinearity == "relu"


CODE = """class RNN(Module):
  weight_ih_l0 : Tensor
"""


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (["rnn_relu"], {"__torch__.rnn.RNN": True}),
        (["rnn_tanh"], {}),
        (["rnn_relu", "rnn_tanh"], {"__torch__.rnn.RNN": False}),
        ([], {}),
    ],
)
def test_a_class_without_code_computes_as_the_code_around_it_says(calls, said, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/__torch__/rnn.py", CODE)
        archive.writestr("a/code/__torch__/net.py", "".join(f"y = torch.{n}(x)\n" for n in calls))
    with open(path, "rb") as file:
        assert with_relu(ZipArchive(Source(file, path.stat().st_size)), "a/") == said


def test_a_stack_that_may_be_either_is_refused(tmp_path):
    weights = Weights(Budget(0))
    weights.update(torch.nn.RNN(3, 4).state_dict())
    weights.unread["nonlinearity"] = "is relu or tanh"
    with pytest.raises(ValueError, match=r"^nonlinearity is relu or tanh"):
        fastrnn.RNN.from_state_dict(weights)


def test_the_command_tells_it(tmp_path, capsys):
    path = saved(Net("relu", "tanh"), "pickle", tmp_path / "a.pt")
    assert main(["inspect", str(path)]) == 0
    assert "  layer  RNN(3, 4, nonlinearity='relu'): 36 parameters" in capsys.readouterr().out
    assert main(["inspect", str(path), "--json"]) == 0
    stacks = json.loads(capsys.readouterr().out)["stacks"]
    assert [stack.get("nonlinearity") for stack in stacks] == ["relu", None]
    assert main(["convert", str(path), str(tmp_path / "a.npz")]) == 0
    assert capsys.readouterr().err == (
        "fastrnn: left out: what is said of layer: load it with nonlinearity='relu'\n"
    )
