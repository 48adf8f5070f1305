"""fastrnn.export: torch's modules as files that answer as they do."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections import namedtuple
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest

import fastrnn
from fastrnn.formats import onnx as onnx_files
from fastrnn.models import example
from fastrnn.models.export import exporters

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
from model_zoo import FEATURES, ZOO, ConvLSTM, MeanOverTime, Packed  # noqa: E402
from torch import nn  # noqa: E402

BY_NAME = {entry.name: entry for entry in ZOO}
SIZES = [(1, 8), (3, 21), (2, 12)]  # rows, frames: the example's last

# What one of torch's exporters cannot, and how it says so.
CANNOT = {
    ("CausalPools", "dynamo"): "inferred a static shape of 12",  # max_pool1d
    ("ProjectedLSTM", "torchscript"): "LSTMs with projections",
    ("SelfAttention", "torchscript"): "cannot reshape",  # a length is written into the file
}
# Exported as torch does by itself, where its newer exporter leaves the time open at all.
PLAIN = ["ConvLSTM", "CRNN", "CellStep"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Export an entry of the zoo, once a session."""
    folder, done = tmp_path_factory.mktemp("zoo"), {}

    def export(name, exporter=None):
        key = name, exporter
        if key not in done:
            entry = BY_NAME[name]
            done[key] = folder / f"{name}.{exporter}.onnx"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, when the module itself runs
                fastrnn.export(
                    entry.build(),
                    entry.inputs(),
                    done[key],
                    batch_axis=entry.batch_axis,
                    time_axis=entry.time_axis,
                    states=entry.states,
                    exporter=exporter,
                )
        return done[key]

    return export


def tensors(answer):
    """The tensors of what forward returned, in order."""
    if isinstance(answer, dict):
        return list(answer.values())
    return list(answer) if isinstance(answer, tuple) else [answer]


def check(path, entry):
    """The file's answers beside torch's, at sizes other than the example's too."""
    module, model = entry.build(), fastrnn.load_model(path)
    for rows, frames in SIZES:
        args = entry.inputs(rows, frames, seed=1)
        with torch.no_grad():
            expected = tensors(module(*args))
        got = model(*(arg.numpy() for arg in args))
        got = list(got.values()) if isinstance(got, dict) else [got]
        for one, other in zip(got, expected, strict=True):
            assert example.difference(one, other.numpy()) <= 2e-5


@pytest.mark.parametrize("name", BY_NAME)
def test_the_zoo(exported, name):
    check(exported(name), BY_NAME[name])


@pytest.mark.parametrize("name", [n for n in BY_NAME if (n, "torchscript") not in CANNOT])
def test_the_zoo_by_the_older_exporter(exported, name):
    check(exported(name, "torchscript"), BY_NAME[name])


