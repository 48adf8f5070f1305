"""What Prometheus reads: of a server, of all its workers together, of a batcher in any service.

fastrnn.serve.metrics.register(batcher)              # in a service that has a registry
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from fastrnn.serve import figures
from fastrnn.serve.batcher import Batcher
from fastrnn.serve.board import Board
from fastrnn.serve.figures import Counts, Figures

TEXT_SECONDS = 0.1  # how old what is told may be: it takes as long as some hundred small steps

# Of what is told of one process, what makes sense as a sum.
SUMMED = ("process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds")


def register(
    batcher: Batcher,
    registry: CollectorRegistry = REGISTRY,
    labels: Mapping[str, str] | None = None,
) -> Collector:
    """Have a registry tell of a batcher, and return what it asks (for `registry.unregister`).

    Parameters
    ----------
    batcher : Batcher
    registry : prometheus_client.CollectorRegistry
    labels : mapping of str to str, optional
        On every figure, such as {"model": "vad"}; several batchers need others each, and all of
        them the same names.

    Raises
    ------
    ValueError
        If the registry has them already.
    """
    collector = Told(lambda: figures.of_batcher(batcher), labels or {})
    registry.register(collector)
    return collector


class Told(Collector):
    """Reads figures when they are asked for, and not before.

    Of those with labels a registry is told no names, since it refuses names that it has.
    """

    def __init__(self, read: Callable[[], Figures], labels: Mapping[str, str]) -> None:
        self._read = read
        self._labels = dict(labels)

    def describe(self) -> list[Metric]:
        """Return what will be there, without samples."""
        return [] if self._labels else [*self.collect()]

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        return figures.families(self._read(), self._labels)


class Metrics(Collector):
    """The figures of a server; with a board, of all that share it."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, batcher: Batcher, counts: Counts, board: Board | None = None) -> None:
        self.batcher = batcher
        self.counts = counts
        self.board = board
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._text, self._text_end = "", 0.0
        if board is None:
            ProcessCollector(registry=self._registry)

    def text(self) -> str:
        """Return all figures in Prometheus's text format."""
        now = time.monotonic()
        if now >= self._text_end:
            self._text = generate_latest(self._registry).decode()
            self._text_end = now + (TEXT_SECONDS if self.board else 0)
        return self._text

    def publish(self) -> None:
        """Tell those that share the board."""
        if self.board is not None:
            self.board.publish(self._own())

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        board = self.board
        if board is None:
            yield from figures.families(self._own(), {})
            return
        self.publish()
        yield from figures.families(board.total(), {})
        processes = board.processes()
        yield GaugeMetricFamily("fastrnn_workers", "Workers there are now.", len(processes))
        yield CounterMetricFamily(
            "fastrnn_worker_restarts", "Workers begun in place of others.", board.restarts()
        )
        yield from _of_processes(processes)

    def _own(self) -> Figures:
        return {**figures.of_batcher(self.batcher), **figures.of_server(self.counts)}


def _of_processes(processes: list[int]) -> Iterator[Metric]:
    """Yield sums of what each process takes."""
    sums: dict[str, Metric] = {}
    for process in processes:
        reader = ProcessCollector(pid=partial(int, process), registry=None)
        for metric in reader.collect():
            if metric.name not in SUMMED:
                continue
            if metric.name not in sums:
                sums[metric.name] = metric
            else:
                held, new = sums[metric.name].samples[0], metric.samples[0]
                sums[metric.name].samples[0] = held._replace(value=held.value + new.value)
    yield from sums.values()
