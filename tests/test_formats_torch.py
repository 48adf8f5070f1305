"""Files that the installed PyTorch writes, of every kind, against what it reads from them."""

from __future__ import annotations

import collections
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import formats
from fastrnn.errors import FormatError

torch = pytest.importorskip("torch")

DTYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool,
    torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.complex128,
]  # fmt: skip
FORMS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
form = pytest.mark.parametrize("form", FORMS)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        self.norm = torch.nn.BatchNorm1d(8)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 2), torch.nn.GRUCell(2, 2)])
        self.scale = torch.nn.Parameter(torch.ones(2))
        self.config = {"sizes": (3, 4), "act": torch.nn.functional.relu}
        self.hidden = torch.zeros(3)
        self.parent = [self]


def saved(tree, path, form="zip"):
    torch.save(tree, path, **FORMS[form])
    return formats.contents(path)


def to_numpy(tensor):
    tensor = tensor.detach().resolve_neg().resolve_conj()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_same(weights, tensors):
    assert set(weights) == set(tensors)
    for name, tensor in tensors.items():
        want = to_numpy(tensor)
        assert weights[name].dtype == want.dtype, name
        assert weights[name].shape == want.shape, name
        np.testing.assert_array_equal(weights[name], want, err_msg=name)


@form
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_element_type(dtype, form, tmp_path):
    tensor = torch.arange(-3, 9).reshape(3, 4).to(dtype)
    if form == "legacy" and dtype in (torch.uint16, torch.uint32, torch.uint64):
        pytest.skip("torch has no storage class for it")
    assert_same(saved({"x": tensor}, tmp_path / "a.pt", form).weights, {"x": tensor})


def test_bfloat16_is_widened_exactly(tmp_path):
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    got = saved({"x": every}, tmp_path / "a.pt").weights["x"]
    assert got.view(np.uint32).tolist() == every.float().numpy().view(np.uint32).tolist()


@form
@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz],
    ids=str,
)
def test_floats_of_8_bits_are_widened_exactly(dtype, form, tmp_path):
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    got = saved({"x": every.reshape(16, 16)}, tmp_path / "a.pt", form).weights["x"]
    np.testing.assert_array_equal(got, every.float().reshape(16, 16).numpy())
    assert np.array_equal(
        np.signbit(got[got == 0]), np.signbit(every.float().numpy()[got.ravel() == 0])
    )


@form
@settings(max_examples=60)
@given(data=st.data())
def test_views_of_storages(form, data, tmp_path_factory):
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    base = torch.randn(shape)
    views = {"base": base}
    for i in range(data.draw(st.integers(1, 4))):
        x = views[data.draw(st.sampled_from(sorted(views)))]
        kind = data.draw(st.sampled_from(["permute", "slice", "expand", "select", "flatten"]))
        if kind == "permute":
            x = x.permute(data.draw(st.permutations(range(x.dim()))))
        elif kind == "expand":
            x = x.unsqueeze(0).expand(3, *x.shape)
        elif x.dim() and x.shape[0]:
            step = data.draw(st.integers(1, 3))
            start = data.draw(st.integers(0, x.shape[0] - 1))
            x = {"slice": x[start::step], "select": x[start], "flatten": x.reshape(-1)}[kind]
        views[f"view{i}"] = x
    path = tmp_path_factory.mktemp("views") / "a.pt"
    assert_same(saved(views, path, form).weights, views)


@form
def test_parts_of_one_flat_storage(form, tmp_path):
    flat = torch.randn(100)
    views = {"a": flat[:60].view(6, 10), "b": flat[60:90].view(30), "c": flat[90:].view(2, 5).t()}
    assert_same(saved(views, tmp_path / "a.pt", form).weights, views)


@form
def test_an_expanded_tensor_may_not_outgrow_the_file(form, tmp_path):
    with pytest.raises(FormatError, match="tensor 'x' would take more memory"):
        saved({"x": torch.ones(1).expand(2**20, 2**8)}, tmp_path / "a.pt", form)


@form
def test_a_whole_module_is_named_as_its_state_dict(form, tmp_path):
    net = Net()
    found = saved(net, tmp_path / "a.pt", form)
    assert_same(found.weights, net.state_dict())
    assert f"{Net.__module__}.Net" in found.foreign
    assert_same(saved(torch.nn.DataParallel(net), tmp_path / "b.pt", form).weights,
                {f"module.{name}": value for name, value in net.state_dict().items()})  # fmt: skip