def pieces(entry, args, cuts):
    """The arguments between each two of `cuts` frames; those without time are whole each time."""
    for begin, end in pairwise(cuts):
        yield [
            arg if (axis := entry.time_axis.get(name)) is None
            else arg[(slice(None),) * axis + (slice(*(n * arg.shape[axis] // 24 for n in (begin, end))),)]
            for name, arg in zip(entry.shapes, args, strict=True)
        ]  # fmt: skip


@pytest.mark.parametrize("name", [entry.name for entry in ZOO if entry.streams])
def test_what_streams_gives_the_bits_of_the_whole(exported, name):
    entry = BY_NAME[name]
    model = fastrnn.load_model(exported(name))
    args = [arg.numpy() for arg in entry.inputs(2, 24, seed=1)]
    stream = model.stream(2)
    made = [stream.run(*part) for part in pieces(entry, args, [0, 1, 4, 5, 13, 24])]
    timeless = {n: a for n, a in zip(entry.shapes, args, strict=True) if n not in entry.time_axis}
    made.append(stream.finish(**timeless))
    whole = model(*args)
    whole = whole if isinstance(whole, dict) else {"": whole}
    for output, expected in whole.items():
        parts = [part[output] if output else part for part in made]
        (time,) = {*entry.time_axis.values()}
        assert np.array_equal(np.concatenate(parts, axis=time), expected)


@pytest.mark.parametrize("name", [entry.name for entry in ZOO if entry.reason])
def test_what_cannot_stream_names_the_node(exported, name):
    with pytest.raises(ValueError, match=r"node '.*' \(\w+\): does not run along time: "):
        fastrnn.load_model(exported(name)).stream()


@pytest.mark.parametrize("name", [entry.name for entry in ZOO if entry.states])
def test_states_are_carried(exported, name):
    """Frame by frame as in one call of all frames, with what comes out put in again."""
    entry = BY_NAME[name]
    model = fastrnn.load_model(exported(name))
    assert model.states == {state: f"{state}_out" for state in entry.states}
    stream, carried = model.stream(2), None
    for seed in range(5):
        frame, *begin = (arg.numpy() for arg in entry.inputs(2, 1, seed=seed))
        carried = carried or [np.zeros_like(state) for state in begin]
        first, *others = model(frame, *carried).values()
        carried = others
        assert np.array_equal(stream.step(frame), first)


@pytest.mark.parametrize("name", PLAIN)
def test_files_that_torch_wrote_by_itself(name, tmp_path):
    entry = BY_NAME[name]
    axes = [
        {
            axes[arg]: called
            for axes, called in ((entry.batch_axis, "batch"), (entry.time_axis or {}, "time"))
            if arg in axes
        }
        for arg in entry.shapes
    ]
    with exporters.quiet():
        program = torch.onnx.export(
            entry.build(), entry.inputs(), dynamo=True, dynamic_shapes=tuple(axes), verbose=False
        )
        program.save(tmp_path / "model.onnx")
    check(tmp_path / "model.onnx", entry)


@pytest.mark.parametrize(("name", "exporter"), CANNOT)
def test_what_an_exporter_cannot(exported, name, exporter):
    with pytest.raises(RuntimeError, match=CANNOT[name, exporter]) as raised:
        exported(name, exporter)
    assert str(raised.value).startswith(f"export: {name}: by {exporter}: ")
    assert len(str(raised.value)) < 400


def test_what_neither_can_is_told_with_both_reasons(tmp_path):
    entry_args = torch.randn(2, 6, FEATURES), torch.tensor([6, 4])
    with pytest.raises(RuntimeError, match=r"Packed: by dynamo: .*; by torchscript: "):
        fastrnn.export(Packed().eval(), entry_args, tmp_path / "m.onnx", time_axis={"x": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["StridedLSTM", "ContextInOut", "TwoHeads"])
def test_onnxruntime_reads_the_files(exported, name):
    entry = BY_NAME[name]
    session = onnxruntime.InferenceSession(exported(name))
    args = dict(zip(entry.shapes, (x.numpy() for x in entry.inputs(3, 21)), strict=True))
    model = fastrnn.load_model(exported(name))
    got = model(**args)
    got = list(got.values()) if isinstance(got, dict) else [got]
    for one, other in zip(got, session.run(None, args), strict=True):
        assert example.difference(one, other) <= 2e-5


def test_layers_are_single_nodes(exported):
    graph = onnx.load(exported("CausalGRU")).graph
    names = [node.op_type for node in graph.node]
    assert [node.name for node in graph.node if node.op_type == "GRU"] == ["gru_l0", "gru_l1"]
    assert not {"Loop", "Scan", "Slice"} & {*names}
    assert {"gru.onnx_W_l0", "gru.onnx_R_l1"} <= {tensor.name for tensor in graph.initializer}


def test_a_cell_that_is_called_in_a_loop(exported):
    graph = onnx.load(exported("AttentionDecoder")).graph
    cells = [node for node in graph.node if node.op_type == "LSTM"]
    assert [node.name for node in cells] == ["cell", "cell_1", "cell_2", "cell_3"]
    assert {node.input[1] for node in cells} == {"cell.onnx_W"}


@pytest.mark.parametrize(("module", "name"), [(nn.GRU(3, 4), "l0"), (nn.GRUCell(3, 4), "GRUCell")])
def test_a_bare_layer(tmp_path, module, name):
    x = torch.randn(5, 2, 3) if name == "l0" else torch.randn(2, 3)
    time = 0 if name == "l0" else None
    fastrnn.export(
        module, x, tmp_path / "m.onnx", batch_axis=x.dim() - 2, time_axis=time, exporter="dynamo"
    )
    (node,) = [n for n in onnx.load(tmp_path / "m.onnx").graph.node if n.op_type == "GRU"]
    assert node.name == name


def test_names_and_axes(exported):
    def shapes(values):
        return {name: value.shape for name, value in values.items()}

    heads = fastrnn.load_model(exported("TwoHeads"))
    assert shapes(heads.inputs) == {"x": ("batch", "time", FEATURES)}
    assert shapes(heads.outputs) == {
        "vad": ("batch", "time"), "pitch": ("batch", "time", 8), "best": ("batch", "time")
    }  # fmt: skip
    strided = fastrnn.load_model(exported("StridedLSTM"))
    assert shapes(strided.outputs) == {"output": ("batch", "output_1", 5)}
    first = fastrnn.load_model(exported("SpeechTagger"))
    assert shapes(first.inputs) == {"x": ("time", "batch", FEATURES)}
    two = fastrnn.load_model(exported("SpeakerDenoiser"))
    assert shapes(two.inputs)["speaker"] == ("batch", 6)


def test_states_are_named_so_that_they_pair(exported):
    model = fastrnn.load_model(exported("ContextInOut"))
    assert list(model.inputs) == ["x", "context", "h", "c"]
    assert list(model.outputs) == ["output_0", "context_out", "h_out", "c_out"]
    assert all(
        model.inputs[n].shape == model.outputs[f"{n}_out"].shape for n in ("context", "h", "c")
    )


def test_nested_arguments_and_answers(tmp_path):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 6)

        def forward(self, x, hx, scale):
            y, (h, c) = self.lstm(x, hx)
            return namedtuple("Answer", "frames state")(y * scale, [h, c])

    args = torch.randn(5, 2, 4), (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)), 2.0
    fastrnn.export(
        Nested(), args, tmp_path / "m.onnx", batch_axis=1, time_axis=0, states=("hx_0", "hx_1")
    )
    model = fastrnn.load_model(tmp_path / "m.onnx")
    assert list(model.inputs) == ["x", "hx_0", "hx_1"]
    assert list(model.outputs) == ["frames", "hx_0_out", "hx_1_out"]


def test_names_of_ones_own(tmp_path):
    fastrnn.export(
        MeanOverTime(), torch.randn(1, 4, FEATURES), tmp_path / "m.onnx",
        input_names=["audio"], output_names=["score"], opset=18,
    )  # fmt: skip
    model = fastrnn.load_model(tmp_path / "m.onnx")
    assert list(model.inputs) == ["audio"]
    assert list(model.outputs) == ["score"]
    assert onnx_files.read(tmp_path / "m.onnx").opsets[""] == 18


def test_a_module_is_as_it_was_and_nothing_is_printed(tmp_path, capfd):
    module = ConvLSTM().train()
    module.conv[1].eval()
    modes = [part.training for part in module.modules()]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    held = [sorted(vars(part)) for part in module.modules()]
    buffers = [name for name, _ in module.named_buffers()]
    for exporter in (None, "torchscript"):
        fastrnn.export(
            module, (torch.randn(2, 6, FEATURES),), tmp_path / "m.onnx", exporter=exporter
        )
    assert [part.training for part in module.modules()] == modes
    assert [sorted(vars(part)) for part in module.modules()] == held
    assert [name for name, _ in module.named_buffers()] == buffers
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_a_failure_prints_nothing_either(tmp_path, capfd):
    entry = BY_NAME["ProjectedLSTM"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError):
            fastrnn.export(
                entry.build(), entry.inputs(), tmp_path / "m.onnx",
                batch_axis=1, time_axis=0, exporter="torchscript",
            )  # fmt: skip
    assert capfd.readouterr() == ("", "")


# The example in the file


def test_the_example_is_in_the_file(exported):
    entry = BY_NAME["EchoCanceller"]
    found = example.read(onnx_files.read(exported("EchoCanceller")).metadata)
    args = entry.inputs()
    assert list(found.inputs) == ["near", "far"]
    assert all(np.array_equal(found.inputs[n], x) for n, x in zip(entry.shapes, args, strict=True))
    with torch.no_grad():
        assert np.array_equal(found.outputs["output"], entry.build()(*args))


def test_a_large_example_is_cut(tmp_path, monkeypatch):
    """To one row, and then to fewer frames."""
    assert example.MOST_BYTES == 1 << 18
    for most, frames in ((4 * 50 * (FEATURES + 1), 50), (4 * 50 * FEATURES, 25), (10, None)):
        monkeypatch.setattr("fastrnn.models.export.runs.MOST_BYTES", most)
        x = torch.randn(3, 50, FEATURES)
        fastrnn.export(ConvLSTM(), x, tmp_path / "m.onnx", exporter="torchscript")
        found = example.read(onnx_files.read(tmp_path / "m.onnx").metadata)
        assert (found and found.inputs["x"].shape) == (frames and (1, frames, FEATURES))


# Files that answer otherwise are never left


class Other(nn.Module):
    """Its older export is off by one part in 10,000."""

    def forward(self, x):
        return x * (1.0001 if torch.jit.is_tracing() else 1.0)


def test_a_file_that_answers_otherwise_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError, match=r"by torchscript: the file's 'output' is 1\.0e-04 off"):
        fastrnn.export(Other(), torch.randn(2, 5, 3), path, exporter="torchscript")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["raises", "another answer", "another input", "an unknown op"])
def test_the_older_exporter_takes_over(tmp_path, monkeypatch, broken):
    def dynamo(request):
        if broken == "raises":
            raise RuntimeError("not today")
        proto = exporters.torchscript(request)
        if broken == "another answer":
            proto.graph.node[-1].op_type = "Tanh"
        elif broken == "another input":
            proto.graph.input[0].name = "y"
            for node in proto.graph.node:
                node.input[:] = ["y" if name == "x" else name for name in node.input]
        else:
            proto.graph.node[-1].op_type = "Nonsense"
        return proto

    monkeypatch.setitem(exporters.EXPORTERS, "dynamo", dynamo)
    module, x = ConvLSTM().eval(), torch.randn(2, 5, FEATURES)
    with pytest.raises(RuntimeError, match="by dynamo"):
        fastrnn.export(module, x, tmp_path / "m.onnx", exporter="dynamo")
    fastrnn.export(module, x, tmp_path / "m.onnx")
    with torch.no_grad():
        expected = module(x).numpy()
    assert example.difference(fastrnn.load_model(tmp_path / "m.onnx")(x.numpy()), expected) <= 2e-5


def test_a_length_written_into_the_file_is_found(tmp_path):
    class Frozen(nn.Module):
        def forward(self, x):
            return x + torch.arange(x.shape[1] if not torch.jit.is_tracing() else 5)[:, None]

    with pytest.raises(RuntimeError, match="Frozen: by torchscript: "):
        fastrnn.export(Frozen(), torch.randn(2, 5, 3), tmp_path / "m.onnx", exporter="torchscript")


# What does not fit


class Random(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)


class OneRow(nn.Module):
    def forward(self, x):
        if len(x) > 1:
            raise RuntimeError("one row only")
        return x * 2


class FiveFrames(nn.Module):
    def forward(self, x):
        return x.view(-1, 5, 3) * torch.ones(x.shape[0], 1, 1)


class Pair(nn.Module):
    def forward(self, x, h):
        return x, h[:1]


X, H = torch.randn(2, 5, 3), torch.randn(2, 4)


@pytest.mark.parametrize(
    ("module", "args", "options", "message"),
    [
        (Random(), X, {}, "Random answers the same input in another way"),
        (OneRow(), X[:1], {}, "OneRow does not take a batch of 3: one row only; say so with batch_axis=None"),
        (FiveFrames(), X, {}, "FiveFrames does not take a length of twice .*time_axis=None"),
        (OneRow(), X[:1], {"batch_axis": 3}, r"batch_axis is 3, but input 'x' is \(1, 5, 3\)"),
        (OneRow(), X[:1], {"time_axis": {"y": 1}}, "time_axis has 'y', expected .*: x"),
        (OneRow(), X[:1], {"exporter": "newest"}, "'newest', expected one of dynamo, torchscript"),
        (OneRow(), X[:1], {"input_names": ["a", "b"]}, "2 input_names, expected 1"),
        (OneRow(), X[:1], {"output_names": ["x"]}, "outputs x: expected names of which each is"),
        (OneRow(), (X, X), {}, "2 arguments, but forward takes 1"),
        (OneRow(), (3,), {}, "the inputs are no tensors"),
        (Pair(), (X, H.T), {}, "the batch is 2 in 'x', 4 in 'h', expected one size"),
        (Pair(), (X, H), {"states": ("c",)}, "states has 'c', expected names of inputs: x, h"),
        (Pair(), (X, H), {"states": ("h",)}, r"state 'h' is \(2, 4\) and returned as \(1, 4\)"),
        (Pair(), (X, H), {"states": ("x", "h", "x")}, "forward returns 2 tensors, expected 3"),
        (OneRow(), X[:, :0], {}, "expected an example"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(tmp_path, module, args, options, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.export(module, args, tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_only_modules(tmp_path):
    with pytest.raises(TypeError, match=r"module is function, expected a torch\.nn\.Module"):
        fastrnn.export(nn.functional.relu, X, tmp_path / "m.onnx")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastrnn.export(nn.Linear(3, 3), X, tmp_path / "no" / "m.onnx", exporter="torchscript")


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxscript"])
def test_without_the_extra(monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"export needs {package}: pip install 'fastrnn\[export\]"
    ):
        fastrnn.export(None, X, tmp_path / "m.onnx")


def test_nothing_of_it_is_imported_unasked():
    code = (
        "import sys, fastrnn; assert callable(fastrnn.load)\n"
        "assert not {'torch', 'onnx', 'fastrnn.models.export'} & {*sys.modules}\n"
        "fastrnn.export; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
