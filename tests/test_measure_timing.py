"""Pairing and units of timing, with clocks that are told what time it is."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from fastrnn.measure.timing import (
    Contestant,
    calling,
    calling_with,
    geometric_mean,
    interleave,
    paired,
)


class Time:
    """Clocks that calls move: CPU by their seconds, the wall by twice as much."""

    def __init__(self):
        self.now = 0.0

    def clocks(self):
        return self.now, 2 * self.now

    def contestant(self, seconds, log=None, name=""):
        """One call takes `seconds`, or what an iterator says next."""

        def call():
            self.now += next(seconds) if hasattr(seconds, "__next__") else seconds
            if log is not None:
                log.append(name)

        return Contestant(calling(call), clocks=self.clocks)


def test_microseconds_per_call_of_cpu_and_wall():
    time = Time()
    times = interleave({"a": time.contestant(3e-6)}, seconds=0, rounds=(4, 9))["a"]
    assert times.shape == (4, 2)
    np.testing.assert_allclose(times, [[3, 6]] * 4)


def test_a_sample_is_about_half_a_millisecond_and_at_least_one_call():
    time = Time()
    assert time.contestant(1e-6).calls == pytest.approx(500, abs=1)
    assert time.contestant(0.5).calls == 1


def test_rounds_go_in_turn():
    time, log = Time(), []
    contestants = {name: time.contestant(0.02, log, name) for name in "abc"}
    log.clear()
    interleave(contestants, seconds=0, rounds=(3, 3))
    assert log == list("abcabcabc")


def test_a_drifting_machine_leaves_paired_ratios_alone():
    time = Time()
    slowness = iter(np.repeat(np.linspace(1, 3, 50), 1))

    class Drifting:
        now = 1.0

    def contestant(seconds):
        def run(calls):
            time.now += calls * seconds * Drifting.now

        return Contestant(run, clocks=time.clocks)

    calls = {"a": contestant(0.02), "b": contestant(0.05)}
    times = interleave(
        calls,
        seconds=1e9,
        rounds=(1, 50),
        progress=lambda _: setattr(Drifting, "now", next(slowness)),
    )
    assert np.ptp(times["a"][:, 0]) > 0.9 * times["a"][0, 0]  # it drifted, by a factor of three
    assert paired(times["b"], times["a"]) == pytest.approx(2.5)
    assert paired(times["b"], times["a"], column=1) == pytest.approx(2.5)


def test_progress_rises_to_one_and_the_collector_is_as_before():
    seen, collecting = [], []
    time = Time()

    def progress(part):
        seen.append(part)
        collecting.append(gc.isenabled())

    interleave({"a": time.contestant(0.02)}, seconds=0, rounds=(4, 9), progress=progress)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert not any(collecting)
    assert gc.isenabled()


def test_inputs_take_turns():
    log = []
    calling_with(log.append, [1, 2, 3])(7)
    assert log == [1, 2, 3, 1, 2, 3, 1]


def test_enter_is_not_timed():
    time = Time()

    def enter():
        time.now += 100

    def run(calls):
        time.now += calls * 1e-3

    contestant = Contestant(run, enter, time.clocks)
    assert contestant.sample() == pytest.approx((1e3, 2e3))


def test_plain_callables_are_timed():
    times = interleave({"add": lambda: 1 + 1}, seconds=0, rounds=(2, 2))["add"]
    assert times.shape == (2, 2)
    assert (times > 0).all()


def test_geometric_mean():
    assert geometric_mean([1, 4]) == pytest.approx(2)
