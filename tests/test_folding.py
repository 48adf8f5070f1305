"""Parameters in parts, against what torch's own transforms compute from the same parts."""

from __future__ import annotations

import time

import numpy as np
import pytest

import fastrnn
from fastrnn.layers.folding import layer_names

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
utils = torch.nn.utils
parametrizations = torch.nn.utils.parametrizations

X = np.random.default_rng(1).standard_normal((6, 2, 5)).astype(np.float32)


def dropped(module, name):
    """The weight drop of AWD-LSTM and its descendants: the raw weight, and a copy dropped out."""
    raw = getattr(module, name)
    delattr(module, name)
    module.register_parameter(f"{name}_raw", torch.nn.Parameter(raw.data))
    module.register_buffer(name, torch.nn.functional.dropout(raw.data, 0.5))
    return lambda: raw.data


def replaced(transform, **options):
    """A transform of torch, and what its module then has for the weight."""

    def apply(module, name):
        transform(module, name, **options)
        for hook in module._forward_pre_hooks.values():
            hook(module, None)
        return lambda: getattr(module, name).detach()

    return apply


TRANSFORMS = {
    "weight_norm": replaced(utils.weight_norm),
    "weight_norm, dim=1": replaced(utils.weight_norm, dim=1),
    "weight_norm of all": replaced(utils.weight_norm, dim=None),
    "weight_norm, new": replaced(parametrizations.weight_norm),
    "weight_norm, new, dim=1": replaced(parametrizations.weight_norm, dim=1),
    "weight_norm, new, of all": replaced(parametrizations.weight_norm, dim=None),
    "spectral_norm": replaced(utils.spectral_norm),
    "spectral_norm, dim=1": replaced(utils.spectral_norm, dim=1),
    "spectral_norm, new": replaced(parametrizations.spectral_norm, n_power_iterations=3),
    "spectral_norm, new, dim=1": replaced(parametrizations.spectral_norm, dim=1),
    "pruning": replaced(prune.random_unstructured, amount=0.5),
    "weight drop": dropped,
}
pytestmark = pytest.mark.filterwarnings("ignore")


def transformed(transform, sizes=(5, 6, 2), names=("weight_ih_l0", "weight_hh_l1"), cell="LSTM"):
    """A module with transformed weights in eval mode, and the plain module that it stands for."""
    torch.manual_seed(0)
    plain, module = getattr(torch.nn, cell)(*sizes), torch.nn.Module()
    for name, value in plain.state_dict().items():
        module.register_parameter(name, torch.nn.Parameter(value.clone()))
    effective = {name: TRANSFORMS[transform](module, name) for name in names}
    for name in names:
        # Trained on after the transform, so that no part is what it was made as.
        for part in module.state_dict():
            last = part.rsplit(".", 1)[-1]
            if name in part and not last.endswith(("_mask", "_u", "_v", "_raw")):
                module.state_dict()[part].mul_(1.25)
    with torch.no_grad():
        for train in (True, False):
            module.train(train)
            for hook in module._forward_pre_hooks.values():
                hook(module, None)
    for name, value in effective.items():
        plain.state_dict()[name].copy_(value())
    return module, plain.eval()


def run(plain):
    with torch.no_grad():
        return plain(torch.from_numpy(X))[0].numpy()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_what_torch_computes_from_the_parts(transform, tmp_path):
    module, plain = transformed(transform)
    torch.save({f"enc.{n}": value for n, value in module.state_dict().items()}, tmp_path / "a.pt")
    layer = fastrnn.load(tmp_path / "a.pt")
    np.testing.assert_allclose(layer(X)[0], run(plain), rtol=0, atol=1e-6)
    kind = transform.partition(",")[0].removesuffix(" of all")
    assert layer.folded == {"weight_ih_l0": kind, "weight_hh_l1": kind}
    own = fastrnn.LSTM(5, 6, 2)
    own.load_state_dict(module.state_dict())
    np.testing.assert_array_equal(own(X)[0], layer(X)[0])


@pytest.mark.parametrize("transform", ["weight_norm", "pruning", "weight_norm, new"])
def test_biases_too(transform):
    module, plain = transformed(transform, names=("bias_ih_l0", "bias_hh_l1"))
    layer = fastrnn.LSTM.from_state_dict(module.state_dict())
    np.testing.assert_allclose(layer(X)[0], run(plain), rtol=0, atol=1e-6)


