"""What registries and boards are told of batchers: histograms that add up."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from serving import in_loop, make_layer, unlabelled

from fastrnn.serve import Batcher
from fastrnn.serve.board import Board
from fastrnn.serve.figures import Counts, families, keys, of_batcher, of_server
from fastrnn.serve.fleet import FIRST_PAUSE, Fleet
from fastrnn.serve.metrics import register
from fastrnn.serve.stats import MS, Window


@pytest.mark.parametrize("size", [1, 15, 16, 1000])
def test_bins_hold_every_sample(rng, size):
    window = Window()
    values = np.concatenate([10 ** rng.uniform(-3, 5, size), MS[:3]]).tolist()
    for begin in range(0, len(values), size):
        window.add_all(np.array(values[begin : begin + size]))
    edges = np.array([*MS, np.inf])
    expected = [int((np.array(values) <= edge).sum()) for edge in edges]
    assert np.cumsum(window.bins).tolist() == expected
    assert sum(window.bins) == window.count == len(values)


@in_loop
async def test_a_registry_tells_of_batchers(rng):
    layer, registry = make_layer(), CollectorRegistry()
    async with Batcher(layer, 4, 4) as one, Batcher(layer, 4, 4) as other:
        collector = register(one, registry)
        with pytest.raises(ValueError, match="Duplicated"):
            register(other, registry)
        async with one.session() as session:
            await session.run(rng.standard_normal((5, layer.input_size)))
            found = unlabelled(generate_latest(registry).decode())
        assert found["fastrnn_streams"] == 1
        assert found["fastrnn_frames_total"] == 5
        assert found["fastrnn_queue_seconds_count"] == 1
        registry.unregister(collector)
        register(one, registry, {"model": "a"})
        register(other, registry, {"model": "b"})
        assert registry.get_sample_value("fastrnn_frames_total", {"model": "a"}) == 5
        assert registry.get_sample_value("fastrnn_frames_total", {"model": "b"}) == 0
        top = {"model": "a", "le": "+Inf"}
        assert registry.get_sample_value("fastrnn_batch_rows_bucket", top) > 0


@in_loop
async def test_a_board_adds_up_and_goes_on_counting():
    async with Batcher(make_layer(), 4, 4) as batcher:
        counts = Counts(accepted=3, messages=7)
        counts.closes[1001] = 2
        own = {**of_batcher(batcher), **of_server(counts)}
    assert {*own} == {*keys()}
    own["streams"] = 2
    board = Board(3)
    for row in (0, 2):
        board.take(row)
        board.publish(own)
    total = board.total()
    assert (total["connections"], total["streams"], total["closes 1001"]) == (6, 4, 4)
    assert board.processes() == [os.getpid()] * 2
    board.leave(0)
    assert (board.total()["streams"], board.total()["connections"]) == (2, 6)
    board.take(0)
    board.publish(own)
    assert (board.total()["streams"], board.total()["connections"]) == (4, 9)
    assert board.restarts() == 1
    closes = next(f for f in families(total, {}) if f.name == "fastrnn_closes")
    assert [(s.labels["code"], s.value) for s in closes.samples] == [("1001", 4)]


def test_a_worker_that_keeps_ending_is_begun_ever_later(tmp_path):
    def work(number, life):
        life.ready()
        with open(tmp_path / "begun", "a") as file:
            file.write(f"{time.monotonic()}\n")
        time.sleep(0.3 if number == 0 else 60)
        return 3

    fleet = Fleet(2, work, 0.1)

    def begun():
        return [float(line) for line in (tmp_path / "begun").read_text().split()]

    wait = fleet._wait

    def until_there_are_enough(seconds):
        wait(0.05)
        if len(begun()) >= 6:
            fleet._stop()

    fleet._wait = until_there_are_enough
    assert fleet.run(lambda: None, lambda: None) == 0
    moments = np.sort(begun())[1:]  # both begin at once
    waits = np.diff(moments)
    assert (waits >= FIRST_PAUSE * 2 ** np.arange(len(waits)) * 0.9).all()


def test_a_worker_that_cannot_begin_ends_the_fleet(tmp_path):
    fleet = Fleet(2, lambda number, life: 1 if number else time.sleep(60) or 0, 0.1)
    begin = time.monotonic()
    assert fleet.run(lambda: pytest.fail("it did not start"), lambda: None) == 1
    assert time.monotonic() - begin < 20
