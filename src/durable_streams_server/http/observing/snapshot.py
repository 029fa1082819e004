"""Collects the values of all metrics from the counters of the server. It runs on the event loop and takes a fraction of a millisecond.

The rooms below `http/` count in plain attributes and know nothing of metrics. This file knows where the attributes are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from ...storage.distribution import Distribution
from ...storage.files.store import FileStore
from ...storage.store import Store
from ...streams.engine import Engine
from ...streams.turns import Line
from ...subscriptions.service import Service
from . import families as f
from .families import Family
from .lag import LoopLag
from .limit_table import LimitTable
from .observer import Observer, bounds_of
from .routes import LIVE, LONG_POLL, ROUTES, SSE


class Value(NamedTuple):
    """The value of one series."""

    family: Family
    labels: tuple[str, ...]
    value: float


class Buckets(NamedTuple):
    """The buckets of one series of a histogram. For attributes see `Distribution`."""

    family: Family
    labels: tuple[str, ...]
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Snapshot:
    """The values of all metrics at one moment.

    Attributes:
        values: the values of counters and gauges.
        buckets: the buckets of histograms.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.buckets: list[Buckets] = []

    def add(self, family: Family, value: float, *labels: str) -> None:
        """Adds the value of a counter or gauge."""
        self.values.append(Value(family, labels, value))

    def add_distribution(self, family: Family, seen: Distribution, *labels: str) -> None:
        """Adds the buckets of a histogram."""
        self.buckets.append(Buckets(family, labels, seen.bounds, tuple(seen.counts), seen.total))


def take_snapshot(
    observer: Observer, engine: Engine, service: Service, limits: LimitTable, lag: LoopLag
) -> Snapshot:
    """Returns the present values of all metrics of one application."""
    snapshot = Snapshot()
    _add_responses(snapshot, observer)
    _add_loop(snapshot, observer, engine, lag)
    _add_store(snapshot, engine.store)
    _add_subscriptions(snapshot, service)
    usage = engine.store.usage
    snapshot.add(f.STREAMS, usage.streams)
    snapshot.add(f.STREAM_BYTES, usage.bytes)
    snapshot.add(f.SUBSCRIPTIONS, len(engine.store.subscriptions))
    snapshot.add(f.EXPIRATIONS, engine.expired)
    snapshot.add(f.STORE_FAILED, engine.failure is not None)
    for name, limit, used in limits:
        snapshot.add(f.LIMIT, limit(), name)
        snapshot.add(f.LIMIT_USED, used(), name)
    for name, refused in limits.refusals:
        snapshot.add(f.LIMIT_REFUSALS, refused, name)
    return snapshot


def _add_responses(snapshot: Snapshot, observer: Observer) -> None:
    """Adds what the lanes have reported. A route and status without a response has no series yet."""
    for route, name in enumerate(ROUTES):
        if not name:
            continue
        for status, count in enumerate(observer.counts[route]):
            if count:
                snapshot.add(f.REQUESTS, count, name, str(status))
        snapshot.add(f.RESPONSE_BYTES, observer.sizes[route], name)
        family = f.LIVE_READ_SECONDS if route in LIVE else f.REQUEST_SECONDS
        bounds, counts = bounds_of(route), tuple(observer.buckets[route])
        snapshot.buckets.append(Buckets(family, (name,), bounds, counts, observer.seconds[route]))
    snapshot.add(f.REQUEST_BYTES, observer.received)


def _add_loop(snapshot: Snapshot, observer: Observer, engine: Engine, lag: LoopLag) -> None:
    """Adds what the event loop has to do."""
    snapshot.add(f.LIVE_READERS, observer.live, ROUTES[SSE])
    waiting = max(0, len(engine.tails) - observer.live)  # the tails have the readers of both kinds
    snapshot.add(f.LIVE_READERS, waiting, ROUTES[LONG_POLL])
    snapshot.add_distribution(f.LOOP_LAG, lag.seconds)
    for line, steps in zip(Line, engine.turns.waiting, strict=True):
        snapshot.add(f.QUEUED_STEPS, steps, line.name.lower())


def _add_store(snapshot: Snapshot, store: Store) -> None:
    """Adds what a store on files has counted. A store in memory has no commits and no checkpoints."""
    if not isinstance(store, FileStore):
        return
    commits, ledger, checkpoints = store.parts
    wal = store.wal
    snapshot.add_distribution(f.COMMIT_RECORDS, wal.batches)
    snapshot.add_distribution(f.SYNC_SECONDS, wal.sync_seconds)
    snapshot.add(f.RECORDS_IN_FLIGHT, commits.in_flight)
    snapshot.add(f.WAL_WRITTEN, wal.bytes_written)
    snapshot.add(f.WAL_SIZE, wal.size)
    snapshot.add(f.WAL_FREE, wal.size - wal.used)
    snapshot.add(f.CHECKPOINT_AGE, time.monotonic() - checkpoints.ended_at)
    snapshot.add_distribution(f.CHECKPOINT_SECONDS, checkpoints.seconds)
    snapshot.add(f.CHECKPOINT_FAILURES, checkpoints.failed)
    snapshot.add(f.UNWRITTEN_BYTES, ledger.new_bytes)
    snapshot.add(f.LOADED_STREAMS, len(store.states.newest))
    snapshot.add(f.CACHED_BYTES, ledger.memory.held)
    snapshot.add(f.DISK_FULL, ledger.found_disk_full)


def _add_subscriptions(snapshot: Snapshot, service: Service) -> None:
    """Adds what the subscriptions do."""
    snapshot.add(f.SCHEDULED, len(service.schedule))
    for outcome, count in service.counts.outcomes.items():
        snapshot.add(f.DELIVERIES, count, outcome)
    snapshot.add_distribution(f.DELIVERY_SECONDS, service.counts.seconds)
    snapshot.add(f.DELIVERIES_WAITING, service.deliveries_waiting)