@pytest.mark.parametrize("transform", ["spectral_norm", "spectral_norm, dim=1"])
def test_the_direction_of_a_square_spectral_norm_is_told_by_its_vectors(transform):
    module, plain = transformed(transform, (5, 5), ("weight_ih_l0", "weight_hh_l0"), "RNN")
    layer = fastrnn.RNN.from_state_dict(module.state_dict())
    np.testing.assert_allclose(layer(X)[0], run(plain), rtol=0, atol=1e-6)


def test_float64_stays_and_half_becomes_float32():
    module, plain = transformed("weight_norm")
    double = fastrnn.LSTM.from_state_dict(module.double().state_dict())
    assert double.dtype == np.float64
    y = double(X)[0]
    with torch.no_grad():
        want = plain.double()(torch.from_numpy(X).double())[0].numpy()
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-7)
    assert fastrnn.LSTM.from_state_dict(module.half().state_dict()).dtype == np.float32


@pytest.fixture
def parts():
    module, _ = transformed("weight_norm")
    return {name: value.numpy() for name, value in module.state_dict().items()}


W = "weight_ih_l0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{W}_g"), f"{W}_v: no form of {W} that is known here, expected {W}_g"),
        (lambda w: w.pop(f"{W}_v"), f"{W}_g: no form of {W} .*, expected {W}_v with it"),
        (lambda w: w.update({W: w[f"{W}_v"]}), f"{W}_v.*: no form of {W} that is known here"),
        (lambda w: w.update({f"{W}_g": w[f"{W}_g"][1:]}), r"_g: g of shape \(23, 1\) does not fit v"),
        (lambda w: w.update({f"{W}_g": w[f"{W}_g"].astype(int)}), f"{W}_g has dtype int64"),
        (lambda w: w[f"{W}_v"].fill(0), f"{W} holds NaN"),
        (lambda w: w.update({f"{W}_mask": w[f"{W}_v"]}), f"{W}_mask: no form of {W} that"),
        (lambda w: w.update({f"{W}_u": w[f"{W}_v"]}), f"{W}_u: no form of {W} that"),
        (lambda w: w.update({f"parametrizations.{W}.original": w[f"{W}_v"]}), "original: no form"),
        (lambda w: w.update({f"parametrizations.{W}.1.scale": w[f"{W}_v"]}), "1.scale is no param"),
        (lambda w: w.update({"bias_hh_l1_mask": w["bias_hh_l1"]}), "other values than 0 and 1"),
        (lambda w: w.update({"bias_hh_l1_mask": np.ones(3)}), r"mask of shape \(3,\) does not fit"),
    ],
)  # fmt: skip
def test_parts_that_are_no_form_are_refused_by_name(parts, change, message):
    change(parts)
    with pytest.raises((ValueError, TypeError), match=message):
        fastrnn.LSTM.from_state_dict(parts)


def quantized(module, dtype=torch.qint8):
    model = torch.nn.ModuleDict({"net": module})
    kinds = {type(module)}
    return torch.ao.quantization.quantize_dynamic(model, kinds, dtype=dtype)


QUANTIZED = [
    torch.nn.LSTM(5, 6, 2),
    torch.nn.GRU(5, 6, 2, bidirectional=True),
    torch.nn.LSTM(5, 6, bidirectional=True),
    torch.nn.GRU(6, 6, 3),
    torch.nn.GRUCell(5, 6),
    torch.nn.LSTMCell(5, 6),
]


@pytest.mark.parametrize("how", ["state dict", "module", "script"])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16], ids=str)
@pytest.mark.parametrize("module", QUANTIZED, ids=str)
def test_packed_cells_have_the_weights_that_torch_packed(module, dtype, how, tmp_path):
    net = quantized(module, dtype)
    if how == "script":
        torch.jit.save(torch.jit.script(net["net"]), tmp_path / "a.pt")
    else:
        torch.save(net if how == "module" else net.state_dict(), tmp_path / "a.pt")
    layer = fastrnn.load(tmp_path / "a.pt")
    theirs = module.state_dict()
    assert layer.bidirectional == getattr(module, "bidirectional", False)
    assert len(layer.state_dict()) == len(theirs)
    for name, value in layer.state_dict().items():
        want = theirs.get(name, theirs.get(name.removesuffix("_l0"))).numpy()
        step = np.abs(want).max() / 100 if dtype == torch.qint8 else 1e-3
        np.testing.assert_allclose(value, want, rtol=0, atol=step)
    assert all(kind.startswith("dynamic quantization") for kind in layer.folded.values())


