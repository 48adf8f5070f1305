"""The check of instruction counts: what it compares, and that it fails."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
DUMP = """\
version: 1
desc: Trigger: Client Request: avx2 LSTM I=8 H=8 B=1 T=10
events: Ir
summary: 1230

totals: 1230
"""


@pytest.fixture
def as_it_is(monkeypatch):
    """bench/instructions.py."""
    if not BENCH.is_dir():
        pytest.skip("a source distribution has no bench/")
    spec = importlib.util.spec_from_file_location("instructions", BENCH / "instructions.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "instructions", module)  # where its dataclass looks
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def instructions(as_it_is, monkeypatch, tmp_path):
    """It, with a table of its own, and a compiler."""
    module = as_it_is
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "TABLE", tmp_path / "instructions.json")
    monkeypatch.setattr(module, "flags", lambda: ["-O3"])
    monkeypatch.setattr(module, "has_valgrind", lambda: True)
    monkeypatch.setattr(module, "compiler_version", lambda: "gcc 1")
    return module


@pytest.fixture
def run(instructions, monkeypatch):
    """Runs the command on given counts: exit code."""

    def run(action, **counts):
        named = {f"avx2 {name}": n for name, n in counts.items()}
        monkeypatch.setattr(instructions, "count", lambda: named)
        monkeypatch.setattr("sys.argv", ["instructions.py", *([action] if action else [])])
        return instructions.main()

    return run


def test_compare(instructions):
    found = instructions.compare(
        {"a": 103.0, "b": 103.1, "c": 96.9, "d": 1.0}, {"a": 100.0, "b": 100.0, "c": 100.0, "e": 1}
    )
    assert found.grown == pytest.approx({"b": 1.031})
    assert found.shrunk == pytest.approx({"c": 0.969})
    assert (found.new, found.gone) == (["d"], ["e"])
    assert not found.passes


def test_fails_when_a_step_grows_until_the_table_is_updated(run, capsys):
    assert run("--update", a=1000.0, b=50.0) == 0
    assert run("--check", a=1030.0, b=50.0) == 0
    assert run("--check", a=1031.0, b=50.0) == 1
    assert "GROWN: avx2 a: +3.10 %" in capsys.readouterr().out
    assert run("--update", a=1031.0, b=50.0) == 0
    assert run("--check", a=1031.0, b=50.0) == 0


def test_a_smaller_step_passes_and_is_named(run, capsys):
    run("--update", a=1000.0)
    assert run("--check", a=900.0) == 0
    assert "shrunk: avx2 a: -10.00 %" in capsys.readouterr().out


def test_fails_when_a_case_comes_or_goes(run):
    run("--update", a=1000.0)
    assert run("--check", a=1000.0, b=1.0) == 1
    assert run("--check", b=1.0) == 1


def test_another_compiler_is_not_compared_and_keeps_its_own_counts(
    run, instructions, monkeypatch, capsys
):
    run("--update", a=1000.0)
    monkeypatch.setattr(instructions, "compiler_version", lambda: "clang 2")
    assert run("--check", a=2000.0) == 0
    assert "INSTRUCTIONS NOT COMPARED: not recorded for clang 2, but for:\n    gcc 1" in (
        capsys.readouterr().out
    )
    run("--update", a=2000.0)
    table = json.loads(instructions.TABLE.read_text())["compilers"]
    assert {name: of["per_step"][0]["per_step"] for name, of in table.items()} == {
        "gcc 1": 1000.0,
        "clang 2": 2000.0,
    }


def test_an_isa_that_this_cpu_has_not_is_not_compared(run, instructions, monkeypatch, capsys):
    run("--update", a=1000.0)
    monkeypatch.setattr(instructions, "count", lambda: {"generic a": 1.0})
    monkeypatch.setattr("sys.argv", ["instructions.py", "--check"])
    assert instructions.main() == 1  # of a case that is new
    assert "INSTRUCTIONS NOT COMPARED: avx2" in capsys.readouterr().out


def test_without_valgrind_it_says_so(run, instructions, monkeypatch, capsys):
    monkeypatch.setattr(instructions, "has_valgrind", lambda: False)
    assert run("--check", a=1.0) == 0
    assert "INSTRUCTIONS NOT COUNTED" in capsys.readouterr().out
    assert run("--update", a=1.0) == 1


def test_a_dump_s_count_is_per_step(instructions):
    assert instructions.parse_dump(DUMP) == ("avx2 LSTM I=8 H=8 B=1 T=10", 123.0)
    assert instructions.parse_dump(DUMP.replace("Client Request", "Program termination")) is None


def test_the_flags_are_setup_py_s(as_it_is):
    assert "-ffp-contract=off" in as_it_is.flags()


def test_the_committed_table_is_whole(instructions):
    table = json.loads((BENCH / "results" / "instructions.json").read_text())["compilers"]
    for of in table.values():
        assert {row["isa"] for row in of["per_step"]} == {"generic", "avx2"}
        assert all(row["per_step"] > 100 for row in of["per_step"])
