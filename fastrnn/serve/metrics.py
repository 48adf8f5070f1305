"""`Metrics`: the server's figures, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from fastrnn.serve.stats import QUANTILES, Window

if TYPE_CHECKING:
    from fastrnn.serve.server import Server


class Metrics(Collector):
    """Reads the figures of `server` and its batcher when they are asked for, and not before."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, server: Server) -> None:
        self._server = server
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> str:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        server, stats = self._server, self._server.batcher.stats
        yield GaugeMetricFamily("fastrnn_streams", "Streams open now.", len(server.batcher))
        for name, about, value in (
            ("connections", "WebSockets accepted.", server.accepted),
            ("refusals", "WebSockets refused because every stream was in use.", server.refused),
            ("messages", "Messages received.", server.messages),
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
        for code, count in sorted(server.closes.items()):
            closes.add_metric([str(code)], count)
        yield closes
        yield _summary("batch_rows", "Rows in a kernel call.", stats.batch_size, 1)
        yield _summary("step_seconds", "Time of a kernel call.", stats.step_ms, 1e-3)
        yield _summary(
            "queue_seconds", "Time from a message to its first kernel call.", stats.queue_ms, 1e-3
        )


def _summary(name: str, about: str, window: Window, scale: float) -> Metric:
    metric = Metric(f"fastrnn_{name}", about, "summary")
    found = window.quantiles()
    for key, percent in QUANTILES.items():
        if key in found:
            labels = {"quantile": f"{percent / 100:g}"}
            metric.add_sample(metric.name, labels, found[key] * scale)
    metric.add_sample(f"{metric.name}_count", {}, window.count)
    metric.add_sample(f"{metric.name}_sum", {}, window.sum * scale)
    return metric
