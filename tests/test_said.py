"""What a file says of a layer beside its tensors is what runs, or the layer is refused."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main
from fastrnn.formats import Weights
from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.said import NotSaid, Said
from fastrnn.formats.source import Budget, Source
from fastrnn.formats.torch.scriptcode import said_of_classes

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
    elif how == "export":
        torch.export.save(torch.export.export(net, (example,)), path)
    elif how == "frozen trace":
        torch.jit.save(torch.jit.freeze(torch.jit.trace(net, example)), path)
    else:
        torch.save(net, path, _use_new_zipfile_serialization=how == "pickle")
    return path


HOW = ["pickle", "legacy", "script", "trace", "frozen", "frozen trace", "export"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_module_that_is_saved_whole_says_it(how, nonlinearity, tmp_path):
    net = Net(nonlinearity, "tanh" if nonlinearity == "relu" else "relu").eval()
    path = saved(net, how, tmp_path / "a.pt2")
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
  weight_hh_l0 : Tensor
"""


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (["rnn_relu(x)"], Said({"nonlinearity": "relu"})),
        (["rnn_tanh(x)"], None),
        (["rnn_relu(x)", "rnn_tanh(x)"], NotSaid("nonlinearity", "is relu or tanh")),
        (["lstm(x, True, 1, 0., False, False, True)"], Said({"batch_first": True})),
        (["lstm(x, True, 1, 0., False, True)"], None),
        (["lstm(x, True, 1, 0., False, False, False)"], None),
        (
            ["lstm(x, True, 1, 0., False, False, True)", "gru(x, True, 1, 0., a, False, False)"],
            NotSaid("batch_first", "is True or False"),
        ),
        ([], None),
    ],
)
def test_a_class_without_code_computes_as_the_code_around_it_says(calls, said, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/code/__torch__/torch/nn/modules/rnn.py", CODE)
        archive.writestr("a/code/__torch__/net.py", "".join(f"y = torch.{n}\n" for n in calls))
    with open(path, "rb") as file:
        found = said_of_classes(ZipArchive(Source(file, path.stat().st_size)), "a/")
    assert found.get("__torch__.torch.nn.modules.rnn.RNN") == said


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


class Around(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("batch_first", [False, True])
def test_so_it_does_of_batch_first(how, batch_first, tmp_path):
    net = Around(torch.nn.LSTM(3, 4, batch_first=batch_first)).eval()
    path = saved(net, how, tmp_path / "a.pt2")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = net(x).numpy()
    layer = fastrnn.load(path)
    assert layer.batch_first is batch_first
    np.testing.assert_allclose(layer(x.numpy())[0], want, rtol=0, atol=1e-6)
    assert not fastrnn.load(path, batch_first=False).batch_first


@pytest.mark.parametrize("how", ["pickle", "legacy", "script", "trace"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", [torch.nn.LSTM, torch.nn.GRU])
def test_and_so_does_a_quantized_module(how, batch_first, cell, tmp_path):
    net = Around(cell(3, 4, batch_first=batch_first)).eval()
    net = torch.ao.quantization.quantize_dynamic(net, {cell}, torch.qint8)
    path = saved(net, how, tmp_path / "a.pt")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = net(x).numpy()
    layer = fastrnn.load(path)
    assert layer.batch_first is batch_first
    np.testing.assert_allclose(layer(x.numpy())[0], want, rtol=0, atol=2e-2)  # x is rounded, too


class Packed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.GRU(3, 4)

    def forward(self, x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.layer(packed)[0].data


@pytest.mark.parametrize("freeze", [False, True])
def test_a_packed_sequence_has_no_batch_first(freeze, tmp_path):
    net = torch.jit.script(Packed().eval())
    torch.jit.save(torch.jit.freeze(net) if freeze else net, tmp_path / "a.pt")
    assert not fastrnn.load(tmp_path / "a.pt").batch_first


class ResetBefore(torch.nn.RNNCellBase):
    """A GRU of the first form: its names are torch's, what it computes is not."""

    def __init__(self):
        super().__init__(3, 4, bias=False, num_chunks=3)

    def forward(self, x, h):
        x_r, x_z, x_n = (x @ self.weight_ih.T).chunk(3, 1)
        w_r, w_z, w_n = self.weight_hh.chunk(3, 0)
        r, z = torch.sigmoid(x_r + h @ w_r.T), torch.sigmoid(x_z + h @ w_z.T)
        n = torch.tanh(x_n + (r * h) @ w_n.T)
        return (1 - z) * n + z * h


class Stepping(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = ResetBefore()

    def forward(self, x):
        return self.cell(x[0], x.new_zeros(x.shape[1], 4))


@pytest.mark.parametrize("how", ["pickle", "legacy", "script", "trace", "export"])
def test_a_class_that_is_not_torchs_is_refused_by_name(how, tmp_path, capsys):
    path = saved(Stepping().eval(), how, tmp_path / "a.pt2")
    with pytest.raises(fastrnn.FormatError, match=r"a\.pt2: cell\.forward is .*ResetBefore's, and"):
        fastrnn.load(path)
    assert main(["convert", str(path), str(tmp_path / "a.npz")]) == 1
    assert "cell.forward is" in capsys.readouterr().err
    tensors = dict(fastrnn.read(path))
    assert fastrnn.GRU.from_state_dict(tensors, "cell").hidden_size == 4


class Derived(torch.nn.LSTM):
    def forward(self, x):
        return super().forward(x * 1)


@pytest.mark.parametrize("how", ["pickle", "script", "trace", "export"])
def test_a_class_that_calls_torchs_layer_is_one(how, tmp_path, capsys):
    net = Around(Derived(3, 4)).eval()
    if how == "script":  # which has no super()
        net = Around(torch.nn.LSTM(3, 4)).eval()
    path = saved(net, how, tmp_path / "a.pt2")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = net(x).numpy()
    np.testing.assert_allclose(fastrnn.load(path)(x.numpy())[0], want, rtol=0, atol=1e-6)
    assert main(["inspect", str(path)]) == 0
    assert ("Derived, taken for the layer of torch that" in capsys.readouterr().out) == (
        how == "pickle"
    )


def test_a_program_that_is_decomposed_says_its_relu(tmp_path, capsys):
    net = Around(torch.nn.RNN(3, 4, nonlinearity="relu")).eval()
    program = torch.export.export(net, (torch.ones(5, 2, 3),)).run_decompositions()
    torch.export.save(program, tmp_path / "a.pt2")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = net(x).numpy()
    layer = fastrnn.load(tmp_path / "a.pt2")
    np.testing.assert_allclose(layer(x.numpy())[0], want, rtol=0, atol=1e-6)
    assert main(["inspect", str(tmp_path / "a.pt2")]) == 0
    assert "batch_first is not said by a program that is decomposed" in capsys.readouterr().out


@pytest.mark.parametrize("parts", [["weight_hh_l0"], ["weight_ih_l0", "weight_hh_l0"]])
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_program_whose_parameters_are_in_parts_says_it_too(parts, new, bias, tmp_path):
    net = Around(torch.nn.LSTM(3, 4, bias=bias, batch_first=True)).eval()
    utils = torch.nn.utils.parametrizations if new else torch.nn.utils
    for name in parts:
        utils.weight_norm(net.layer, name)
    path = saved(net, "export", tmp_path / "a.pt2")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = net(x).numpy()
    np.testing.assert_allclose(fastrnn.load(path)(x.numpy())[0], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["pt", "json"])
def test_a_dict_that_says_it_beside_its_tensors(kind, tmp_path):
    weights = torch.nn.RNN(3, 4).state_dict()
    told = {"nonlinearity": "relu", "batch_first": True}
    if kind == "pt":
        torch.save({"rnn": {**told, **weights}, "fc": told}, tmp_path / "a")
    else:
        lists = {name: value.tolist() for name, value in weights.items()}
        (tmp_path / "a").write_text(json.dumps({"rnn": {**lists, **told}}))
    layer = fastrnn.load(tmp_path / "a")
    assert (layer.nonlinearity, layer.batch_first) == ("relu", True)


def test_other_layers_that_are_batch_first_say_nothing(tmp_path, capsys):
    net = torch.nn.ModuleDict({"a": torch.nn.MultiheadAttention(4, 2, batch_first=True)})
    net["b"] = torch.nn.GRU(3, 4)
    torch.save(net, tmp_path / "a.pt")
    assert not fastrnn.load(tmp_path / "a.pt").batch_first
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.npz")]) == 0
    assert capsys.readouterr().err == ""
