"""Processes that are watched: who ends is begun anew, ever later, and hears every signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from fastrnn.serve import fleet

# `work` is what a worker does; it writes to stdout, a line at a time.
SCRIPT = """
import asyncio, logging, os, signal, sys, time
from fastrnn.serve import fleet
logging.basicConfig(format="%(message)s")
fleet.FIRST_PAUSE, fleet.LONGEST_PAUSE, fleet.STEADY_SECONDS = {pauses}
say = lambda text: os.write(1, (text + "\\n").encode())
{work}
watch = fleet.Fleet(1, work, 5.0, hang_up=False, reload=lambda: say("read anew"))
sys.exit(watch.run(lambda: say("started"), lambda: say("stopping")))
"""


class Watching:
    """A fleet of one worker in a process of its own."""

    def __init__(self, work, pauses="0.1, 0.4, 60"):
        script = SCRIPT.format(work=work, pauses=pauses)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()

    def line(self):
        return self.process.stdout.readline().strip()

    def stop(self):
        self.process.terminate()
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


SERVING = """
def work(number, life):
    life.ready()
    say(f"worker {os.getpid()}")
    time.sleep(1000)
"""


def test_pauses_grow_while_a_worker_keeps_ending():
    with Watching(SERVING) as watching:
        lines = sorted([watching.line(), watching.line()])
        assert lines[0] == "started"
        worker = int(lines[1].split()[1])
        for _ in range(5):
            os.kill(worker, signal.SIGKILL)
            worker = int(watching.line().split()[1])
        code, _, err = watching.stop()
    pauses = re.findall(r"ended by SIGKILL after .* another begins in (\S+) s", err)
    assert pauses == ["0.1", "0.2", "0.4", "0.4", "0.4"]
    assert code == 0


def test_one_that_was_steady_is_begun_soon_again():
    with Watching(SERVING, pauses="0.1, 30, 0.5") as watching:
        worker = int(sorted([watching.line(), watching.line()])[1].split()[1])
        for wait in (0, 0.6, 0.6):
            time.sleep(wait)
            os.kill(worker, signal.SIGKILL)
            worker = int(watching.line().split()[1])
        err = watching.stop()[2]
    assert re.findall(r"begins in (\S+) s", err) == ["0.1", "0.1", "0.1"]


def test_a_hang_up_while_a_worker_begins_is_not_lost_and_ends_nobody():
    work = """
def work(number, life):
    say("begins")
    time.sleep(0.5)
    signal.signal(signal.SIGHUP, lambda *_: say("heard"))
    life.hear_hang_up()
    life.ready()
    time.sleep(1000)
"""
    with Watching(work) as watching:
        assert watching.line() == "begins"
        watching.process.send_signal(signal.SIGHUP)
        assert sorted(watching.line() for _ in range(3)) == ["heard", "read anew", "started"]
        assert watching.stop()[0] == 0


def test_where_no_process_can_be_had_the_others_go_on_and_it_is_tried_again():
    work = (
        SERVING
        + """
real, calls = os.fork, []
def fork():
    calls.append(1)
    if len(calls) in (2, 3):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return real()
os.fork = fork
"""
    )
    with Watching(work) as watching:
        worker = int(sorted([watching.line(), watching.line()])[1].split()[1])
        os.kill(worker, signal.SIGKILL)
        assert int(watching.line().split()[1]) != worker
        code, _, err = watching.stop()
    assert code == 0
    assert len(re.findall("worker 0 could not begin: .*temporarily unavailable", err)) == 2
    assert re.findall(r"begins in (\S+) s", err) == ["0.1", "0.2", "0.4"]


def test_what_a_worker_says_to_nobody_holds_it_up_never():
    watch = fleet.Fleet(1, lambda number, life: 0, 1.0)
    try:
        for _ in range(2**16 + 1):  # a pipe's room: as many as workers that begin in years
            fleet.Life(watch._life, watch._tell).ready()
    finally:
        for held in (watch._life, watch._held, watch._news, watch._tell):
            os.close(held)
        watch._bell.close()
        watch._ring.close()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_worker_begins_ends_all(signum):
    work = """
def work(number, life):
    say("begins")
    time.sleep(1000)
"""
    with Watching(work) as watching:
        assert watching.line() == "begins"
        watching.process.send_signal(signum)
        assert watching.process.wait(timeout=20) == 0
