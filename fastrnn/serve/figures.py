"""What is told of servers and batchers: flat numbers, which add up over processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from fastrnn.serve.batcher import Batcher
from fastrnn.serve.stats import MS, ROWS, Window

# Each counts from a process's beginning and never falls; `streams` is what is open now.
OF_BATCHER = {
    "frames": "Frames stepped.",
    "nan_frames": "Frames stepped that had a NaN in them.",
    "kernel_calls": "Kernel calls.",
    "kernel_errors": "Kernel calls that failed.",
}
OF_SERVER = {
    "connections": "WebSockets accepted.",
    "refusals": "WebSockets refused because every stream was in use.",
    "forbidden": "WebSockets refused because of their origin.",
    "unauthorized": "Requests refused for want of a token that is known.",
    "messages": "Messages received.",
}
# Name, edges as samples are kept, what one of them is in the unit told.
HISTOGRAMS = {
    "batch_rows": ("Rows in a kernel call.", ROWS, 1.0),
    "step_seconds": ("Time of a kernel call.", MS, 1e-3),
    "queue_seconds": ("Time from a message to its first kernel call.", MS, 1e-3),
}
# All that can be counted apart: the standard ones, `protocol.OWN`, and ours.
CODES = (*range(1000, 1016), 3000, *range(4000, 4010))

Figures = dict[str, float]


@dataclass
class Counts:
    """What a server did since it was started."""

    accepted: int = 0
    refused: int = 0  # handshakes, for want of a stream
    forbidden: int = 0  # handshakes, for their origin
    unauthorized: int = 0  # requests, for want of a token
    messages: int = 0
    closes: Counter[int] = field(default_factory=Counter)  # by code; 1006: vanished


def of_batcher(batcher: Batcher) -> Figures:
    """Return the figures of a batcher."""
    stats = batcher.stats
    found: Figures = {
        "streams": len(batcher),
        "frames": stats.frames,
        "nan_frames": stats.nan_frames,
        "kernel_calls": stats.batches,
        "kernel_errors": stats.errors,
    }
    for name, window in (
        ("batch_rows", stats.batch_size),
        ("step_seconds", stats.step_ms),
        ("queue_seconds", stats.queue_ms),
    ):
        found |= _of_window(name, window)
    return found


def of_server(counts: Counts) -> Figures:
    """Return the figures of a server, beside those of its batcher."""
    return {
        "connections": counts.accepted,
        "refusals": counts.refused,
        "forbidden": counts.forbidden,
        "unauthorized": counts.unauthorized,
        "messages": counts.messages,
        **{f"closes {code}": counts.closes[code] for code in CODES},
    }


def keys() -> tuple[str, ...]:
    """Return the names of all figures of a batcher and a server."""
    windows: Figures = {}
    for name, (_, edges, _) in HISTOGRAMS.items():
        windows |= _of_window(name, Window(edges))
    return ("streams", *OF_BATCHER, *windows, *of_server(Counts()))


def families(figures: Mapping[str, float], labels: Mapping[str, str]) -> Iterator[Metric]:
    """Yield what Prometheus is told of figures, those of a server where they are there."""
    names, values = [*labels], [*labels.values()]

    def one(kind: type, name: str, about: str) -> Metric:
        family = kind(f"fastrnn_{name}", about, labels=names)
        family.add_metric(values, figures[name])
        found: Metric = family
        return found

    yield one(GaugeMetricFamily, "streams", "Streams open now.")
    for name, about in {**OF_SERVER, **OF_BATCHER}.items():
        if name in figures:
            yield one(CounterMetricFamily, name, about)
    if f"closes {CODES[0]}" in figures:
        closes = CounterMetricFamily(
            "fastrnn_closes",
            "WebSockets closed, by close code; 1006: vanished, 3000: a client's own code.",
            labels=[*names, "code"],
        )
        for code in CODES:
            if figures[f"closes {code}"]:
                closes.add_metric([*values, str(code)], figures[f"closes {code}"])
        yield closes
    for name, (about, edges, scale) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(f"fastrnn_{name}", about, labels=names)
        total, buckets = 0.0, []
        for i, edge in enumerate((*edges, float("inf"))):
            total += figures[f"{name} {i}"]
            buckets.append(("+Inf" if i == len(edges) else f"{edge * scale:g}", total))
        histogram.add_metric(values, buckets, figures[f"{name} sum"] * scale)
        yield histogram


def _of_window(name: str, window: Window) -> Figures:
    return {**{f"{name} {i}": n for i, n in enumerate(window.bins)}, f"{name} sum": window.sum}
