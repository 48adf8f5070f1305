"""Archives of torch.export.save, of today and in the layouts that releases before wrote."""

from __future__ import annotations

import io
import json
import warnings
import zipfile

import numpy as np
import pytest

import fastrnn
from fastrnn import formats

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(3, 4, bidirectional=True)
        self.fc = torch.nn.Linear(8, 2)
        self.tied = self.fc
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("brief", torch.ones(2, dtype=torch.bfloat16))
        self.register_buffer("hidden", torch.tensor([3.0]), persistent=False)

    def forward(self, x):
        return (
            self.tied(self.gru(x)[0]) * self.hidden + self.brief.float().sum() + self.turned.sum()
        )


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    module = Tagger().eval()
    x = torch.randn(5, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (x,))
        file = io.BytesIO()
        torch.export.save(program, file)
    return module, x, file.getvalue()


def rewritten(data: bytes, change) -> bytes:
    """The archive with its records, by name, as `change` leaves them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return file.getvalue()


def root(records: dict[str, bytes]) -> str:
    return next(iter(records)).partition("/")[0]


def check(data: bytes, module, x) -> formats.Contents:
    found = formats.contents(data)
    assert found.format == "torch export"
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(found.weights[name], tensor.float().numpy(), err_msg=name)
    np.testing.assert_array_equal(found.weights["hidden"], [3.0])
    want = module.gru(x)[0].detach().numpy()
    np.testing.assert_allclose(fastrnn.load(data, "gru")(x.numpy())[0], want, rtol=0, atol=1e-6)
    return found


def test_todays_layout(exported):
    found = check(exported[2], *exported[:2])
    assert found.weights["fc.weight"] is found.weights["tied.weight"]


def saved(values: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def test_the_layout_of_2_8(exported):
    module, x, data = exported

    def change(records):
        top = root(records)
        for name in [*records]:
            if "/data/weights/" in name or "/data/constants/" in name:
                del records[name]
        records[f"{top}/data/weights/model.pt"] = saved(module.state_dict())
        records[f"{top}/data/constants/model.pt"] = saved({"hidden": module.hidden})

    check(rewritten(data, change), module, x)


@pytest.mark.parametrize("suffix", ["pt", "json"])
def test_the_layout_before_2_8(exported, suffix):
    module, x, data = exported

    def change(records):
        records.clear()
        records["serialized_exported_program.json"] = b"{}"
        records[f"serialized_state_dict.{suffix}"] = saved(module.state_dict())
        records[f"serialized_constants.{suffix}"] = saved({"hidden": module.hidden})
        records["serialized_example_inputs.pt"] = saved({"x": x})
        records["version"] = b"5.1"

    check(rewritten(data, change), module, x)


def test_several_models_come_under_their_names(exported):
    module, _, data = exported

    def change(records):
        top = root(records)
        config = records[f"{top}/data/weights/model_weights_config.json"]
        records[f"{top}/data/weights/other_weights_config.json"] = config

    names = formats.read(rewritten(data, change)).keys()
    assert {f"{model}.{n}" for model in ("model", "other") for n in module.state_dict()} <= names


def edited(data: bytes, edit) -> bytes:
    """With the description of gru.weight_ih_l0 as `edit` leaves it."""

    def change(records):
        name = f"{root(records)}/data/weights/model_weights_config.json"
        config = json.loads(records[name])
        edit(config["config"]["gru.weight_ih_l0"])
        records[name] = json.dumps(config).encode()

    return rewritten(data, change)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda p: p["tensor_meta"].update(dtype=33), "ScalarType 33"),
        (lambda p: p["tensor_meta"].update(layout=1), "is sparse"),
        (lambda p: p.update(path_name="../x"), "has no record"),
        (lambda p: p.update(path_name=3), "does not describe weights"),
        (lambda p: p["tensor_meta"].update(sizes=[{"as_int": 1 << 40}] * 2), "impossible shape"),
        (lambda p: p["tensor_meta"].update(sizes=[{"as_int": 1 << 20}] * 2), "has shape"),
        (lambda p: p["tensor_meta"].update(sizes=[{"as_expr": "s0"}]), "has the sizes"),
        (lambda p: p["tensor_meta"].update(strides=[{"as_int": -1}] * 2), "do not fit together"),
        (lambda p: p["tensor_meta"].update(storage_offset={"as_int": 7}), "bytes of data"),
        (lambda p: p["tensor_meta"].update(storage_offset=None), "has the storage_offset"),
        (lambda p: p.update(tensor_meta=None), "is described by None"),
        (lambda p: p.update(use_pickle=True), "starts with"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_by_name(exported, edit, words):
    with pytest.raises(fastrnn.FormatError, match=words):
        fastrnn.load(edited(exported[2], edit), "gru")


def test_a_subclass_of_tensor_is_read_as_torch_saved_it(exported):
    module, x, data = exported

    def change(records):
        name = f"{root(records)}/data/weights/weight_0"
        records[name] = saved(module.gru.weight_ih_l0)

    check(rewritten(edited(data, lambda p: p.update(use_pickle=True)), change), module, x)


def test_a_package_of_compiled_code_says_so():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr("a/data/aotinductor/model/x.so", "code")
    with pytest.raises(fastrnn.FormatError, match="package of compiled code"):
        fastrnn.read(file.getvalue())
