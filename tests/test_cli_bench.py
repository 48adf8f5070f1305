"""`fastrnn bench`: what it measures, prints and writes, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_files import block_imports, stack_weights
from synthetic_record import case_rows, synthetic_record

import fastrnn
from fastrnn.cli import bench_plan, main
from fastrnn.cli.bench_tables import say_record
from fastrnn.formats import write
from fastrnn.layers.engines import available_isas, choose_isa
from fastrnn.layers.weights import StackConfig
from fastrnn.measure import peers
from fastrnn.measure.limits import Limits
from fastrnn.measure.record import read_record
from fastrnn.plots.tables import figure

SMALL = ["--cell", "GRU", "--input-size", "3", "--hidden-size", "5"]
HASTE = ["--quick", "--seconds", "0.001"]
LIMITS = Limits(100.0, ((8192, 200.0), (1 << 20, 100.0)))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that nobody measured, and few steps."""
    monkeypatch.setattr(bench_plan, "measure_limits", lambda isa=None, quick=False: LIMITS)
    monkeypatch.setattr("fastrnn.measure.limits.measure_limits", bench_plan.measure_limits)
    monkeypatch.setattr(bench_plan, "QUICK_SIZES", (8, 16))
    monkeypatch.setattr(bench_plan, "FLAT_OUT_SECONDS", 1e-3)


