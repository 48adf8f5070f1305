"""Weights inside zip and tar archives."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import reference

import fastrnn
from fastrnn import formats
from fastrnn.layers.weights import StackConfig

DATA = Path(__file__).parent / "data"
OPTIMIZER = {"state.0.exp_avg": np.ones(3), "state.0.step": np.ones(())}


def weights_file(weights: dict[str, np.ndarray] | None = None) -> bytes:
    file = io.BytesIO()
    if weights is None:
        rng = np.random.default_rng(0)
        weights = reference.random_weights(StackConfig("LSTM", 3, 4), rng)
    formats.safetensors.write(file, weights)
    return file.getvalue()


def zipped(members: dict[str, bytes], method=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(members: dict[str, bytes], format=tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


ARCHIVES = {
    "zip": zipped,
    "zip deflated": lambda members: zipped(members, zipfile.ZIP_DEFLATED),
    "tar": tarred,
    "tar gnu": lambda members: tarred(members, tarfile.GNU_FORMAT),
    "tar pax": lambda members: tarred(members, tarfile.PAX_FORMAT),
    "tar gzip": lambda members: gzip.compress(tarred(members)),
}
OTHERS = {"model_config.yaml": b"a: 1\n", "data": b'{"a": 1}', "empty.pth": b"", "x.json": b"[]"}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_the_only_member_with_weights_is_read(kind):
    data = ARCHIVES[kind]({**OTHERS, "weights.bin": weights_file(), "last": b"\x80"})
    found = formats.contents(data)
    what = "zip" if "zip" in kind and "tar" not in kind else "tar"
    assert found.format == f"safetensors ('weights.bin' in a {what} archive)"
    assert isinstance(fastrnn.load(data), fastrnn.LSTM)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_of_several_members_one_is_named(kind, tmp_path):
    path = tmp_path / "models.archive"
    other = weights_file({"rnn.w": np.ones(2)})
    path.write_bytes(ARCHIVES[kind]({"a/x.bin": weights_file(), "y.bin": other, **OTHERS}))
    with pytest.raises(
        fastrnn.FormatError, match=r"2 members, say which as in '::a/x.bin' .*'y.bin'"
    ):
        fastrnn.load(path)
    assert isinstance(fastrnn.load(f"{path}::a/x.bin"), fastrnn.LSTM)
    assert list(fastrnn.read(Path(f"{path}::y.bin"))) == ["rnn.w"]
    with pytest.raises(
        fastrnn.FormatError, match=f"^{path}::z: has no member 'z', it has 'a/x.bin'"
    ):
        fastrnn.load(f"{path}::z")
    with pytest.raises(fastrnn.FormatError, match="member 'data': is plain text"):
        fastrnn.load(f"{path}::data")
    with pytest.raises(FileNotFoundError):
        fastrnn.load(f"{tmp_path}/none.zip::y.bin")


def test_an_optimizers_state_is_no_model():
    data = zipped({"policy.optimizer.pth": weights_file(OPTIMIZER), "policy.pth": weights_file()})
    assert formats.contents(data).format.startswith("safetensors ('policy.pth'")
    alone = zipped({"policy.optimizer.pth": weights_file(OPTIMIZER)})
    with pytest.raises(fastrnn.FormatError, match="a zip archive without weights"):
        fastrnn.read(alone)


def test_what_stable_baselines3_saves(torch):
    """policy.pth, its optimizer after a step, and variables, of which there may be none."""
    policy = torch.nn.ModuleDict({"lstm_actor": torch.nn.LSTM(3, 4), "head": torch.nn.Linear(4, 2)})
    optimizer = torch.optim.Adam(policy.parameters())
    policy["lstm_actor"](torch.ones(2, 3))[0].sum().backward()
    optimizer.step()

    def saved(value) -> bytes:
        file = io.BytesIO()
        torch.save(value, file)
        return file.getvalue()

    data = zipped(
        {
            "data": b'{"policy_class": "MlpLstmPolicy"}',
            "pytorch_variables.pth": saved({}),
            "policy.pth": saved(policy.state_dict()),
            "policy.optimizer.pth": saved(optimizer.state_dict()),
            "_stable_baselines3_version": b"2.3.0",
        }
    )
    x = torch.ones(5, 1, 3)
    want = policy["lstm_actor"](x)[0].detach().numpy()
    np.testing.assert_allclose(fastrnn.load(data, "lstm_actor")(x.numpy())[0], want, atol=1e-6)


def test_a_file_of_that_name_goes_first(tmp_path):
    path = tmp_path / "a::b.safetensors"
    path.write_bytes(weights_file())
    assert isinstance(fastrnn.load(path), fastrnn.LSTM)


def test_a_member_of_what_has_none(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(weights_file())
    with pytest.raises(
        fastrnn.FormatError, match=r"has no members, and 'b' is asked for: it is saf"
    ):
        fastrnn.load(f"{tmp_path}/a.safetensors::b")


def test_every_format_is_read_inside_an_archive():
    files = [
        "state.pt",
        "state_legacy.pt",
        "checkpoint.pt",
        "module.pt",
        "script.pt",
        "expected.npz",
    ]
    for file in files:
        data = (DATA / "formats" / file).read_bytes()
        for archive in ARCHIVES.values():
            inside, alone = formats.contents(archive({file: data})), formats.contents(data)
            assert inside.format.startswith(f"{alone.format} (")
            assert list(inside.weights) == list(alone.weights)


def test_a_gzipped_file_is_read():
    assert isinstance(fastrnn.load(gzip.compress(weights_file())), fastrnn.LSTM)


def test_archives_inside_archives_are_refused():
    inner = zipped({"a.bin": weights_file()})
    with pytest.raises(
        fastrnn.FormatError, match=r"member 'b.zip': is an archive inside an archive"
    ):
        fastrnn.load(zipped({"b.zip": inner}))
    for name, data in (("b.tar", tarred({"a": b""})), ("b.gz", gzip.compress(b"x"))):
        with pytest.raises(fastrnn.FormatError, match="without weights"):
            fastrnn.load(tarred({name: data}))
    with pytest.raises(fastrnn.FormatError, match="gzip"):
        fastrnn.load(gzip.compress(gzip.compress(weights_file())))


def test_a_damaged_member_is_not_passed_over():
    data = zipped({"a.bin": weights_file()[:-3], "b.bin": weights_file()})
    with pytest.raises(fastrnn.FormatError, match=r"member 'a.bin': .*damaged"):
        fastrnn.load(data)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar gnu", "tar pax"])
def test_long_names(kind, tmp_path):
    name = "x" * 90 + "/" + ("é" if kind != "tar" else "e") * 40 + "/weights.bin"
    (tmp_path / "a").write_bytes(ARCHIVES[kind]({name: weights_file(), "b": weights_file()}))
    assert isinstance(fastrnn.load(f"{tmp_path}/a::{name}"), fastrnn.LSTM)


def test_bombs_are_refused_before_they_are_made():
    zeros = b"\x80\2" + bytes(100 << 20)
    for data in (gzip.compress(zeros), zipped({"a.bin": zeros}, zipfile.ZIP_DEFLATED)):
        started = time.process_time()
        with pytest.raises(fastrnn.FormatError, match="more memory than the file's size justifies"):
            fastrnn.read(data)
        assert time.process_time() - started < 5


def test_many_members_share_one_budget():
    one = weights_file({"x": np.zeros(5 << 20, np.float32)})
    data = zipped({f"{i}.bin": one for i in range(5)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(fastrnn.FormatError, match=r"member '3.bin': .*size justifies"):
        fastrnn.read(data)


def test_two_members_of_one_name():
    one = tarred({"weights.bin": weights_file()})[:-1024].rstrip(b"\0")
    one += bytes(-len(one) % 512)
    with pytest.raises(fastrnn.FormatError, match=r"two files named 'weights\.bin'"):
        fastrnn.read(one + one + bytes(1024))


def changed(data: bytes, at: int, by: bytes) -> bytes:
    """A tar archive with one field of its first header replaced, and its checksum mended."""
    head = bytearray(data[:512])
    head[at : at + len(by)] = by
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data[512:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d[:100] + b"x" + d[101:], "does not match its checksum"),
        (lambda d: changed(d, 124, b"77777777777\0"), "truncated or damaged: a member"),
        (lambda d: changed(d, 124, b"\x80" + b"\xff" * 11), "truncated or damaged: a member"),
        (lambda d: changed(d, 124, b"-0000000012\0"), "has the number"),
        (lambda d: changed(d, 156, b"x"), "a name|not one"),
        (lambda d: changed(d, 156, b"2"), "without weights"),
        (lambda d: d[:700], "truncated or damaged: a member"),
    ],
)
def test_damaged_tar_archives(change, words):
    with pytest.raises(fastrnn.FormatError, match=words):
        fastrnn.read(change(tarred({"weights.bin": weights_file()})))


def test_torch_saves_first_form_is_named():
    data = tarred({"storages": b"", "tensors": b"", "pickle": b""})
    with pytest.raises(fastrnn.FormatError, match=r"torch\.save in its first releases"):
        fastrnn.read(data)