@form
def test_checkpoints_are_flattened(form, tmp_path):
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    tree = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "counts": collections.Counter("abca"),
        "lists": collections.defaultdict(list, a=[torch.ones(1)]),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "rng": torch.get_rng_state(),
        "tuple": (torch.ones(2), {"x": torch.zeros(1)}),
        "scalar": np.float64(1),
        3: torch.ones(3),
    }
    found = saved(tree, tmp_path / "a.pt", form)
    want = {f"model.{name}": value for name, value in net.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        want |= {f"optimizer.state.{index}.{name}": value for name, value in state.items()}
    want |= {"lists.a.0": torch.ones(1), "rng": tree["rng"], "3": torch.ones(3)}
    want |= {"tuple.0": torch.ones(2), "tuple.1.x": torch.zeros(1)}
    assert_same(found.weights, want)
    assert found.foreign == ()


@form
def test_parameters_and_a_lone_tensor(form, tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "has a state"
    assert_same(saved([parameter], tmp_path / "a.pt", form).weights, {"0": parameter})
    assert_same(saved(torch.ones(2), tmp_path / "a.pt", form).weights, {"tensor": torch.ones(2)})


@form
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint4x2),
            "quantized in a",
        ),
        (lambda: torch.eye(2).to_sparse(), "sparse"),
        (lambda: torch.eye(2).to_sparse_csr(), "sparse"),
        (lambda: torch.ones(2, device="meta"), "meta"),
        (lambda: torch._neg_view(torch.ones(2)), "neg bit"),
        (lambda: torch.ones(2).to(torch.float8_e8m0fnu), "float8_e8m0fnu"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_numpy_has_not_is_skipped(make, reason, form, tmp_path):
    found = saved({"x": make(), "y": torch.ones(1)}, tmp_path / "a.pt", form)
    assert list(found.weights) == ["y"]
    assert reason in found.skipped["x"]


@form
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_are_dequantized_as_torch_does(dtype, form, tmp_path):
    values = torch.randn(3, 5)
    scales, zeros = torch.tensor([0.01, 0.02, 0.03]), torch.tensor([0, 3, 100])
    tree = {
        "tensor": torch.quantize_per_tensor(values, 0.013, 5, dtype),
        "rows": torch.quantize_per_channel(values, scales, zeros, 0, dtype),
        "columns": torch.quantize_per_channel(values.t(), scales, zeros, 1, dtype),
    }
    found = saved(tree, tmp_path / "a.pt", form)
    assert_same(found.weights, {name: value.dequantize() for name, value in tree.items()})
    assert found.weights.notes["rows"] == f"dequantized from {str(dtype)[7:]}"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(protocol, tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "a.pt", pickle_protocol=protocol)
    assert_same(formats.read(tmp_path / "a.pt"), {"x": torch.ones(2)})


def test_a_file_saved_without_checksums(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        assert_same(saved({"x": torch.ones(2)}, tmp_path / "a.pt").weights, {"x": torch.ones(2)})
    finally:
        torch.serialization.set_crc32_options(True)


def lent(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views of one storage, a parameter, and types that NumPy has in another way or not at all."""
    return {
        "whole": tensor,
        "column": tensor[:, 1],
        "turned": tensor.T,
        "parameter": torch.nn.Parameter(tensor),
        "bfloat16": tensor.to(torch.bfloat16),
        "float16": tensor.half()[1:],
        "int": tensor.int(),
        "bool": tensor > 3,
        "uint16": tensor.to(torch.uint16),
        "nothing": tensor[:0],
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_that_pickle_dump_wrote_are_read(protocol, tmp_path):
    tensors = lent(torch.arange(12.0).reshape(3, 4))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": tensors}, protocol))
    found = formats.contents(tmp_path / "a.pkl")
    assert found.format == "pickle"
    assert found.foreign == ()
    assert_same(found.weights, {f"x.{name}": tensor for name, tensor in tensors.items()})


def test_a_module_that_pickle_dump_wrote_is_named_as_its_state_dict(tmp_path):
    net = torch.nn.Sequential(torch.nn.GRU(3, 2, bidirectional=True), torch.nn.Linear(4, 1))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(net))
    assert_same(formats.read(tmp_path / "a.pkl"), net.state_dict())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda data: data.replace(b"FloatStorage", b"ThingStorage"),
            "has a storage that is damag",
        ),
        (
            lambda data: data.replace(b"\x80\x02\x8a\nl\xfc\x9cF", b"\x80\x02\x8a\nl\xfc\x9cG"),
            "before 1.6",
        ),
    ],
)
def test_a_storage_that_is_damaged_is_that_tensors_reason(change, reason, tmp_path):
    data = pickle.dumps({"x": torch.ones(2), "y": np.ones(2)})
    (tmp_path / "a.pkl").write_bytes(change(data))
    found = formats.contents(tmp_path / "a.pkl")
    assert list(found.weights) == ["y"]
    assert reason in found.skipped["x"]


def test_one_storage_that_a_pickle_loads_often_is_read_once(tmp_path):
    storage = torch.ones(50_000).untyped_storage().__reduce__()[1][0]
    call = pickle.dumps(torch.storage._load_from_bytes, 2)[2:-1] + b"q\0"
    data = b"B" + len(storage).to_bytes(4, "little") + storage + b"\x85q\1"
    (tmp_path / "a.pkl").write_bytes(
        b"\x80\2]" + call + data + b"00(" + b"h\0h\1R" * 30_000 + b"e."
    )
    with pytest.raises(FormatError, match=r"no readable tensor"):
        formats.read(tmp_path / "a.pkl")


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 4, bidirectional=True)
        self.cells = torch.nn.ModuleList([torch.nn.LSTMCell(3, 4)])
        self.register_buffer("window", torch.hann_window(3))

    def forward(self, x):
        y, _ = self.rnn(x * self.window)
        for cell in self.cells:
            h, _ = cell(x[0])
        return y[0, :, :4] + h


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_named_as_its_state_dict(how, tmp_path):
    net, example = Scripted().eval(), torch.ones(2, 1, 3)
    script = torch.jit.script(net) if how == "script" else torch.jit.trace(net, example)
    torch.jit.save(script, tmp_path / "a.pt")
    found = formats.contents(tmp_path / "a.pt")
    weights = {name: a for name, a in found.weights.items() if not name.startswith("CONSTANTS.")}
    assert found.format == "torchscript"
    assert found.foreign == ()
    assert_same(weights, torch.jit.load(tmp_path / "a.pt").state_dict())