def as_json(capsys, *argv: str):
    assert main(["bench", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def ways_of(record, batch: int = 1, steps: int = 1) -> list[str]:
    return [
        row["how"]
        for row in record["cases"]
        if (row["group"], row["batch"], row["steps"]) == ("file", batch, steps)
    ]


def test_the_whole_of_it_in_a_process_of_its_own(tmp_path):
    page = tmp_path / "report.html"
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    argv = [sys.executable, "-m", "fastrnn", "bench", *SMALL, *HASTE, "--html", str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("GRU(3, 5), random weights\n")
    for isa in available_isas():
        assert f"  simd {isa} " in done.stdout
    assert "  blas " in done.stdout
    assert re.search(r"the limit +[\d.]+ +[\d.]+\n", done.stdout)
    assert "by batch size:" in done.stdout
    assert "flat out, " in done.stdout
    assert done.stdout.endswith(f"{page}: the page\n")
    assert "GRU(3, 5), random weights on " in page.read_text("utf-8")


@pytest.mark.usefixtures("hasty")
def test_the_record_has_every_engine_batch_and_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fastrnn.machine, "_cores", lambda: 2)
    record = as_json(capsys, *SMALL, *HASTE, "--batch", "1,3", "--steps", "1,4")
    isas = [choose_isa(None), *(i for i in reversed(available_isas()) if i != choose_isa(None))]
    ways = [f"simd {isa} threads=1" for isa in isas] + ["blas threads=1"]
    ways += [f"simd {isas[0]} threads=2"]
    for batch in (1, 3):
        for steps in (1, 4):
            assert ways_of(record, batch, steps) == ways
    other = [row["hidden_size"] for row in record["cases"] if row["group"] == "sizes"]
    assert other == [8, 16]
    assert all(row["us_per_step"] > 0 for row in record["cases"])
    assert set(record["limits"]) == set(isas)
    (latency,) = record["latency"]
    assert latency["rate_hz"] is None
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    assert read_record(path) == record


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "config",
    [
        StackConfig("LSTM", 3, 5, num_layers=2),
        StackConfig("LSTM", 3, 5, proj_size=2),
        StackConfig("GRU", 3, 5, bias=False),
        StackConfig("RNN", 3, 5, bidirectional=True),
    ],
    ids=str,
)
def test_a_file_is_measured_as_what_it_holds(config, tmp_path, capsys):
    path = str(tmp_path / "model.npz")
    weights = stack_weights("encoder.rnn", config, "float64")
    write(path, weights | stack_weights("other", StackConfig("GRU", 2, 2)))
    record = as_json(capsys, path, "encoder.rnn", *HASTE, "--threads", "1")
    assert (record["file"], record["prefix"]) == (path, "encoder.rnn")
    own = [row for row in record["cases"] if row["group"] == "file"]
    for row in own:
        for key in ("cell", "input_size", "hidden_size", "num_layers", "proj_size"):
            assert row[key] == getattr(config, key)
        assert row["bidirectional"] == config.bidirectional
    assert {row["steps"] for row in own} == ({100} if config.bidirectional else {1, 100})
    assert bool(record["latency"]) is not config.bidirectional


@pytest.mark.usefixtures("hasty")
def test_the_files_own_weights_are_measured(tmp_path, capsys, monkeypatch):
    path = str(tmp_path / "model.npz")
    weights = stack_weights("", StackConfig("GRU", 3, 5))
    write(path, weights)
    measured = []
    real = bench_plan.measure_case

    def spy(case, own, **options):
        measured.append((case.group, own))
        return real(case, own, **options)

    monkeypatch.setattr(bench_plan, "measure_case", spy)
    as_json(capsys, path, *HASTE)
    for group, own in measured:
        if group == "file":
            assert own.keys() == weights.keys()
            assert all(np.array_equal(own[name], weights[name]) for name in weights)


def test_limits_alone(capsys, monkeypatch):
    monkeypatch.setattr("fastrnn.measure.limits.measure_limits", lambda isa, quick: LIMITS)
    want = {"gflops": 100.0, "int8_gops": None, "bandwidth": [[8192, 200.0], [1 << 20, 100.0]]}
    assert as_json(capsys, "--limits") == {"limits": dict.fromkeys(available_isas(), want)}
    assert main(["bench", "--limits"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][0] == choose_isa(None)
    assert lines[2][:3] == ["multiply-adds", "100", "GFLOP/s"]
    assert lines[3][:6] == ["reads", "of", "8", "KiB", "200", "GB/s"]
    assert lines[4][:6] == ["reads", "of", "1", "MiB", "100", "GB/s"]


# The table


def test_the_table_says_what_the_record_does(capsys):
    layers = (("simd", "avx512", 1), ("simd", "avx2", 1), ("simd", "avx512", 2))
    record = synthetic_record()
    record["cases"] = [
        row
        for batch in (1, 16)
        for row in case_rows(
            "LSTM", 96, batch, 1, input_size=40, group="file", layers=layers, runners=("torch",)
        )
    ]
    say_record("a title", record)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a title"
    table = {}
    for line in lines:
        cells = re.split(r"  +", line.strip())
        table[cells[0]] = cells[1:]
    columns = [[r for r in record["cases"] if r["batch"] == batch] for batch in (1, 16)]
    for i, name in enumerate(["simd avx512", "simd avx2", "simd avx512 threads=2 (wall)"]):
        assert table[name] == [figure(of[i]["us_per_step"]) for of in columns]
    assert table["torch module"] == [figure(of[3]["us_per_step"]) for of in columns]
    assert table["the limit"] == [figure(of[0]["limit_us"]) for of in columns]
    assert table["simd avx512, of it"] == [f"{of[0]['limit_fraction']:.0%}" for of in columns]
    assert table["flat out, 55,404 steps"] == ["3.4", "7.1", "12", "101", "577"]
    assert "torch 0.0.1, onnxruntime 0.0.2, openvino 0.0.3" in lines
    assert not any("busy" in line for line in lines)


def test_a_busy_machine_is_told(capsys):
    record = synthetic_record()
    for row in record["cases"]:
        row["us_per_step_wall"] = 2 * row["us_per_step"]
    say_record("", record)
    assert "this machine is busy: wall time was 2.0 times CPU time" in capsys.readouterr().out


# Other runtimes


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_version", lambda package: None)


@pytest.mark.usefixtures("hasty", "without_peers")
def test_peers_that_are_not_installed_are_left_out_and_named(capsys):
    assert main(["bench", *SMALL, *HASTE, "--peers"]) == 0
    out, err = capsys.readouterr()
    assert "  blas " in out
    assert "fastrnn: torch: left out, not installed: torch\n" in err
    assert err.count("left out") == len(peers.PEERS)


@pytest.mark.usefixtures("hasty", "without_peers")
def test_a_peer_asked_for_by_name_must_be_there(capsys):
    assert main(["bench", *SMALL, *HASTE, "--peer", "torch"]) == 2
    assert capsys.readouterr().err == "fastrnn: error: --peer torch: not installed: torch\n"
    assert main(["bench", *SMALL, *HASTE, "--peer", "nobody"]) == 2
    assert "--peer nobody: expected one of torch, " in capsys.readouterr().err


@pytest.mark.usefixtures("hasty", "torch")
def test_a_peer_is_measured_beside_ours(capsys):
    record = as_json(capsys, *SMALL, *HASTE, "--peer", "torch", "--batch", "1", "--steps", "1")
    rows = [row for row in record["cases"] if row["group"] == "file"]
    assert [row["runner"] for row in rows if row["runner"] != "fastrnn"] == ["torch"]
    assert record["versions"]["torch"]


@pytest.mark.usefixtures("hasty", "torch")
@pytest.mark.parametrize(
    ("liar", "code"), [("torch", 1), ("torch int8", 0), ("fastrnn engine=blas", 1)]
)
def test_who_computes_something_else_is_left_out_and_named(liar, code, monkeypatch, capsys):
    real = bench_plan.measure_case

    def measure_case(case, weights, *, layer_options, peers, **options):
        if liar in peers or (liar[0] == "f" and {"engine": "blas"} in layer_options):
            raise AssertionError("\nNot equal to tolerance\n\nGRU: off\nMismatched: 3\nx: 1")
        return real(case, weights, layer_options=layer_options, peers=peers, **options)

    monkeypatch.setattr(bench_plan, "measure_case", measure_case)
    argv = [*SMALL, *HASTE, "--peer", "torch", "--peer", "torch int8", "--batch", "1"]
    assert main(["bench", *argv, "--steps", "1", "--json"]) == code
    out, err = capsys.readouterr()
    record = json.loads(out)
    said = (
        f"{liar}: left out, not the same outputs: Not equal to tolerance; GRU: off; Mismatched: 3"
    )
    assert f"fastrnn: {said}\n" in err
    assert {entry["runner"] for entry in record["differing"]} == {liar}
    left = {row["runner"] for row in record["cases"] if row["group"] == "file"}
    assert left == {"fastrnn", "torch", "torch int8"} - {liar}
    assert ("blas threads=1" in ways_of(record)) is (liar[0] != "f")


# What stops it


@pytest.mark.usefixtures("hasty")
def test_an_interrupt_is_130_and_leaves_nothing_behind(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_plan, "measure_case", interrupt)
    page = tmp_path / "report.html"
    assert main(["bench", *SMALL, *HASTE, "--html", str(page)]) == 130
    assert capsys.readouterr() == ("", "")
    assert not page.exists()


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
@pytest.mark.usefixtures("hasty")
def test_without_the_extra_there_is_a_table_and_no_page(package, monkeypatch, tmp_path, capsys):
    if package == "jinja2":
        pytest.importorskip("matplotlib")
    block_imports(monkeypatch, package)
    assert main(["bench", *SMALL, *HASTE]) == 0
    assert "by batch size:" in capsys.readouterr().out
    monkeypatch.setattr(bench_plan, "measure_case", lambda *args, **options: pytest.fail("ran"))
    page = tmp_path / "report.html"
    assert main(["bench", *SMALL, *HASTE, "--html", str(page)]) == 2
    said = f"fastrnn: error: --html needs {package}: pip install 'fastrnn[plots]'\n"
    assert capsys.readouterr() == ("", said)
    assert not page.exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["model.npz", "--cell", "LSTM"], "--cell is for a cell without FILE: model.npz has its"),
        (["model.npz", "--hidden-size", "3"], "--hidden-size is for a cell without FILE"),
        (["--hidden-size", "0"], "argument --hidden-size: 0, expected 1 to 1048576"),
        (["--batch", "1,0"], "argument --batch: 0, expected 1 to 1048576"),
        (["--batch", "a"], "argument --batch: invalid"),
        (["--seconds", "0"], "argument --seconds: 0.0, expected more than 0"),
        (["--seconds", "nan"], "argument --seconds: nan, expected more than 0"),
        (["--cell", "CNN"], "argument --cell: invalid choice"),
        (["--html", "model.pt"], "'model.pt', expected it to end in .html or .htm"),
    ],
)
def test_wrong_usage_is_2_and_names_the_fault(argv, said, capsys):
    assert main(["bench", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize(("content", "code"), [(None, 2), (b"hello, world", 1)])
def test_a_file_that_cannot_be_read(content, code, tmp_path, capsys):
    path = Path(tmp_path / "model.pt")
    if content is not None:
        path.write_bytes(content)
    assert main(["bench", str(path)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn: error: {path}: ")
    assert err.count("\n") == 1


def test_a_page_that_cannot_be_written_is_told_before_measuring(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    monkeypatch.setattr("fastrnn.cli.bench_plan.measure", lambda *_: pytest.fail("measured"))
    page = tmp_path / "nowhere" / "page.html"
    assert main(["bench", "--html", str(page)]) == 2
    assert f"{page}: No such file or directory" in capsys.readouterr().err


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastrnn.cli.bench_plan.measure", interrupted)
    page = tmp_path / "page.html"
    page.write_text("the one before")
    assert main(["bench", "--html", str(page)]) == 130
    assert page.read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
