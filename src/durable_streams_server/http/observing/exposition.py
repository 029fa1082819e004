"""Writes a snapshot in the formats of Prometheus. This is the only file that imports `prometheus_client`.

Importing that package takes 0.1 s, so `metrics.py` imports this file on a thread when `/metrics` is first requested.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from . import families as f
from .families import Family
from .snapshot import Buckets, Snapshot


class Exposition(Collector):
    """Writes snapshots, together with the metrics of the process and of Python. It has a registry of its own, apart from that of a host program."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry, platform=platform)
        GCCollector(registry=self._registry)
        try:
            self._version = metadata.version("durable-streams-server")
        except metadata.PackageNotFoundError:  # the package runs from a folder of sources
            self._version = "unknown"

    def render(self, snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
        """Returns a snapshot as text, and the content type of the text. Only one thread at a time may call this method.

        Args:
            snapshot: the values of all metrics.
            accept: the Accept header of the request.
        """
        self._snapshot = snapshot
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics of the snapshot. The registry calls this method."""
        snapshot = self._snapshot
        found: dict[Family, Metric] = {}
        for family in f.FAMILIES:
            found[family] = _metric(family)
        for value in snapshot.values:
            found[value.family].add_metric(value.labels, value.value)  # type: ignore[attr-defined]  # each class below has it
        for buckets in snapshot.buckets:
            _add_buckets(found[buckets.family], buckets)
        found[f.BUILD_INFO].add_metric((self._version,), 1)  # type: ignore[attr-defined]  # as above
        return [metric for metric in found.values() if metric.samples]


def _metric(family: Family) -> Metric:
    """Returns a metric without values."""
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.help, labels=family.labels)
    if family.kind == "gauge":
        return GaugeMetricFamily(family.name, family.help, labels=family.labels)
    return HistogramMetricFamily(family.name, family.help, labels=family.labels)


def _add_buckets(metric: Metric, buckets: Buckets) -> None:
    """Adds a series of a histogram, whose buckets Prometheus wants to be cumulative."""
    names = [repr(float(bound)) for bound in buckets.bounds] + ["+Inf"]
    counts = accumulate(buckets.counts)
    metric.add_metric(  # type: ignore[attr-defined]  # the class HistogramMetricFamily has it
        buckets.labels, list(zip(names, counts, strict=True)), buckets.total
    )
