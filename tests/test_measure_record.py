"""Records: written, read, refused; latency and costs as rows of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.costs import disk_costs, import_costs
from fastrnn.measure.latency import latency_row, measure_latency
from fastrnn.measure.record import new_record, read_record, record_name, write_record
from fastrnn.measure.summary import summarise


def test_round_trip(tmp_path):
    record = new_record(Path(__file__).parent)
    record["cases"] = [{"id": "LSTM I=1 H=1 B=1 T=1", "us_per_step": 1.23456789, "rounds": 12345}]
    write_record(record, tmp_path / "a" / "record.json")
    read = read_record(tmp_path / "a" / "record.json")
    assert read["cases"] == [{"id": "LSTM I=1 H=1 B=1 T=1", "us_per_step": 1.235, "rounds": 12345}]
    assert read["format"] == 1
    assert read["fastrnn"] == fastrnn.__version__
    assert read["machine"] == fastrnn.info()
    assert record["cases"][0]["us_per_step"] == 1.23456789


def test_name():
    machine = {"cpu": "Intel(R) Xeon(R) CPU @ 2.2GHz", "isa": {"chosen": "avx2"}}
    record = {"fastrnn": "1.2.3", "machine": machine}
    assert record_name(record) == "1.2.3-intel-r-xeon-r-cpu-2-2ghz-avx2.json"


def test_records_of_different_isas_have_different_names():
    names = {
        record_name({"fastrnn": "1", "machine": {"cpu": "a", "isa": {"chosen": isa}}})
        for isa in ("generic", "avx2", "avx512", "avx512vnni")
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a record of benchmarks"),
        ('{"cases": []}', "not a record of benchmarks"),
        ('{"format": 99}', "format 99, expected 1"),
        ('{"format": 1, "cases": {}}', "'cases' is no list"),
    ],
)
def test_what_is_refused(tmp_path, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(fastrnn.FormatError, match=said):
        read_record(path)


def test_committed_records_are_read():
    for path in (Path(__file__).parent.parent / "bench" / "results").glob("[0-9]*.json"):
        record = read_record(path)
        assert record["cases"], path
        assert path.name == record_name(record)


def test_latency_row():
    layer = fastrnn.LSTM.from_state_dict(random_weights(Case("LSTM", 4, 8)))
    us = np.concatenate([np.full(989, 5.0), np.full(10, 50.0), [500.0]])
    row = latency_row(layer, 100.0, us)
    assert row["us"]["p50"] == 5
    assert row["us"]["p99"] == 50
    assert row["us"]["max"] == 500
    assert (row["cell"], row["hidden_size"], row["rate_hz"]) == ("LSTM", 8, 100.0)
    edges, counts = row["histogram"]["edges_us"], row["histogram"]["counts"]
    assert len(edges) == len(counts) + 1
    assert sum(counts) == row["steps"] == 1000
    assert counts[0] == 989
    assert counts[-1] == 1
    json.dumps(row)


def test_latency_of_equal_steps_has_a_histogram():
    layer = fastrnn.GRU.from_state_dict(random_weights(Case("GRU", 4, 8)))
    assert sum(latency_row(layer, None, np.zeros(7))["histogram"]["counts"]) == 7


def test_latency_is_paced():
    layer = fastrnn.GRU.from_state_dict(random_weights(Case("GRU", 4, 8)))
    parts = []
    row = measure_latency(layer, 1000.0, 50, parts.append)
    assert row["steps"] == 50
    assert parts[-1] == 1
    assert 0 < row["us"]["p50"] <= row["us"]["p99"] <= row["us"]["max"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_costs():
    times, resident = import_costs("fastrnn", runs=1)
    assert len(times) == 1
    assert 1 < times[0] < 30_000
    assert resident < 100
    disk = disk_costs("fastrnn")
    assert 0.2 < disk["wheel_mb"] < disk["installed_mb"] < 5
    # NumPy and SciPy come with it; what its extras bring does not
    assert 50 < disk["installed_with_required_mb"] < 400


def test_summary():
    def row(case, runner, ratio, fraction=0.5):
        return {"id": case, "runner": runner, "ratio": ratio, "limit_fraction": fraction}

    found = summarise(
        [
            row("a", "fastrnn", 1, 0.8),
            row("a", "fastrnn", 3, 0.1),  # another engine
            row("a", "torch", 4),
            row("a", "onnxruntime", 2),
            row("a", "torch int8", 0.1),  # computes something else
            row("b", "fastrnn", 1, 0.2),
            row("b", "torch", 9),
            row("b", "onnxruntime", 0.5),
        ]
    )
    assert found.cases == 2
    assert found.by_peer == pytest.approx({"torch": 6, "onnxruntime": 1})
    assert found.fastest == pytest.approx(1)
    assert found.slower == {"b": 0.5}
    assert found.limit_fraction == pytest.approx(0.4)
