"""`Metrics`: the server's figures, as Prometheus reads them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from fastrnn.serve.batcher import Batcher
from fastrnn.serve.stats import QUANTILES, Window

QUANTILES_SECONDS = 1.0  # how old they may be: each costs as much as a hundred small steps


@dataclass
class Counts:
    """What a server did since it was started."""

    accepted: int = 0
    refused: int = 0  # handshakes, for want of a stream
    forbidden: int = 0  # handshakes, for their origin
    messages: int = 0
    closes: Counter[int] = field(default_factory=Counter)  # by code; 1006: vanished


class Metrics(Collector):
    """Reads the figures of a server and its batcher when they are asked for, and not before."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, batcher: Batcher, counts: Counts) -> None:
        self.batcher = batcher
        self.counts = counts
        self._quantiles: dict[str, dict[str, float]] = {}
        self._quantiles_end = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> str:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        counts, stats = self.counts, self.batcher.stats
        yield GaugeMetricFamily("fastrnn_streams", "Streams open now.", len(self.batcher))
        for name, about, value in (
            ("connections", "WebSockets accepted.", counts.accepted),
            ("refusals", "WebSockets refused because every stream was in use.", counts.refused),
            ("forbidden", "WebSockets refused because of their origin.", counts.forbidden),
            ("messages", "Messages received.", counts.messages),
            ("frames", "Frames stepped.", stats.frames),
            ("nan_frames", "Frames stepped that had a NaN in them.", stats.nan_frames),
            ("kernel_calls", "Kernel calls.", stats.batches),
            ("kernel_errors", "Kernel calls that failed.", stats.errors),
        ):
            yield CounterMetricFamily(f"fastrnn_{name}", about, value)
        closes = CounterMetricFamily(
            "fastrnn_closes",
            "WebSockets closed, by close code; 1006: vanished, 3000: a client's own code.",
            labels=["code"],
        )
        for code, count in sorted(counts.closes.items()):
            closes.add_metric([str(code)], count)
        yield closes
        if (now := time.monotonic()) >= self._quantiles_end:
            self._quantiles.clear()
            self._quantiles_end = now + QUANTILES_SECONDS
        yield self._summary("batch_rows", "Rows in a kernel call.", stats.batch_size, 1)
        yield self._summary("step_seconds", "Time of a kernel call.", stats.step_ms, 1e-3)
        yield self._summary(
            "queue_seconds", "Time from a message to its first kernel call.", stats.queue_ms, 1e-3
        )

    def _summary(self, name: str, about: str, window: Window, scale: float) -> Metric:
        metric = Metric(f"fastrnn_{name}", about, "summary")
        if name not in self._quantiles:
            self._quantiles[name] = window.quantiles()
        found = self._quantiles[name]
        for key, percent in QUANTILES.items():
            if key in found:
                labels = {"quantile": f"{percent / 100:g}"}
                metric.add_sample(metric.name, labels, found[key] * scale)
        metric.add_sample(f"{metric.name}_count", {}, window.count)
        metric.add_sample(f"{metric.name}_sum", {}, window.sum * scale)
        return metric