def test_two_packed_cells_may_be_layers_or_directions(tmp_path):
    torch.save(quantized(torch.nn.GRU(6, 6, 2)).state_dict(), tmp_path / "a.pt")
    with pytest.raises(
        fastrnn.FormatError, match=r"net\._all_weight_values\.1 can be a second lay"
    ):
        fastrnn.load(tmp_path / "a.pt")
    weights = fastrnn.read(tmp_path / "a.pt")
    own = {name.removeprefix("net."): value for name, value in weights.items()}
    layer = fastrnn.GRU(6, 6, 2)
    layer.load_state_dict(own)
    other = fastrnn.GRU(6, 6, bidirectional=True)
    other.load_state_dict(own)
    np.testing.assert_array_equal(
        layer.state_dict()["weight_ih_l1"], other.state_dict()["weight_ih_l0_reverse"]
    )


def test_packed_biases_that_differ_are_refused(tmp_path):
    torch.save(quantized(torch.nn.GRU(5, 6)).state_dict(), tmp_path / "a.pt")
    weights = fastrnn.read(tmp_path / "a.pt")
    name = "net._all_weight_values.0.param.state.0.1.0"
    weights[name] = weights[name] + 1
    with pytest.raises(ValueError, match=r"param\.state\.0\.1\.0: expected the same values twice"):
        fastrnn.GRU.from_state_dict(weights)


def test_copies_keep_what_was_folded(parts):
    import copy
    import pickle

    layer = fastrnn.LSTM.from_state_dict(parts)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.folded == layer.folded
        assert repr(other) == repr(layer)
        assert not any(value.flags.writeable for value in other.state_dict().values())
        np.testing.assert_array_equal(other(X)[0], layer(X)[0])


def test_many_packed_cells_are_named_in_time():
    values = {
        f"{part}_#{cell}": np.empty((4, 1)) for part in ("weight_ih", "weight_hh")
        for cell in range(25_000)
    }  # fmt: skip
    start = time.perf_counter()
    assert layer_names(values, "")["weight_hh_#24999"] == "weight_hh_l24999"
    assert time.perf_counter() - start < 10  # seconds; it was 40


@pytest.mark.parametrize("part", ["original", "0.base"])
def test_another_parametrization_says_how_to_save_what_it_makes(part):
    weights = torch.nn.RNN(3, 4).state_dict()
    name = f"parametrizations.weight_hh_l0.{part}"
    weights["parametrizations.weight_hh_l0.original"] = weights.pop("weight_hh_l0")
    weights[name] = torch.ones(4, 4)
    with pytest.raises(
        ValueError, match=rf"^{name}.*remove_parametrizations\(module, tensor_name\)"
    ):
        fastrnn.RNN.from_state_dict(weights)


def test_a_scale_of_weights_that_are_no_integers_is_no_form():
    weights = torch.nn.LSTM(3, 4).state_dict()
    weights["weight_ih_l0_scale"] = torch.ones(16)
    with pytest.raises(
        ValueError, match=r"^weight_ih_l0.*weight_ih_l0_scale: no form of weight_ih"
    ):
        fastrnn.LSTM.from_state_dict(weights)


def test_weights_that_cannot_be_taken_leave_all_as_it_was():
    """What is said of folding, too."""
    weights = {name: p.detach().numpy() for name, p in torch.nn.LSTM(5, 6).named_parameters()}
    layer = fastrnn.LSTM(5, 6)
    layer.load_state_dict(weights)
    y, before = layer(X)[0], dict(layer.state_dict())
    masked = {**weights, "weight_hh_l0_mask": np.ones_like(weights["weight_hh_l0"])}
    masked["bias_ih_l0"] = np.full(24, np.nan, np.float32)
    with pytest.raises(ValueError, match="bias_ih_l0 holds NaN"):
        layer.load_state_dict(masked)
    assert layer.folded == {}
    assert all(array is before[name] for name, array in layer.state_dict().items())
    np.testing.assert_array_equal(layer(X)[0], y)
