"""Costs around the step, ours and others': importing, loading and packing, sizes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay import replayed_time

from fastrnn.measure.cases import Case, random_weights
from fastrnn.measure.costs import LOAD_SIZE, LOADING, MODULES, disk_costs, import_costs, load_costs
from fastrnn.measure.peers import PEERS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict that torch saved."""
    torch = pytest.importorskip("torch", reason="torch is not installed: it saves the file to load")
    path = tmp_path_factory.mktemp("costs") / "lstm.pt"
    weights = random_weights(Case("LSTM", LOAD_SIZE, LOAD_SIZE))
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, path)
    return path


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.benchmark(group="import, beyond NumPy's", timer=replayed_time)
def test_import_and_sizes(name: str, quick: bool, record, replay) -> None:
    if name in PEERS and PEERS[name].missing:
        pytest.skip(f"{name}: not installed: {', '.join(PEERS[name].missing)}")
    times, resident = import_costs(name, 2 if quick else 5)
    costs = {"import_ms": sorted(times)[len(times) // 2], "import_rss_mb": resident}
    costs |= disk_costs(name, wheel=name == "fastrnn" or not quick)
    record.setdefault("costs", {}).setdefault(name, {}).update(costs)
    replay([1e3 * ms for ms in times], name, costs)


@pytest.mark.parametrize("name", LOADING)
@pytest.mark.parametrize("what", ["load", "pack"])
@pytest.mark.benchmark(group="load and pack, per MB", timer=replayed_time)
def test_load(name: str, what: str, model: Path, record, replay) -> None:
    costs = load_costs(name, model)
    key = f"{what}_ms_per_mb"
    record.setdefault("costs", {}).setdefault(name, {})[key] = costs[key]
    replay([1e3 * costs[key]], f"{name} {what}", costs)
