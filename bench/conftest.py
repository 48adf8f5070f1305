"""The suites' options, fixtures and record. `pytest bench --help` lists the options.

How paired rounds and pytest-benchmark go together: machines drift, so a ratio is only worth
something between samples that were taken turn by turn, A B A B; pytest-benchmark times one test to
the end before the next begins. So the first test of a case measures all the case's runners turn by
turn (`turns.py`), and each runner is a benchmark of its own, whose rounds are those samples: the
clock that its pytest-benchmark reads replays them. Its table, --benchmark-save and
--benchmark-compare then work as ever, on seconds per time step; the paired ratio is in extra_info.
"""

from __future__ import annotations

import os

# Read when the libraries are loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from instructions import read_table
from replay import Replay, replayed_time
from turns import ASKED, Contest, Turns, listed

from fastrnn.layers.engines import available_isas, choose_isa
from fastrnn.measure.limits import Limits, as_json, measure_limits
from fastrnn.measure.peers import PEERS
from fastrnn.measure.record import Record, new_record, read_record, record_name, write_record
from fastrnn.measure.summary import summarise

RESULTS = Path(__file__).parent / "results"
COLUMNS = ["median", "iqr", "min", "max", "rounds"]
BY_VERSION = Path("<version>-<cpu>-<isa>.json")

record_key = pytest.StashKey[Record]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastrnn")
    for name, (kind, said) in ASKED.items():
        group.addoption(
            f"--{name.replace('_', '-')}", type=listed(kind), help=f"test_cases.py: {said}"
        )
    group.addoption("--quick", action="store_true", help="a part of everything, in 2 minutes")
    group.addoption(
        "--record",
        nargs="?",
        type=Path,
        const=BY_VERSION,
        help=f"write the record, as bench/results/{BY_VERSION} or to this file",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick") and (path := config.getoption("record")) is not None:
        _refuse_to_replace(path)
    # said of every test that fails before it is measured
    unused = "ignore:Benchmark fixture was not used:pytest_benchmark.logger.PytestBenchmarkWarning"
    config.addinivalue_line("filterwarnings", unused)
    config.stash[record_key] = new_record(RESULTS) | {"quick": bool(config.getoption("quick"))}
    asked = [str(arg) for arg in config.invocation_params.args]
    for option, value in (("columns", COLUMNS), ("sort", "median"), ("name", "short")):
        if not any(arg.startswith(f"--benchmark-{option}") for arg in asked):
            setattr(config.option, f"benchmark_{option}", value)


def _refuse_to_replace(path: Path) -> None:
    """Refuse what would write a part of everything over the record of a full run."""
    if path == BY_VERSION:
        raise pytest.UsageError(
            "--quick --record: results/ has the records of full runs; say --record=FILE"
        )
    if path.exists() and not read_record(path).get("quick"):
        raise pytest.UsageError(f"--quick --record={path}: it has the record of a full run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for `contest` and `runner` those of its module's contests()."""
    if "runner" not in metafunc.fixturenames:
        return
    contests: Iterable[Contest] = metafunc.module.contests(metafunc.config)
    metafunc.parametrize(
        ("contest", "runner"),
        [
            pytest.param(
                contest,
                runner,
                id=f"{contest.group}-{runner}",
                marks=pytest.mark.benchmark(group=contest.group, timer=replayed_time),
            )
            for contest in contests
            for runner in contest.runners
        ],
    )


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("quick"))


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    return request.config.stash[record_key]


@pytest.fixture(scope="session")
def limits(record: Record, quick: bool) -> dict[str, Limits]:
    """Of each ISA, the one that is chosen last."""
    best = choose_isa(None)
    isas = [*(isa for isa in available_isas() if isa != best), best]
    measured = {isa: measure_limits(isa, quick) for isa in isas}
    record["limits"] = {isa: as_json(of) for isa, of in measured.items()}
    return measured


@pytest.fixture(scope="session")
def turns(request: pytest.FixtureRequest) -> Turns:
    """What was measured of the latest contest, for the runners that this session selected."""
    wanted: dict[Contest, list[str]] = {}
    for item in request.session.items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "runner" in params:
            wanted.setdefault(params["contest"], []).append(params["runner"])
    return Turns(wanted, bool(request.config.getoption("quick")))


@pytest.fixture
def replay(benchmark: Any) -> Callable[..., None]:
    """Makes `benchmark` of samples in microseconds that were taken before."""
    return Replay(benchmark)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("record")
    if path is None:
        return
    record = session.config.stash[record_key]
    record["instructions"] = [
        {**row, "compiler": compiler}
        for compiler, of in read_table().items()
        for row in of["per_step"]
    ]
    if path == BY_VERSION:
        path = RESULTS / record_name(record)
    write_record(record, path)
    session.config.stash[record_key]["written"] = str(path)


@pytest.hookimpl(trylast=True)  # below pytest-benchmark's tables
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    record = config.stash[record_key]
    write = terminalreporter.write_line
    for isa, of in record.get("limits", {}).items():
        sizes = dict(of["bandwidth"])
        told = [16 << 10, 256 << 10, 4 << 20, max(sizes)]
        reads = ", ".join(
            f"{sizes[min(sizes, key=lambda s: abs(s - size))]:.0f} GB/s of {size >> 10} KB"
            for size in told
        )
        write(f"limit of one core, {isa}: {of['gflops']:.0f} GFLOP/s; reads {reads}")
    for group in ("grid", "deepbench", "models"):
        rows = [row for row in record.get("cases", []) if row["group"] == group]
        if not rows:
            continue
        found = summarise(rows)
        write(
            f"{group}: {found.cases} cases; fastrnn at {found.limit_fraction:.2f} of the limit; "
            f"the fastest other takes {found.fastest:.2f} times as long (geometric means)"
        )
        for peer, ratio in found.by_peer.items():
            write(f"    {peer:16}{ratio:8.2f}")
        for case, ratio in found.slower.items():
            write(f"    faster than fastrnn: {case}: {ratio:.2f}")
    for name, peer in PEERS.items():
        if peer.missing:
            write(f"{name}: left out, not installed: {', '.join(peer.missing)}")
    if "written" in record:
        write(f"record written to {record.pop('written')}")
