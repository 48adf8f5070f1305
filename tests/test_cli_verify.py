"""`fastrnn verify`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_files import stack_weights

from fastrnn.cli import main, verify
from fastrnn.formats import write
from fastrnn.layers.engines import available_isas
from fastrnn.layers.recurrent import RecurrentLayer
from fastrnn.layers.weights import StackConfig
from fastrnn.streams.stream import Stream

CONFIGS = {
    "lstm": StackConfig("LSTM", 5, 16, num_layers=2, proj_size=9),
    "gru": StackConfig("GRU", 3, 17, bidirectional=True),
    "rnn": StackConfig("RNN", 4, 8, bias=False),
}


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(verify, "import_torch", lambda: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.npz"
    weights = {"head.weight": np.zeros((2, 2), np.float32)}
    for prefix, config in CONFIGS.items():
        weights |= stack_weights(prefix, config, "float64" if prefix == "rnn" else "float32")
    write(path, weights)
    return path


def verify_json(capsys, *argv, code=0):
    assert main(["verify", *map(str, argv), "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_every_engine_in_every_mode_gives_the_same_answers(no_torch, model, capsys):
    report = verify_json(capsys, model)
    assert report["ok"] is True
    assert report["torch"] is None
    assert [stack["prefix"] for stack in report["stacks"]] == list(CONFIGS)
    simd = [f"simd {isa}" for isa in available_isas()]
    for stack in report["stacks"]:
        ways = [(d["engine"], d["dtype"], d["mode"]) for d in stack["differences"]]
        expected = {(name, "float32", "whole") for name in [*simd, "blas"]}
        if not stack["bidirectional"]:
            expected |= {(name, "float32", "stream") for name in [*simd, "blas"]}
            expected.add(("blas", "float64", "stream"))
        assert set(ways) == expected
        assert len(ways) == len(expected)
        for difference in stack["differences"]:
            assert difference["ok"] is True
            assert difference["max_abs_diff"] <= difference["tolerance"]
            # Float32 cannot be the same as float64: a difference of 0 was no comparison.
            assert difference["max_abs_diff"] > 0 or difference["dtype"] == "float64"


def test_torch_is_compared_where_it_is_installed(model, capsys):
    torch = pytest.importorskip("torch")
    report = verify_json(capsys, model)
    assert report["torch"] == torch.__version__
    for stack in report["stacks"]:
        of_torch = [d for d in stack["differences"] if d["engine"] == "torch"]
        assert [(d["dtype"], d["mode"]) for d in of_torch] == [
            ("float32", "whole"),
            ("float64", "whole"),
        ]
        assert all(d["ok"] for d in of_torch)


def test_a_person_reads_a_verdict_and_the_tolerance(no_torch, model, capsys):
    assert main(["verify", str(model)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for prefix, config in CONFIGS.items():
        assert f"\n{prefix}: {config}\n" in out
    assert "(tolerance 1.0e-04)" in out
    assert "bidirectional: not streamed" in out
    assert "DIFFERS" not in out
    assert out.endswith(
        "torch is not installed: not compared\n3 stacks: the same answers within tolerance\n"
    )


def test_prefix_chooses_one_stack(no_torch, model, capsys):
    (stack,) = verify_json(capsys, model, "--prefix", "rnn")["stacks"]
    assert stack["prefix"] == "rnn"
    assert main(["verify", str(model), "--prefix", "head"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{model}: no recurrent stack under prefix 'head', expected one of 'lstm'" in err


def off_by(amount, where):
    """A way of running that adds `amount` to y where `where(self)` is true."""

    def wrap(run):
        def wrapped(self, *args, **options):
            result = run(self, *args, **options)
            if not where(self):
                return result
            if isinstance(result, tuple):
                return result[0] + amount, result[1]
            return result + amount

        return wrapped

    return wrap


def test_an_engine_that_is_wrong_is_found(no_torch, model, monkeypatch, capsys):
    wrong = off_by(1e-3, lambda layer: layer.engine == "blas" and layer.dtype == np.float32)
    monkeypatch.setattr(RecurrentLayer, "__call__", wrong(RecurrentLayer.__call__))
    report = verify_json(capsys, model, code=1)
    assert report["ok"] is False
    for stack in report["stacks"]:
        assert stack["ok"] is False
        failed = [d for d in stack["differences"] if not d["ok"]]
        assert [(d["engine"], d["dtype"], d["mode"]) for d in failed] == [
            ("blas", "float32", "whole")
        ]
        assert failed[0]["max_abs_diff"] == pytest.approx(1e-3, rel=0.01)
    assert main(["verify", str(model)]) == 1
    out = capsys.readouterr().out
    assert out.count("DIFFERS") == 3
    assert out.endswith("3 stacks: different answers\n")


def test_a_stream_that_is_wrong_is_found(no_torch, model, monkeypatch, capsys):
    monkeypatch.setattr(Stream, "step", off_by(1e-3, lambda stream: True)(Stream.step))
    report = verify_json(capsys, model, code=1)
    for stack in report["stacks"]:
        assert stack["ok"] is stack["bidirectional"]
        assert all(d["ok"] is (d["mode"] == "whole") for d in stack["differences"])


def test_a_wrong_final_state_is_found(no_torch, model, monkeypatch, capsys):
    state = Stream.state
    later = property(lambda stream: np.asarray(state.fget(stream)) + 1e-3, state.fset)
    monkeypatch.setattr(Stream, "state", later)
    (stack,) = verify_json(capsys, model, "--prefix", "rnn", code=1)["stacks"]
    assert {d["mode"] for d in stack["differences"] if not d["ok"]} == {"stream"}


def test_nan_is_a_difference(no_torch, model, monkeypatch, capsys):
    nan = off_by(np.nan, lambda layer: layer.dtype == np.float32)
    monkeypatch.setattr(RecurrentLayer, "__call__", nan(RecurrentLayer.__call__))
    report = verify_json(capsys, model, code=1)
    failed = [d for stack in report["stacks"] for d in stack["differences"] if not d["ok"]]
    assert failed
    assert all(d["max_abs_diff"] is None for d in failed)


@pytest.mark.parametrize("value", [None, np.nan, 1e300], ids=["missing", "NaN", "beyond float32"])
def test_a_stack_that_cannot_be_loaded_is_1_and_the_others_are_compared(
    value, no_torch, tmp_path, capsys
):
    weights = stack_weights("bad", CONFIGS["rnn"], "float64")
    if value is None:
        del weights["bad.weight_hh_l0"]
    else:
        weights["bad.weight_hh_l0"][1, 2] = value
    path = tmp_path / "model.npz"
    write(path, {**weights, **stack_weights("good", CONFIGS["rnn"])})
    bad, good = verify_json(capsys, path, code=1)["stacks"]
    assert bad["ok"] is False
    assert "bad.weight_hh_l0" in bad["problem"]
    assert bad["differences"] == []
    assert good["ok"] is True
    assert main(["verify", str(path)]) == 1
    out = capsys.readouterr().out
    assert f"\nbad: cannot be loaded: {bad['problem']}" in out
    assert out.endswith("1 stack: the same answers within tolerance; 1 stack: cannot be loaded\n")


def test_a_file_without_stacks_is_1(tmp_path, capsys):
    path = tmp_path / "head.npz"
    write(path, {"head.weight": np.zeros((2, 2))})
    assert main(["verify", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn: error: {path}: no recurrent stack")


def test_what_compact_weights_change_is_reported(model, tmp_path, capsys):
    pytest.importorskip("torch")
    config = StackConfig("GRU", 3, 17)
    path = tmp_path / "net.npz"
    head = {"head.weight": np.random.default_rng(0).standard_normal((5, 17)).astype(np.float32)}
    write(path, stack_weights("gru", config, "float32") | head)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((40, 2, 3)))
    report = verify_json(capsys, path, "--weight-dtype", "int8", "--input", tmp_path / "x.npy")
    floats, ours, theirs = report["stacks"][0]["compact"]
    assert [floats["way"], ours["way"], theirs["way"]] == ["float32", "int8", "torch int8"]
    assert 0 < floats["rms"] < 1e-5 < ours["rms"] < theirs["rms"]
    assert floats["decisions"] == {"head.weight": 0}
    assert 0 <= ours["decisions"]["head.weight"] < 0.2
    assert main(["verify", str(path), "--weight-dtype", "int16"]) == 0
    out = capsys.readouterr().out
    assert "h against float64:" in out
    assert "decisions of head.weight (largest of 5) that change: float32 0.00%, int16" in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--input", "x.npy"], 2, "--input is for the report of --weight-dtype"),
        (
            ["--weight-dtype", "int8", "--input", "x.npy"],
            1,
            "float32 of shape (4, 2), expected real numbers (T, 5)",
        ),
        (["--weight-dtype", "int4"], 2, "invalid choice: 'int4'"),
    ],
)
def test_an_input_that_does_not_fit(argv, code, message, no_torch, model, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((4, 2), np.float32))
    argv = [str(tmp_path / "x.npy") if part == "x.npy" else part for part in argv]
    assert main(["verify", str(model), "--prefix", "lstm", *argv]) == code
    assert message in capsys.readouterr().err
